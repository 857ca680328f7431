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
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"galvo/services/api"
	"galvo/services/config"
	"galvo/services/internal/analysis"
	"galvo/services/internal/capture"
	"galvo/services/internal/country"
	"galvo/services/internal/filter"
	"galvo/services/internal/flow"
	"galvo/services/internal/handover"
	"galvo/services/internal/l7"
	"galvo/services/internal/l7/call"
	"galvo/services/internal/l7/protocol"
	"galvo/services/internal/pipeline"
	"galvo/services/internal/ring/uring"
	"galvo/services/internal/rings"
	"galvo/services/internal/sink"
	"galvo/services/internal/stats"
	"galvo/services/internal/stream"
	"galvo/services/internal/volume"
)

// Options are what the process is started with.
type Options struct {
	Run     string // runtime directory, with the sockets
	Callers []int  // users who may call the API
	State   string // directory for finished captures and the accounts of the ports
	Version string
	Uring   *uring.Ring // that rings are written through; nil where there is none
}

// An Engine is the running process.
type Engine struct {
	options  Options
	settings atomic.Pointer[settings]
	ports    *ports
	captures *capture.Captures
	stats    *stats.Stats
	hosts    func() *protocol.Hosts
	volumes  *volume.Set
	rings    *rings.Set
	slots    *slots
	panics   panics
	calls    *call.Table                   // what workers learn about calls; both directions of a call and its media may meet different ones
	country  atomic.Pointer[country.Table] // nil until it is loaded, and where its data is not installed

	running  sync.WaitGroup // everything that run waits for
	changing sync.Mutex     // held by who replaces settings
	workers  []*pipeline.Worker
	l7Bytes  uint64                        // of all workers' stores
	flows    int                           // of all workers' tables
	plan     *memoryPlan                   // that the engine began with
	host     atomic.Pointer[handover.Conn] // nil while there is no host service
	closing  chan struct{}                 // closed when the engine stops: streams of events end
}

// settings is what the configuration says, as one immutable value.
type settings struct {
	config     config.Config
	env        *filter.Env
	queueBytes uint64 // of each capture, as the memory plan grants it
	holdBytes  uint64
	memory     uint64 // bytes of the machine
}

// Run serves until ctx is done, or until the host service asks for a restart. While there is no host service it goes on with the ports that it has.
func Run(ctx context.Context, o Options) error {
	// What takes a while and needs no configuration is made while host has its own to do.
	var early sync.WaitGroup
	early.Go(func() { protocol.BuiltinHosts() })
	defer early.Wait()
	conn, first, err := join(ctx, o.Run)
	if err != nil {
		return err
	}
	e, err := newEngine(o, first)
	if err != nil {
		conn.Close()
		return err
	}
	defer e.ports.close()
	defer e.volumes.Close()
	return e.run(ctx, conn)
}

// join connects to the host service, which begins with the configuration.
func join(ctx context.Context, run string) (*handover.Conn, *handover.Config, error) {
	conn, err := handover.Dial(ctx, handover.Path(run))
	if err != nil {
		return nil, nil, err
	}
	first, err := conn.Next()
	if err == nil && first.Config == nil {
		err = errors.New("the host service did not begin with the configuration")
	}
	if err != nil {
		conn.Close()
		return nil, nil, err
	}
	return conn, first.Config, nil
}

func newEngine(o Options, c *handover.Config) (*Engine, error) {
	e := &Engine{options: o, closing: make(chan struct{}), volumes: volume.NewSet(filepath.Join(o.State, ".."))}
	plan, err := planMemory(&c.Config)
	if err != nil {
		return nil, err
	}
	setTimeZone(c.Config.Clock.TimeZone)
	// The large parts are taken once and kept; without a limit the heap would be let grow to twice their size.
	debug.SetMemoryLimit(int64(plan.Heap()))
	if e.ports, err = newPorts(o.State, c.Instance, plan.Workers, plan.Blocks); err != nil {
		return nil, err
	}
	e.configure(c, plan)
	e.captures, err = capture.New(capture.Options{
		Source:      capture.Source{Workers: plan.Workers, Interfaces: e.ports.live.Source(0).Interfaces, Lost: e.ports.lostByInterface},
		Max:         plan.Plan.Captures,
		Application: "Galvo " + o.Version, Hardware: runtime.GOARCH, OS: "Linux",
		Directory: o.State,
		Report:    func(err error) { slog.Warn("what a restart would need of captures is not kept", "error", err) },
	})
	if e.captures == nil {
		return nil, err
	}
	if err != nil {
		slog.Warn("finished captures", "error", err)
	}
	e.hosts = sync.OnceValue(func() *protocol.Hosts { return readHosts(c.Config.Engine.Hosts) })
	e.slots = newSlots(plan.Plan.Slots, plan.Plan.SlotBytes)
	ringConfig := rings.Config{
		State: o.State, Workers: plan.Workers, Max: plan.Plan.Rings, QueueBytes: plan.Plan.RingQueueBytes, ReorderBytes: plan.Plan.ReorderBytes, Volumes: e.volumes,
		Env: e.recordedEnv, EnvNow: func() *filter.Env { return e.settings.Load().env }, Interfaces: e.ports.live.Source(0).Interfaces,
	}
	if o.Uring != nil && c.Config.Rings.IOUring {
		ringConfig.Store = o.Uring.Directory
	}
	e.rings = rings.Open(ringConfig)
	e.calls = call.NewTable(int(plan.L7Bytes / callsShare))
	e.stats = stats.New(plan.Workers)
	e.flows, e.plan = plan.Plan.Flows, plan
	if plan.L7 {
		e.l7Bytes = plan.L7Bytes
	}
	for w := range plan.Workers {
		e.workers = append(e.workers, e.worker(w))
	}
	return e, nil
}

