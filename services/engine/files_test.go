package engine

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

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
