// Package engine is the process that receives frames: it wires ports, workers, statistics and captures together and answers the API on a unix
// socket.
//
// It has no rights: its packet sockets come from `galvo host`, what it may know of the configuration too, and its clients through `galvo web`. A worker
// owns everything on the way of a frame; the rest of the process looks at counters that workers publish, and changes what they do through
// one atomic pointer at a time.
package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"galvo/services/api"
	"galvo/services/config"
	"galvo/services/internal/capture"
	"galvo/services/internal/country"
	"galvo/services/internal/filter"
	"galvo/services/internal/flow"
	"galvo/services/internal/handover"
	"galvo/services/internal/l7"
	"galvo/services/internal/pipeline"
	"galvo/services/internal/stats"
)

// Options are what the process is started with.
type Options struct {
	Run     string // runtime directory, with the sockets
	Callers []int  // users who may call the API
	State   string // directory for finished captures and the accounts of the ports
	Version string
}

// An Engine is the running process.
type Engine struct {
	options  Options
	settings atomic.Pointer[settings]
	ports    *ports
	captures *capture.Captures
	stats    *stats.Stats
	country  filter.CountryTable // nil where its data is not installed
	workers  []*pipeline.Worker
	closing  chan struct{} // closed when the engine stops: streams of events end
}

// settings is what the configuration says, as one immutable value.
type settings struct {
	config     config.Config
	env        *filter.Env
	queueBytes uint64 // of each capture, as the memory plan grants it
	holdBytes  uint64
	memory     uint64 // bytes of the machine
}

// Run serves until ctx is done, or until the host service is gone.
func Run(ctx context.Context, o Options) error {
	conn, err := handover.Dial(ctx, handover.Path(o.Run))
	if err != nil {
		return err
	}
	defer conn.Close()
	first, err := conn.Next()
	if err != nil {
		return err
	}
	if first.Config == nil {
		return errors.New("the host service did not begin with the configuration")
	}
	e, err := newEngine(o, first.Config)
	if err != nil {
		return err
	}
	defer e.ports.close()
	return e.run(ctx, conn)
}

func newEngine(o Options, c *handover.Config) (*Engine, error) {
	e := &Engine{options: o, closing: make(chan struct{})}
	plan, err := planMemory(&c.Config)
	if err != nil {
		return nil, err
	}
	if e.ports, err = newPorts(o.State, c.Instance, plan.Workers, plan.Blocks); err != nil {
		return nil, err
	}
	if table, err := country.Open(c.Config.Engine.Geoip); err != nil {
		slog.Warn("the filter's countryCode has no answer", "error", err)
	} else {
		e.country = table
	}
	e.configure(c, plan)
	e.captures, err = capture.New(capture.Options{
		Workers: plan.Workers, Live: true, Max: plan.Plan.Captures,
		Interfaces: e.ports.live.Source(0).Interfaces, Lost: e.ports.lostByInterface,
		Application: "Galvo " + o.Version, Hardware: runtime.GOARCH, OS: "Linux",
		Directory: o.State,
	})
	if e.captures == nil {
		return nil, err
	}
	if err != nil {
		slog.Warn("finished captures", "error", err)
	}
	e.stats = stats.New(plan.Workers)
	for w := range plan.Workers {
		e.workers = append(e.workers, e.worker(w, plan))
	}
	return e, nil
}

// worker makes a worker with its stages, in the order in which a frame meets them.
func (e *Engine) worker(index int, plan *memoryPlan) *pipeline.Worker {
	var engine *l7.Engine
	config := flow.Config{Flows: plan.Plan.Flows / plan.Workers}
	if plan.L7 {
		engine = l7.New(l7.Config{Bytes: int(plan.L7Bytes) / plan.Workers})
		config.OnEnd = engine.End
	}
	return &pipeline.Worker{
		Index:  index,
		Source: e.ports.live.Source(index),
		Flows:  flow.New(config),
		L7:     engine,
		Stages: []pipeline.Stage{
			e.ports.accounts[index],
			e.stats.Stage(index),
			e.captures.Stage(index),
		},
	}
}

