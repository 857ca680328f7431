package server

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"galvo/services/api"
	"galvo/services/config"
	"galvo/webui/mdns"
)

// ownHandler answers this service's part of the route table.
func (s *server) ownHandler() http.Handler {
	// Made when somebody asks: the page has to answer soon.
	description := sync.OnceValues(func() ([]byte, error) { return api.OpenAPI(s.options.Version) })
	mux := http.NewServeMux()
	a := api.New(mux, s.options.Version)
	api.GetStatus.Handle(a, s.status)
	api.FactoryReset.Handle(a, s.factoryReset)
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
		text, err := description()
		if err != nil {
			api.WriteError(w, api.ErrorOf(fmt.Errorf("describe the API: %w", err)))
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Write(text)
	})
	return mux
}

// A device is what the other services say of themselves, asked at most once a second however many clients there are. Who only wants to know what was said
// last does not wait for a service that hangs.
type device struct {
	server *server

	asking sync.Mutex // held while the services are asked, which takes seconds where one hangs
	asked  time.Time  // when they were last

	mu      sync.Mutex // guards what follows, and is never held while somebody is asked
	last    api.Status
	config  *config.Config // as it was last seen
	network api.Network    // likewise
}

func newDevice(s *server) *device {
	return &device{server: s, config: config.Default(), network: api.Network{Addresses: []string{}, DNS: []string{}, Problems: []string{}}}
}

// await waits for the host service until ctx is done, but not for ever: without it the page says what is wrong.
func (d *device) await(ctx context.Context, patience time.Duration) {
	for deadline := time.Now().Add(patience); ctx.Err() == nil && time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if _, err := d.askHost(); err == nil {
			break
		}
	}
	d.look()
}

// watchEvery is how often the device is looked at while nobody asks: its name and addresses may have changed.
const watchEvery = 2 * time.Second

// watch makes certificate and names follow the device until ctx is done.
func (d *device) watch(ctx context.Context) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		d.look()
		d.follow()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// follow tells who must know of the device's name and addresses.
func (d *device) follow() {
	d.server.certificates.require(d.certificateNames())
	if d.server.names == nil {
		return
	}
	d.mu.Lock()
	n := d.network
	d.mu.Unlock()
	if n.Index == 0 {
		d.server.names.Set(mdns.Host{})
		return
	}
	h := mdns.Host{Name: n.Name, Link: n.Index, HTTPS: d.server.port()}
	for _, text := range n.Addresses {
		if a, err := netip.ParseAddr(text); err == nil {
			h.Addresses = append(h.Addresses, a)
		}
	}
	d.server.names.Set(h)
}

// port returns where the page is served.
func (s *server) port() uint16 {
	if len(s.options.Listeners) == 0 {
		return 0
	}
	a, _ := s.options.Listeners[0].Addr().(*net.TCPAddr)
	if a == nil {
		return 0
	}
	return uint16(a.Port)
}

// maxCertificateNames keeps a machine with very many addresses from a certificate that no client reads.
const maxCertificateNames = 40

// certificateNames returns the device's names and addresses: IPv6 link-local ones only of a management port, since a plain host has many, one a link. Who
// compares leaves their zone out.
func (d *device) certificateNames() []string {
	name := d.name()
	names := []string{name, name + ".local", "localhost", "127.0.0.1", "::1"}
	d.mu.Lock()
	addresses := slices.Concat(d.network.Addresses, d.server.options.Addresses)
	managed := d.network.Port != ""
	if managed {
		// The port is looked after, so that what the machine had at the start may be over.
		addresses = d.network.Addresses
	}
	d.mu.Unlock()
	for _, text := range addresses {
		a, err := netip.ParseAddr(text)
		if err == nil && (managed || !(a.Is6() && a.IsLinkLocalUnicast())) && !slices.Contains(names, text) && len(names) < maxCertificateNames {
			names = append(names, text)
		}
	}
	return names
}

// stall returns how long a client may take nothing of a reply. The engine ends captures after the time that is set; this is above, so that it is
// the engine that says why.
func (d *device) stall() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return time.Duration(d.config.Captures.StallSeconds+5) * time.Second
}

// name returns the device's name as it was last seen, without asking.
func (d *device) name() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return cmp.Or(d.network.Name, d.config.Device.Name, "galvo")
}

func (s *server) status(ctx context.Context, _ *api.Nothing) (*api.Reply[api.Status], error) {
	d := s.device
	d.look()
	d.mu.Lock()
	status := d.last
	d.mu.Unlock()
	d.follow()
	now := time.Now()
	status.Name, status.Version, status.Time, status.Uptime = d.name(), s.options.Version, now.UnixMicro(), int64(now.Sub(s.started).Seconds())
	status.Fingerprint = s.certificates.fingerprint()
	c, _ := ctx.Value(callerKey{}).(caller)
	status.Role = c.role
	return &api.Reply[api.Status]{Body: status}, nil
}

