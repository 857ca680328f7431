package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"galvo/services/api"
)

// eventPeriod is how often the events show the state: often enough to look alive, and seldom enough to be read.
const eventPeriod = 500 * time.Millisecond

// snapshot returns the state of everything that changes by itself.
func (e *Engine) snapshot() api.Snapshot {
	return api.Snapshot{
		Time:      time.Now().UnixMicro(),
		Ports:     e.listPorts(),
		Captures:  e.captures.List(),
		Finished:  e.captures.Finished(),
		Protocols: e.stats.Protocols(),
	}
}

func (e *Engine) listPorts() []api.Port { return e.ports.list(e.stats.Sizes) }

func (e *Engine) listPortsReply(_ context.Context, in *api.InSlot) (*api.Reply[[]api.Port], error) {
	return &api.Reply[[]api.Port]{Body: e.listPorts()}, nil
}

func (e *Engine) listProtocols(_ context.Context, in *api.InSlot) (*api.Reply[[]api.ProtocolCount], error) {
	return &api.Reply[[]api.ProtocolCount]{Body: e.stats.Protocols()}, nil
}

// serveEvents sends snapshots as server-sent events until the client goes.
func (e *Engine) serveEvents(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	rc := http.NewResponseController(w)
	tick := time.NewTicker(eventPeriod)
	defer tick.Stop()
	fmt.Fprint(w, "retry: 1000\n\n")
	for {
		b, err := json.Marshal(e.snapshot())
		if err != nil {
			return
		}
		rc.SetWriteDeadline(time.Now().Add(10 * time.Second))
		if _, err := fmt.Fprintf(w, "event: snapshot\ndata: %s\n\n", b); err != nil || rc.Flush() != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-e.closing:
			return
		case <-tick.C:
		}
	}
}
