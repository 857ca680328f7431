package engine

import (
	"context"
	"net/http/httptest"
	"strings"
	"testing"

	"galvo/services/api"
	"galvo/services/config"
	"galvo/services/internal/handover"
)

// started is an engine of one worker, without ports.
func started(t *testing.T) *Engine {
	t.Helper()
	c := config.Default()
	c.Engine.Workers = 1
	e, err := newEngine(Options{State: t.TempDir()}, &handover.Config{Config: *c})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.rings.Close(); e.volumes.Close(); e.ports.close() })
	return e
}

// What goes with another destination is refused, and not ignored.
func TestSinkTakesItsOwnFields(t *testing.T) {
	e := started(t)
	n := uint64(5)
	for _, sink := range []api.Sink{{Device: "data"}, {Directory: "a"}, {Type: "http", SplitBytes: &n}, {Type: "discard", SplitSeconds: &n}} {
		_, err := e.spec(&api.CaptureRequest{Sink: sink}, api.Caller{})
		if err == nil || api.ErrorOf(err).Kind != api.BadRequest || !strings.Contains(err.Error(), "go with a sink of the type disk") {
			t.Errorf("%+v: %v", sink, err)
		}
	}
	for _, sink := range []api.Sink{{}, {Type: "http"}, {Type: "disk", Device: "data", Directory: "a", SplitBytes: &n, SplitSeconds: &n}} {
		if _, err := e.spec(&api.CaptureRequest{Sink: sink}, api.Caller{}); api.ErrorOf(err).Kind != api.NoPorts {
			t.Errorf("%+v: %v", sink, err)
		}
	}
}

// The parameters of events are checked like those of all other calls.
func TestEventsTakeTheirOwnParameters(t *testing.T) {
	e := started(t)
	for query, want := range map[string]string{"x=1": "unknown parameter", "MM-ID=:1": "unknown parameter", "mm-id=:1&mm-id=:2": "is given twice", "mm-id=%zz": "invalid URL escape", "mm-id=:1": "slot 1 is free", "mm-id=x": "there is no slot"} {
		w := httptest.NewRecorder()
		e.serveEvents(w, httptest.NewRequest("GET", api.EventsPath+"?"+query, nil).WithContext(cancelled(t)))
		if text := w.Body.String(); w.Code < 400 || !strings.Contains(text, want) {
			t.Errorf("%s: %d %.200s", query, w.Code, text)
		}
	}
}

// cancelled is the context of a client that is gone.
func cancelled(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}
