package boot

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"galvo/services/api"
	"galvo/services/supervise"
)

const (
	// askEvery is how often init asks web and engine, and askFirst how often until they have answered.
	askEvery = 2 * time.Second
	askFirst = 100 * time.Millisecond
	// patience is how long a service may stay away before that has consequences. It starts in a second on hardware.
	patience = 2 * time.Minute
	// manyEnds is how often a service must end without having been steady before it counts as one that stays away.
	manyEnds = 5
)

// health is what is known of the services. Several goroutines write it.
type health struct {
	mu       sync.Mutex
	services map[string]*vital
	started  bool // the services, for the first time

	capturesWanted bool        // somebody wants to know of captures; set before watch
	capturing      atomic.Bool // a capture runs
}

// A vital is what is known of one service.
type vital struct {
	answered time.Time // the last time, or when the services were started
	once     bool      // it has answered
	ends     int       // in a row, without being steady in between
	reason   string    // of the last end
	pid      int       // 0 while there is no process
	began    time.Time // the process
}

func newHealth(now time.Time) *health {
	h := &health{services: map[string]*vital{}}
	for _, s := range []api.Service{api.ServiceHost, api.ServiceEngine, api.ServiceWeb} {
		h.services[string(s)] = &vital{answered: now}
	}
	return h
}

// start says that the services are started. What took its time before, as the repair of a large file system, does not count against them.
func (h *health) start(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.started {
		return
	}
	h.started = true
	for _, v := range h.services {
		v.answered = now
	}
}

func (h *health) answer(service api.Service, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	v := h.services[string(service)]
	v.answered, v.once = now, true
}

func (h *health) begin(service string, pid int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if v := h.services[service]; v != nil {
		v.pid, v.began = pid, time.Now()
	}
}

func (h *health) end(service, reason string, ran time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	v := h.services[service]
	if v == nil {
		return
	}
	v.pid = 0
	if v.reason = reason; ran > patience/2 {
		v.ends = 0
	}
	v.ends++
}

func (h *health) get(service api.Service) vital {
	h.mu.Lock()
	defer h.mu.Unlock()
	return *h.services[string(service)]
}

// watch asks web and engine until ctx is done.
func (h *health) watch(ctx context.Context, p supervise.Probe) {
	h.ask(ctx, map[api.Service]func(context.Context) error{
		api.ServiceWeb: p.Page,
		api.ServiceEngine: func(ctx context.Context) error {
			_, err := p.Engine(ctx)
			if h.capturesWanted {
				h.capturing.Store(p.Capturing(ctx))
			}
			return err
		},
	})
}

// ask asks services again and again until ctx is done, each for itself: one that hangs says nothing of the others.
func (h *health) ask(ctx context.Context, services map[api.Service]func(context.Context) error) {
	var asking sync.WaitGroup
	for service, ask := range services {
		asking.Go(func() {
			guard("health", func() {
				for {
					pause := askEvery
					if ask(ctx) == nil {
						h.answer(service, time.Now())
					} else if !h.get(service).once {
						pause = askFirst
					}
					select {
					case <-ctx.Done():
						return
					case <-time.After(pause):
					}
				}
			})
		})
	}
	asking.Wait()
}

// A verdict is what becomes of the machine.
type verdict struct {
	feed     bool              // the watchdog
	reboot   string            // why the machine starts again now; empty is that it goes on
	problems map[string]string // by service, what a person should know; empty is nothing
}

// judge is the rule of the watchdog. It is fed while web answers, or while it is said what is wrong: a device that nobody can reach starts again, and one that has
// told what is wrong does not. An image on trial starts again when web or engine stays away, which takes it one of its tries; a confirmed one has
// nowhere to go back to.
func judge(now time.Time, web, engine vital, onTrial bool) verdict {
	v := verdict{feed: true, problems: map[string]string{}}
	for _, s := range []struct {
		name  api.Service
		vital vital
	}{{api.ServiceWeb, web}, {api.ServiceEngine, engine}} {
		away := now.Sub(s.vital.answered)
		v.problems[string(s.name)] = ""
		if away < patience && (s.vital.ends < manyEnds || away < 2*askEvery) {
			continue
		}
		text := fmt.Sprintf("The service %s has not answered for %s", s.name, away.Round(time.Second))
		if s.vital.ends > 0 {
			text = fmt.Sprintf("The service %s stays away. It ended last with: %s", s.name, s.vital.reason)
		}
		if onTrial {
			v.reboot = text + "; the image is on trial"
			return v
		}
		v.problems[string(s.name)] = text + "."
	}
	return v
}

// hung reports whether a service has a process that should have answered long ago: it is better started anew.
func (v vital) hung(now time.Time) bool {
	return v.pid > 0 && now.Sub(v.began) > patience && now.Sub(v.answered) > patience
}

// well reports whether web and engine answer.
func well(now time.Time, web, engine vital) bool {
	const fresh = 3 * askEvery
	return web.once && engine.once && now.Sub(web.answered) < fresh && now.Sub(engine.answered) < fresh
}