// callsShare is the part of the memory for protocol recognition, one in so many, that all workers share for what they know about calls.
const callsShare = 32

// readHosts reads the user's names of servers. A file that cannot be used costs these names, and nothing else.
func readHosts(name string) *protocol.Hosts {
	if name == "" {
		return protocol.BuiltinHosts()
	}
	text, err := os.ReadFile(name)
	if err == nil {
		var hosts *protocol.Hosts
		if hosts, err = protocol.ReadHosts(string(text)); err == nil {
			return hosts
		}
		err = fmt.Errorf("%s: %w", name, err)
	}
	slog.Warn("engine.hosts: only the names of servers that Galvo knows are used", "error", err)
	return protocol.BuiltinHosts()
}

// setTimeZone makes the names of files, and what else has local time, be in a zone; empty is the machine's. Nothing has read the time yet.
func setTimeZone(name string) {
	if name == "" {
		return
	}
	zone, err := time.LoadLocation(name)
	if err != nil {
		slog.Warn("time zone", "error", err)
		return
	}
	time.Local = zone
}

// worker makes a worker with its stages, in the order in which a frame meets them.
func (e *Engine) worker(index int) *pipeline.Worker {
	return &pipeline.Worker{
		Index:   index,
		Source:  e.ports.live.Source(index),
		Streams: stream.New(int(e.plan.StreamBytes) / e.plan.Workers),
		OnPanic: e.panics.note,
		Stages: []pipeline.Stage{
			e.ports.accounts[index],
			e.stats.Stage(index),
			e.rings.Stage(index),
			e.captures.Stage(index),
		},
	}
}

// equip gives a worker its tables. To make them takes some tenths of a second, so each worker does it for itself, and meanwhile the ports' rings take what comes:
// an engine that starts anew loses no frames for that.
func (e *Engine) equip(w *pipeline.Worker) {
	plan := e.plan
	config := flow.Config{Flows: plan.Plan.Flows / plan.Workers}
	if plan.L7 {
		w.L7 = l7.New(l7.Config{Bytes: int(plan.L7Bytes/callsShare*(callsShare-1)) / plan.Workers, Guess: true, Hosts: e.hosts(), Calls: e.calls})
		config.OnEnd = w.L7.End
	}
	w.Flows = flow.New(config)
}

// configure takes over what can change while the engine runs.
func (e *Engine) configure(c *handover.Config, plan *memoryPlan) {
	e.changing.Lock()
	defer e.changing.Unlock()
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
	for _, w := range e.workers {
		e.running.Go(func() {
			runtime.LockOSThread()
			e.equip(w)
			if err := w.Run(ctx); err != nil && ctx.Err() == nil {
				cancel(fmt.Errorf("worker %d: %w", w.Index, err))
			}
		})
	}
	server := &http.Server{Handler: e.handler(), ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(slog.Default().Handler(), slog.LevelDebug)}
	e.running.Go(func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			cancel(fmt.Errorf("serve the API: %w", err))
		}
	})
	e.running.Go(func() { e.tick(ctx) })
	e.running.Go(e.loadCountries)
	err = e.attend(ctx, conn)

	close(e.closing)
	end, release := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
	defer release()
	e.captures.Close(end, "the engine was stopped")
	e.slots.close(end)
	e.rings.Close()
	server.Shutdown(end)
	server.Close()
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		err = cause
	} else if ctx.Err() != nil {
		err = nil
	}
	cancel(nil)
	e.running.Wait()
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
			e.rings.Lost(e.ports.lostByInterface())
			e.report()
		}
	}
}

// errRestart ends an engine that is to be started anew.
var errRestart = errors.New("the host asks for a restart")

// attend converses with the host service, and with the next one when it is gone.
func (e *Engine) attend(ctx context.Context, conn *handover.Conn) error {
	for {
		stop := context.AfterFunc(ctx, func() { conn.Close() })
		err := conn.Send(handover.Message{Ready: &handover.Ready{Workers: len(e.workers)}})
		if err == nil {
			e.host.Store(conn)
			err = e.converse(ctx, conn)
			e.host.Store(nil)
		}
		stop()
		conn.Close()
		if ctx.Err() != nil || errors.Is(err, errRestart) {
			return err
		}
		slog.Warn("the host service is gone; the ports go on without it", "error", err)
		if conn, err = e.rejoin(ctx); err != nil {
			return err
		}
	}
}

