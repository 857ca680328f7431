package engine

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"galvo/services/config"
	"galvo/services/internal/capture"
	"galvo/services/internal/filter"
	"galvo/services/internal/pipeline"
)

// Who fetches the packets of a capture that somebody fetches already is told so, and the first one goes on.
func TestStreamIsFetchedOnce(t *testing.T) {
	captures, err := capture.New(capture.Options{Source: capture.Source{Workers: 1, Interfaces: func() []pipeline.Interface { return nil }}, Max: 1})
	if err != nil {
		t.Fatal(err)
	}
	e := &Engine{captures: captures}
	e.settings.Store(&settings{config: *config.Default()})
	all, err := filter.Compile("", nil)
	if err != nil {
		t.Fatal(err)
	}
	c, err := captures.Start(capture.Spec{Sink: "http", Source: "live", FileName: "a.pcapng", Filter: all, Format: "pcapng", QueueBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{id}", e.serveStream)
	server := httptest.NewServer(mux)
	defer server.Close()
	first := make(chan int)
	go func() {
		reply, err := http.Get(server.URL + "/" + c.ID())
		if err != nil {
			t.Error(err)
			first <- 0
			return
		}
		io.Copy(io.Discard, reply.Body)
		reply.Body.Close()
		first <- reply.StatusCode
	}()
	<-c.Attached()
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest("GET", "/"+c.ID(), nil))
	if w.Code != http.StatusConflict || !strings.Contains(w.Body.String(), `"kind":"conflict"`) || w.Header().Get("Content-Disposition") != "" {
		t.Errorf("%d %s %v", w.Code, w.Body, w.Header())
	}
	captures.Stage(0).Finish()
	c.Finish("stopped")
	if status := <-first; status != http.StatusOK {
		t.Errorf("the first one got %d", status)
	}
}
