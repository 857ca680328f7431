package engine

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"galvo/services/config"
	"galvo/services/internal/handover"
)

// A body is taken, or refused: not where a directory is made or something renamed, which a slash at the end of a name is enough for.
func TestPostFile(t *testing.T) {
	state := t.TempDir()
	if err := os.Mkdir(filepath.Join(state, "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	e := &Engine{volumes: newVolumes(state)}
	t.Cleanup(e.volumes.close)
	e.volumes.set([]handover.Device{called("data", "data")}, nil)
	e.settings.Store(&settings{config: *config.Default()})
	mux := http.NewServeMux()
	mux.HandleFunc("POST /{id}/{path...}", e.filesHandler(e.postFile))
	for _, c := range []struct {
		path, body string
		status     int
	}{
		{"a/", "packets", http.StatusBadRequest},
		{"a?directory=true", "packets", http.StatusBadRequest},
		{"a/", "", http.StatusCreated},
		{"b", "packets", http.StatusCreated},
		{"b?rename=c", "packets", http.StatusBadRequest},
		{"b?rename=c", "", http.StatusCreated},
	} {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest("POST", "/data/"+c.path, strings.NewReader(c.body)))
		if w.Code != c.status {
			t.Errorf("POST %s with %q: %d %s", c.path, c.body, w.Code, w.Body)
		}
	}
}

// A device that goes takes downloads and uploads with it: a disk with open files could not be unmounted. What has come of an upload stays.
func TestFilesOnDeviceThatGoes(t *testing.T) {
	state := t.TempDir()
	if err := os.Mkdir(filepath.Join(state, "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	e := &Engine{volumes: newVolumes(state)}
	t.Cleanup(e.volumes.close)
	e.settings.Store(&settings{config: *config.Default()})
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{id}/{path...}", e.filesHandler(e.getFile))
	mux.HandleFunc("POST /{id}/{path...}", e.filesHandler(e.postFile))
	server := httptest.NewServer(mux)
	defer server.Close()
	here := []handover.Device{called("data", "data")}
	large := filepath.Join(state, "data", "large")
	if err := os.WriteFile(large, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(large, 1<<30); err != nil {
		t.Fatal(err)
	}

	e.volumes.set(here, nil)
	reply, err := http.Get(server.URL + "/data/large")
	if err != nil {
		t.Fatal(err)
	}
	defer reply.Body.Close()
	io.CopyN(io.Discard, reply.Body, 1)
	e.volumes.set(nil, func(string) {})
	if n, err := io.Copy(io.Discard, reply.Body); err == nil {
		t.Errorf("a download went on to its end, of %d bytes", n)
	}

	e.volumes.set(here, nil)
	part := filepath.Join(state, "data", "upload.part")
	body, out := io.Pipe()
	defer out.Close()
	go func() {
		for err := error(nil); err == nil; _, err = out.Write(make([]byte, 1<<16)) {
			if info, err := os.Stat(part); err == nil && info.Size() > 0 {
				e.volumes.set(nil, func(string) {})
			}
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "POST", server.URL+"/data/upload", body)
	if err != nil {
		t.Fatal(err)
	}
	if reply, err = http.DefaultClient.Do(req); err != nil {
		t.Fatalf("an upload went on: %v", err)
	}
	defer reply.Body.Close()
	if text, _ := io.ReadAll(reply.Body); reply.StatusCode != http.StatusConflict || !strings.Contains(string(text), "not active any more") {
		t.Errorf("an upload: %d %s", reply.StatusCode, text)
	}
	if info, err := os.Stat(part); err != nil || info.Size() == 0 {
		t.Errorf("what came of an upload: %v", err)
	}
}