// rejoin waits for the next host service.
func (e *Engine) rejoin(ctx context.Context) (*handover.Conn, error) {
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	for {
		conn, c, err := join(ctx, e.options.Run)
		if err == nil {
			e.reconfigure(c)
			return conn, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-again.C:
		}
	}
}

// converse takes what the host hands over until one of the two ends.
func (e *Engine) converse(ctx context.Context, conn *handover.Conn) error {
	for {
		m, err := conn.Next()
		switch {
		case err != nil:
			return err
		case m.Config != nil:
			e.reconfigure(m.Config)
		case m.Restart != nil:
			return fmt.Errorf("%w: %s", errRestart, m.Restart.Reason)
		case m.Port != nil:
			if err := e.ports.arrived(ctx, *m.Port); err != nil {
				slog.Error("port", "id", m.Port.ID, "error", err)
			}
			e.renewEnv()
		case m.Gone != nil:
			e.ports.gone(ctx, *m.Gone)
		case m.Stats != nil:
			e.ports.reading(*m.Stats)
		case m.Storage != nil:
			for _, v := range e.volumes.Follow(m.Storage.Devices, e.letGo) {
				e.running.Go(func() { v.Repair(sink.Whole) })
			}
			e.running.Go(e.rings.Follow)
			if err := conn.Send(handover.Message{Stored: &handover.Stored{Number: m.Storage.Number}}); err != nil {
				return err
			}
		}
	}
}

// renewEnv takes over what expressions depend on beside the configuration.
func (e *Engine) renewEnv() {
	defer e.running.Go(e.rings.Renew) // which may take a while
	e.changing.Lock()
	defer e.changing.Unlock()
	s := *e.settings.Load()
	s.env = e.env(&s.config)
	e.settings.Store(&s)
}

// loadCountries loads the country table, which takes a moment that an engine that starts anew has not: frames are waiting.
func (e *Engine) loadCountries() {
	var table *country.Table
	err := analysis.Gently(func() (err error) {
		table, err = country.Open(e.settings.Load().config.Engine.Geoip)
		return err
	})
	if err != nil {
		slog.Warn("the filter's countryCode has no answer", "error", err)
		return
	}
	e.country.Store(table)
	e.renewEnv()
}

// reconfigure takes over a changed configuration, as far as it can be followed without a restart.
func (e *Engine) reconfigure(c *handover.Config) {
	plan, err := planMemory(&c.Config)
	if err != nil {
		slog.Error("the new configuration is not taken over", "error", err)
		return
	}
	e.captures.SetMax(plan.Plan.Captures)
	e.configure(c, plan)
	e.running.Go(func() {
		e.rings.SetReorder(plan.Plan.ReorderBytes)
		e.rings.Renew()
	})
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
	api.ListSlots.Handle(a, e.listSlots)
	api.StartSlot.Handle(a, e.startSlot)
	api.StopSlot.Handle(a, e.stopSlot)
	api.ListRings.Handle(a, e.listRings)
	api.MakeRing.Handle(a, e.makeRing)
	api.GetRing.Handle(a, e.getRing)
	api.DeleteRing.Handle(a, e.deleteRing)
	api.DryRunRing.Handle(a, e.dryRun)
	api.SetRules.Handle(a, e.setRules)
	api.PinRing.Handle(a, e.pinRing)
	api.ListPorts.Handle(a, e.listPortsReply)
	api.ListProtocols.Handle(a, e.listProtocols)
	mux.HandleFunc("GET "+api.CaptureURLPath, e.serveCaptureURL)
	mux.HandleFunc("GET "+api.StreamPath, e.serveStream)
	mux.HandleFunc("GET "+api.EventsPath, e.serveEvents)
	mux.HandleFunc("GET "+api.FilesPath, e.filesHandler(e.getFile))
	mux.HandleFunc("POST "+api.FilesPath, e.filesHandler(e.postFile))
	mux.HandleFunc("DELETE "+api.FilesPath, e.filesHandler(e.deleteFile))
	return mux
}

// env is what expressions are compiled against.
func (e *Engine) env(c *config.Config) *filter.Env {
	env := &filter.Env{
		Live: true, Ports: e.ports.env(), Guesses: c.Engine.Guesses,
		Tunnels: filter.TunnelViews[c.Filter.TunnelView], Fragments: filter.FragmentUses[c.Filter.Fragments], SCTP: c.Filter.SCTPPorts,
	}
	if table := e.country.Load(); table != nil {
		env.Country = table
	}
	for _, g := range c.Groups {
		env.Groups = append(env.Groups, filter.Group(g))
	}
	return env
}