// configure takes over what can change while the engine runs.
func (e *Engine) configure(c *handover.Config, plan *memoryPlan) {
	e.ports.setListen(c.Listen)
	e.settings.Store(&settings{
		config: c.Config, env: e.env(&c.Config), queueBytes: plan.Plan.CaptureQueueBytes, holdBytes: plan.Plan.CaptureHoldBytes, memory: plan.Plan.Total,
	})
}

// run runs the workers, the API and the conversation with the host.
func (e *Engine) run(ctx context.Context, conn *handover.Conn) error {
	listener, err := api.Listen(api.SocketPath(e.options.Run, api.ServiceEngine), e.options.Callers...)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var running sync.WaitGroup
	for _, w := range e.workers {
		running.Go(func() {
			runtime.LockOSThread()
			if err := w.Run(ctx); err != nil && ctx.Err() == nil {
				cancel(fmt.Errorf("worker %d: %w", w.Index, err))
			}
		})
	}
	server := &http.Server{Handler: e.handler(), ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(slog.Default().Handler(), slog.LevelDebug)}
	running.Go(func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			cancel(fmt.Errorf("serve the API: %w", err))
		}
	})
	running.Go(func() { e.tick(ctx) })
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	err = conn.Send(handover.Message{Ready: &handover.Ready{Workers: len(e.workers)}})
	if err == nil {
		err = e.converse(ctx, conn)
	}

	close(e.closing)
	end, release := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
	defer release()
	e.captures.Close(end, "the engine was stopped")
	server.Shutdown(end)
	server.Close()
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		err = cause
	} else if ctx.Err() != nil {
		err = nil
	}
	cancel(nil)
	running.Wait()
	return err
}

// tick takes rates once a second, and brings what a killed engine leaves of its captures up to date.
func (e *Engine) tick(ctx context.Context) {
	second := time.NewTicker(time.Second)
	defer second.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-second.C:
			e.stats.Tick(now.UnixNano())
			e.captures.List()
		}
	}
}

// errRestart ends an engine that is to be started anew.
var errRestart = errors.New("the host asks for a restart")

// converse takes what the host hands over until one of the two ends.
func (e *Engine) converse(ctx context.Context, conn *handover.Conn) error {
	for {
		m, err := conn.Next()
		switch {
		case errors.Is(err, io.EOF):
			return errors.New("the host service is gone")
		case err != nil:
			return err
		case m.Config != nil:
			plan, err := planMemory(&m.Config.Config)
			if err != nil {
				slog.Error("the new configuration is not taken over", "error", err)
				continue
			}
			e.captures.SetMax(plan.Plan.Captures)
			e.configure(m.Config, plan)
		case m.Port != nil:
			if err := e.ports.arrived(ctx, *m.Port); err != nil {
				slog.Error("port", "id", m.Port.ID, "error", err)
			}
			s := *e.settings.Load()
			s.env = e.env(&s.config)
			e.settings.Store(&s)
		case m.Restart != nil:
			return fmt.Errorf("%w: %s", errRestart, m.Restart.Reason)
		case m.Gone != nil:
			e.ports.gone(ctx, *m.Gone)
		case m.Stats != nil:
			e.ports.reading(*m.Stats)
		}
	}
}

// handler answers the engine's part of the route table.
func (e *Engine) handler() http.Handler {
	mux := http.NewServeMux()
	a := api.New(mux, e.options.Version)
	api.StartCapture.Handle(a, e.startCapture)
	api.ListCaptures.Handle(a, e.listCaptures)
	api.StopCapture.Handle(a, e.stopCapture)
	api.ListFinished.Handle(a, e.listFinished)
	api.DeleteFinished.Handle(a, e.deleteFinished)
	api.CheckFilter.Handle(a, e.checkFilter)
	api.ListPorts.Handle(a, e.listPortsReply)
	api.ListProtocols.Handle(a, e.listProtocols)
	mux.HandleFunc("GET "+api.CaptureURLPath, e.serveCaptureURL)
	mux.HandleFunc("GET "+api.StreamPath, e.serveStream)
	mux.HandleFunc("GET "+api.EventsPath, e.serveEvents)
	return mux
}

// env is what expressions are compiled against.
func (e *Engine) env(c *config.Config) *filter.Env {
	env := &filter.Env{Live: true, Ports: e.ports.env(), Country: e.country}
	for _, g := range c.Groups {
		env.Groups = append(env.Groups, filter.Group(g))
	}
	return env
}
