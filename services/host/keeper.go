package host

import (
	"context"
	"log/slog"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"galvo/board"
	"galvo/services/config"
	"galvo/services/internal/clock"
	"galvo/services/internal/handover"
	"galvo/services/internal/management"
)

// A keeper looks after the ports. Its fields belong to the goroutine of run.
type keeper struct {
	options Options
	store   *config.Store
	nics    *nics
	storage *storage

	wake    chan struct{} // something may have changed
	engines chan *engine  // an engine connected, or said that it is ready
	ended   chan *engine
	restart chan string // reasons to start the engine anew

	management *management.Port
	named      atomic.Pointer[string]         // the device's name
	usage      atomic.Pointer[handover.Usage] // of the last engine
	resolver   string                         // what was written for programs that look names up
	clocks     *clock.Clock
	timeWake   chan struct{} // the time servers changed
	timeAsked  string        // which they were
	remembered time.Time     // when the time was written down

	board    atomic.Pointer[roles] // what the board says of the NICs; nil is nothing yet
	nicsSeen []board.NIC
	limited  uint64 // bytes, of the engine's control group

	routes routes
	ports  []*port
	engine *engine // nil while there is none
	told   *handover.Config
	stored *handover.Storage // as the engine knows it
}

func newKeeper(o Options, store *config.Store, s *storage) (*keeper, error) {
	n, err := openNICs(o.Appliance)
	if err != nil {
		return nil, err
	}
	k := &keeper{
		options: o, store: store, nics: n, storage: s,
		wake: make(chan struct{}, 1), engines: make(chan *engine), ended: make(chan *engine), restart: make(chan string),
		timeWake: make(chan struct{}, 1),
	}
	k.clocks = k.newClock()
	k.management = management.New(filepath.Join(o.State, "lease"), o.Appliance, k.poke)
	return k, nil
}

// poke makes the keeper look at the machine and the configuration.
func (k *keeper) poke() { poke(k.wake) }

// run keeps the ports until ctx is done, and then gives the NICs back as they were.
func (k *keeper) run(ctx context.Context) {
	defer k.nics.close()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for ticked := false; ; {
		k.look()
		if ticked { // what the links have counted is fresh
			k.tellStats()
			k.rememberTime(k.clocks.State().Synced)
			ticked = false
		}
		select {
		case <-ctx.Done():
			return
		case <-k.wake:
		case e := <-k.engines:
			k.adopt(e)
		case e := <-k.ended:
			if k.engine == e {
				k.forget()
			}
		case reason := <-k.restart:
			k.send(handover.Message{Restart: &handover.Restart{Reason: reason}})
		case <-tick.C:
			ticked = true
		}
	}
}

// introduce finds out what the NICs are for, and so the device's name. It is called before run.
func (k *keeper) introduce() {
	links, err := machineLinks()
	if err != nil {
		return // run says it
	}
	k.assign(links)
	k.wish(links)
}

// look compares the machine with what the engine knows, and tells it what is new.
func (k *keeper) look() {
	links, err := machineLinks()
	if err != nil {
		slog.Error("list the links of the machine", "error", err)
		return
	}
	k.assign(links)
	k.adjust()
	k.routes.mark(links)
	k.wish(links)
	k.setResolver()
	k.timeServersChanged()
	k.tellConfig(links)
	k.tellStorage()
	for _, p := range k.ports {
		k.greet(links)
		k.keep(p, links)
	}
	k.nics.release(func(index int) bool {
		return !slices.ContainsFunc(k.ports, func(p *port) bool { return p.prepared == index })
	})
}

// adjust makes the list of ports follow the configuration. A port whose wording changed is a new one under the same id.
func (k *keeper) adjust() {
	wanted := k.wanted()
	for len(k.ports) > len(wanted) {
		last := k.ports[len(k.ports)-1]
		k.ports = k.ports[:len(k.ports)-1]
		k.send(handover.Message{Gone: &handover.Gone{ID: last.info.ID, Reason: "the configuration has no such port any more"}})
	}
	for i, w := range wanted {
		if i == len(k.ports) {
			k.ports = append(k.ports, &port{})
		}
		if p := k.ports[i]; p.info.ID == 0 || p.want != w {
			if p.handed != 0 {
				k.send(handover.Message{Gone: &handover.Gone{ID: i + 1, Reason: "the configuration of the port changed"}})
			}
			*p = port{want: w, info: handover.Port{ID: i + 1}, owned: p.owned}
		}
	}
}

// wanted returns the ports to capture from: those of the command line, else those of the configuration, else the board's.
func (k *keeper) wanted() []config.Port {
	if len(k.options.Interfaces) == 0 {
		if ports := k.store.Current().Ports; len(ports) > 0 {
			return ports
		}
		return k.boardRoles().ports
	}
	var ports []config.Port
	for _, name := range k.options.Interfaces {
		ports = append(ports, config.Port{Name: name})
	}
	return ports
}