// look asks the services, both at once. Who comes while they are being asked waits for those answers and asks no more, or else a crowd would wait for
// one that hangs in turn. That a service is away is not kept: it is back soon, and then nobody is to hear it.
func (d *device) look() {
	came := time.Now()
	d.asking.Lock()
	defer d.asking.Unlock()
	d.mu.Lock()
	whole := !slices.ContainsFunc(d.last.Services, func(s api.ServiceStatus) bool { return s.State != "ok" })
	d.mu.Unlock()
	if d.asked.After(came) || whole && time.Since(d.asked) < time.Second {
		return
	}
	var (
		wait             sync.WaitGroup
		c                *config.Config
		n                api.Network
		hostErr, reached error
	)
	wait.Go(func() {
		if c, hostErr = d.askHost(); hostErr == nil {
			n, reached = d.askNetwork()
		}
	})
	ports, engineErr := d.askEngine()
	wait.Wait()

	d.mu.Lock()
	defer d.mu.Unlock()
	status := api.Status{State: "ok", Problems: []string{}, Services: []api.ServiceStatus{{Name: string(api.ServiceWeb), State: "ok"}}}
	service := func(name api.Service, err error) {
		if err == nil {
			status.Services = append(status.Services, api.ServiceStatus{Name: string(name), State: "ok"})
			return
		}
		status.Services = append(status.Services, api.ServiceStatus{Name: string(name), State: "down", Reason: err.Error()})
		status.Problems = append(status.Problems, fmt.Sprintf("The service %s does not answer. It is started again by itself; the log says why if it stays away.", name))
	}
	service(api.ServiceHost, hostErr)
	if hostErr == nil {
		d.config = c
		if reached == nil {
			d.network = n
			status.Problems = append(status.Problems, sentences(n.Problems)...)
		}
	}
	service(api.ServiceEngine, engineErr)
	if engineErr == nil {
		status.Problems = append(status.Problems, portProblems(ports)...)
	}
	if d.server.names != nil && d.server.names.Conflict() {
		status.Problems = append(status.Problems, "Another device in the network has this one's name: give one of them another name.")
	}
	status.Problems = append(status.Problems, bootProblems(api.BootPath)...)
	if len(status.Problems) > 0 {
		status.State = "degraded"
	}
	status.Network = d.network
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

// askNetwork returns how the device is reached.
func (d *device) askNetwork() (n api.Network, err error) {
	text, err := d.server.forward.get(api.ServiceHost, api.GetNetwork.Path)
	if err == nil {
		err = json.Unmarshal(text, &n)
	}
	return n, err
}

// sentences makes a person's sentences of problems.
func sentences(problems []string) []string {
	var out []string
	for _, p := range problems {
		out = append(out, strings.ToUpper(p[:min(1, len(p))])+p[min(1, len(p)):]+".")
	}
	return out
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

// portProblems says what is wrong with the ports, in a sentence for all that have the same problem.
func portProblems(ports []api.Port) []string {
	if len(ports) == 0 {
		return []string{"There are no ports to capture from: name one with galvo run -interface NAME, or as [[port]] in the configuration."}
	}
	var problems []string
	for _, p := range ports {
		if p.State == "up" && p.Reason == "" {
			continue
		}
		same := func(o api.Port) bool { return o.State == p.State && o.Reason == p.Reason }
		if slices.ContainsFunc(ports[:slices.IndexFunc(ports, func(o api.Port) bool { return o.ID == p.ID })], same) {
			continue // it was named with the first one
		}
		var names []string
		for _, o := range ports {
			if same(o) {
				names = append(names, fmt.Sprintf("%d (%s)", o.ID, o.Name))
			}
		}
		problems = append(problems, strings.TrimSuffix(enumerate(names)+" "+p.State+": "+p.Reason, ": "))
	}
	return problems
}

// mostNamed is how many ports a sentence names.
const mostNamed = 4

// enumerate begins a sentence about one or more ports.
func enumerate(names []string) string {
	if len(names) == 1 {
		return "Port " + names[0] + " is"
	}
	last := names[len(names)-1]
	if more := len(names) - mostNamed; more > 1 {
		names, last = names[:mostNamed+1], fmt.Sprintf("%d more", more)
	}
	return "Ports " + strings.Join(names[:len(names)-1], ", ") + " and " + last + " are"
}

// bootProblems returns what init on an appliance says in its file that is wrong.
func bootProblems(path string) []string {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil // not an appliance
	}
	var boot api.Boot
	if err := json.Unmarshal(text, &boot); err != nil {
		return []string{fmt.Sprintf("What init says cannot be understood: %v.", err)}
	}
	return boot.Problems
}
