package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"time"

	"galvo/services/api"
	"galvo/services/internal/stats"
)

// eventPeriod is how often the events show the state: often enough to look alive, and seldom enough to be read.
const eventPeriod = 500 * time.Millisecond

// snapshot returns the state of everything that changes by itself, with the ports and protocols of a slot if it is not nil.
func (e *Engine) snapshot(in *slot) api.Snapshot {
	return api.Snapshot{
		Time:      time.Now().UnixMicro(),
		Ports:     e.portsOf(in),
		Captures:  e.captures.List(),
		Finished:  e.captures.Finished(),
		Protocols: e.protocolsOf(in),
		Slots:     e.slots.list(),
		Rings:     e.rings.Views(),
		Panics:    e.panics.n.Load(),
	}
}

func (e *Engine) portsOf(in *slot) []api.Port {
	if in != nil {
		return in.analysis.Ports()
	}
	return e.ports.list(e.stats.Sizes)
}

func (e *Engine) protocolsOf(in *slot) []api.ProtocolCount {
	if in != nil {
		return in.analysis.Protocols()
	}
	return e.stats.Protocols()
}

func (e *Engine) listPortsReply(_ context.Context, in *api.InSlot) (*api.Reply[[]api.Port], error) {
	s, err := e.slots.find(in.Slot)
	if err != nil {
		return nil, err
	}
	return &api.Reply[[]api.Port]{Body: e.portsOf(s)}, nil
}

func (e *Engine) listProtocols(_ context.Context, in *api.InSlot) (*api.Reply[[]api.ProtocolCount], error) {
	s, err := e.slots.find(in.Slot)
	if err != nil {
		return nil, err
	}
	return &api.Reply[[]api.ProtocolCount]{Body: stats.WithUnseen(e.protocolsOf(s))}, nil
}

// serveEvents sends snapshots as server-sent events until the client goes.
func (e *Engine) serveEvents(w http.ResponseWriter, r *http.Request) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		api.WriteError(w, api.Errorf(api.BadRequest, "the query: %v", err))
		return
	}
	if err := only(query, "mm-id"); err != nil {
		api.WriteError(w, api.ErrorOf(err))
		return
	}
	slot := query.Get("mm-id")
	if _, err := e.slots.find(slot); err != nil {
		api.WriteError(w, api.ErrorOf(err))
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	rc := http.NewResponseController(w)
	tick := time.NewTicker(eventPeriod)
	defer tick.Stop()
	fmt.Fprint(w, "retry: 1000\n\n")
	var finished []api.Capture // as it was sent: a hundred of them are most of a snapshot, and seldom change
	for {
		in, err := e.slots.find(slot)
		if err != nil {
			return // the analysis was ended
		}
		s := e.snapshot(in)
		if reflect.DeepEqual(s.Finished, finished) {
			s.Finished = nil
		} else {
			finished = s.Finished
		}
		b, err := json.Marshal(s)
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
