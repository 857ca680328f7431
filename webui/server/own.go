package server

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"galvo/services/api"
	"galvo/services/config"
)

// ownHandler answers this service's part of the route table.
func (s *server) ownHandler() (http.Handler, error) {
	description, err := api.OpenAPI(s.options.Version)
	if err != nil {
		return nil, fmt.Errorf("describe the API: %w", err)
	}
	mux := http.NewServeMux()
	a := api.New(mux, s.options.Version)
	api.GetStatus.Handle(a, s.status)
	api.Login.Handle(a, s.openSession)
	api.Logout.Handle(a, s.endSession)
	api.ListTokens.Handle(a, func(context.Context, *api.Nothing) (*api.Reply[[]api.Token], error) {
		return &api.Reply[[]api.Token]{Body: s.tokens.list()}, nil
	})
	api.MakeToken.Handle(a, func(_ context.Context, in *api.TokenInput) (*api.Created[api.Token], error) {
		t, err := s.tokens.make(in.Body.Name, in.Body.Role)
		if err != nil {
			return nil, err
		}
		return &api.Created[api.Token]{Status: http.StatusCreated, Body: *t}, nil
	})
	api.DeleteToken.Handle(a, func(_ context.Context, in *api.IDInput) (*api.Nothing, error) {
		return nil, s.tokens.revoke(in.ID)
	})
	mux.HandleFunc("GET "+api.OpenAPIPath, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Write(description)
	})
	return mux, nil
}

// A device is what the other services say of themselves, asked at most once a second however many clients there are.
type device struct {
	server *server

	mu     sync.Mutex
	asked  time.Time
	last   api.Status
	config *config.Config // as it was last seen
}

func newDevice(s *server) *device { return &device{server: s, config: config.Default()} }

// stall returns how long a client may take nothing of a reply. The engine ends captures after the time that is set; this is above, so that it is
// the engine that says why.
func (d *device) stall() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return time.Duration(d.config.Captures.StallSeconds+5) * time.Second
}

// name returns the configured name as it was last seen, without asking.
func (d *device) name() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.config.Device.Name
}

func (s *server) status(context.Context, *api.Nothing) (*api.Reply[api.Status], error) {
	d := s.device
	d.mu.Lock()
	defer d.mu.Unlock()
	d.look()
	s.certificates.require(d.config.Device.Name)
	status := d.last
	now := time.Now()
	status.Name, status.Version, status.Time, status.Uptime = d.config.Device.Name, s.options.Version, now.UnixMicro(), int64(now.Sub(s.started).Seconds())
	return &api.Reply[api.Status]{Body: status}, nil
}

// look asks the services. It needs d.mu.
func (d *device) look() {
	if time.Since(d.asked) < time.Second {
		return
	}
	status := api.Status{State: "ok", Problems: []string{}, Services: []api.ServiceStatus{{Name: string(api.ServiceWeb), State: "ok"}}}
	down := func(service api.Service, err error) {
		status.Services = append(status.Services, api.ServiceStatus{Name: string(service), State: "down", Reason: err.Error()})
		status.Problems = append(status.Problems, fmt.Sprintf("The service %s does not answer. It is started again by itself; the log says why if it stays away.", service))
	}
	if c, err := d.askHost(); err != nil {
		down(api.ServiceHost, err)
	} else {
		d.config = c
		status.Services = append(status.Services, api.ServiceStatus{Name: string(api.ServiceHost), State: "ok"})
	}
	if ports, err := d.askEngine(); err != nil {
		down(api.ServiceEngine, err)
	} else {
		status.Services = append(status.Services, api.ServiceStatus{Name: string(api.ServiceEngine), State: "ok"})
		status.Problems = append(status.Problems, portProblems(ports)...)
	}
	if len(status.Problems) > 0 {
		status.State = "degraded"
	}
	d.last, d.asked = status, time.Now()
}

// askHost returns the configuration.
func (d *device) askHost() (*config.Config, error) {
	text, err := d.server.forward.get(api.ServiceHost, api.GetConfig.Path)
	if err != nil {
		return nil, err
	}
	return config.Parse(text)
}

func (d *device) askEngine() ([]api.Port, error) {
	text, err := d.server.forward.get(api.ServiceEngine, api.ListPorts.Path)
	if err != nil {
		return nil, err
	}
	var ports []api.Port
	err = json.Unmarshal(text, &ports)
	return ports, err
}

// portProblems says what is wrong with the ports.
func portProblems(ports []api.Port) []string {
	if len(ports) == 0 {
		return []string{"There are no ports to capture from: name one with galvo run -interface NAME, or as [[port]] in the configuration."}
	}
	var problems []string
	for _, p := range ports {
		if p.State == "up" && p.Reason == "" {
			continue
		}
		problems = append(problems, strings.TrimSuffix(fmt.Sprintf("Port %d (%s) is %s: %s", p.ID, p.Name, p.State, p.Reason), ": "))
	}
	return problems
}
