package engine

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"galvo/services/api"
	"galvo/services/config"
	"galvo/services/internal/handover"
	"galvo/services/internal/volume"
)

// A body is taken, or refused: not where a directory is made or something renamed, which a slash at the end of a name is enough for.
func TestPostFile(t *testing.T) {
	s := serveFiles(t)
	for _, c := range []struct {
		path, body string
		status     int
	}{
		{"a/", "packets", http.StatusBadRequest},
		{"a?directory=true", "packets", http.StatusBadRequest},
		{"a/", "", http.StatusCreated},
		{"b", "packets", http.StatusCreated},
		{"b?rename=c", "packets", http.StatusBadRequest},
		{"b?rename=c&rename=d", "", http.StatusBadRequest},
		{"e?offset=0&offset=0", "packets", http.StatusBadRequest},
		{"b?rename=c", "", http.StatusCreated},
	} {
		reply, err := http.Post(s.url+c.path, "", strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(reply.Body)
		reply.Body.Close()
		if reply.StatusCode != c.status {
			t.Errorf("POST %s with %q: %d %s", c.path, c.body, reply.StatusCode, text)
		}
	}
}

// A fileServer serves the files of a device.
type fileServer struct {
	*Engine
	dir string // of the device
	url string // of its files
}

func serveFiles(t *testing.T) *fileServer {
	t.Helper()
	state := t.TempDir()
	s := &fileServer{Engine: &Engine{volumes: volume.NewSet(state)}, dir: filepath.Join(state, "data")}
	if err := os.Mkdir(s.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.volumes.Close)
	s.settings.Store(&settings{config: *config.Default()})
	s.plug()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{id}/{path...}", s.filesHandler(s.getFile))
	mux.HandleFunc("POST /{id}/{path...}", s.filesHandler(s.postFile))
	mux.HandleFunc("DELETE /{id}/{path...}", s.filesHandler(s.deleteFile))
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	s.url = server.URL + "/data/"
	return s
}

func (s *fileServer) plug() { s.volumes.Follow([]handover.Device{called("data", "data")}, nil) }
func (s *fileServer) pull() { s.volumes.Follow(nil, func(string) {}) }

// A download goes on only with the file that it began with; what is refused has the body of an error.
func TestConditionalDownload(t *testing.T) {
	s := serveFiles(t)
	file := filepath.Join(s.dir, "a")
	write := func(text string, at time.Time) {
		t.Helper()
		if err := errors.Join(os.WriteFile(file, []byte(text), 0o600), os.Chtimes(file, at, at)); err != nil {
			t.Fatal(err)
		}
	}
	get := func(headers ...string) (*http.Response, string) {
		t.Helper()
		req, err := http.NewRequest("GET", s.url+"a", nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(headers); i += 2 {
			req.Header.Set(headers[i], headers[i+1])
		}
		reply, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer reply.Body.Close()
		text, err := io.ReadAll(reply.Body)
		if err != nil {
			t.Fatal(err)
		}
		return reply, string(text)
	}
	now := time.Unix(1_700_000_000, 0)
	write("one", now)
	reply, _ := get()
	tag := reply.Header.Get("ETag")
	if reply, text := get("If-Range", tag, "Range", "bytes=1-"); reply.StatusCode != http.StatusPartialContent || text != "ne" {
		t.Errorf("the rest of the same file: %d %q", reply.StatusCode, text)
	}
	if reply, _ := get("If-None-Match", tag); reply.StatusCode != http.StatusNotModified {
		t.Errorf("the same file: %d", reply.StatusCode)
	}
	write("two", now.Add(time.Millisecond)) // in the same second, and as long
	if reply, text := get("If-Range", tag, "Range", "bytes=1-"); reply.StatusCode != http.StatusOK || text != "two" {
		t.Errorf("the rest of another file: %d %q", reply.StatusCode, text)
	}
	if reply, text := get("Range", "lines=1-"); reply.StatusCode != http.StatusOK || text != "two" {
		t.Errorf("a range of a unit that nobody knows: %d %q", reply.StatusCode, text)
	}
	for _, c := range []struct {
		header, value string
		status        int
		kind          api.Kind
	}{
		{"If-Match", tag, http.StatusPreconditionFailed, api.Changed},
		{"If-Unmodified-Since", now.Add(-time.Hour).UTC().Format(http.TimeFormat), http.StatusPreconditionFailed, api.Changed},
		{"Range", "bytes=3-", http.StatusRequestedRangeNotSatisfiable, api.BadRange},
	} {
		reply, text := get(c.header, c.value)
		var e api.Error
		if err := json.Unmarshal([]byte(text), &e); err != nil || reply.StatusCode != c.status || e.Kind != c.kind || reply.Header.Get("Content-Disposition") != "" {
			t.Errorf("%s: %d %q, %v", c.header, reply.StatusCode, text, err)
		}
	}
}

// A device that goes takes downloads with it: a disk with open files could not be unmounted.
func TestDownloadFromDeviceThatGoes(t *testing.T) {
	s := serveFiles(t)
	large := filepath.Join(s.dir, "large")
	if err := os.WriteFile(large, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(large, 1<<30); err != nil {
		t.Fatal(err)
	}
	reply, err := http.Get(s.url + "large")
	if err != nil {
		t.Fatal(err)
	}
	defer reply.Body.Close()
	io.CopyN(io.Discard, reply.Body, 1)
	s.pull()
	if n, err := io.Copy(io.Discard, reply.Body); err == nil {
		t.Errorf("a download went on to its end, of %d bytes", n)
	}
}

// A device that goes takes uploads with it, whether they flow or stand still. What has come of one stays.
func TestUploadToDeviceThatGoes(t *testing.T) {
	for name, stalls := range map[string]bool{"flowing": false, "standing": true} {
		t.Run(name, func(t *testing.T) {
			s := serveFiles(t)
			part := filepath.Join(s.dir, "upload.part")
			ctx, cancel := context.WithTimeout(t.Context(), progressTime/2)
			defer cancel()
			body, out := io.Pipe()
			context.AfterFunc(ctx, func() { out.CloseWithError(ctx.Err()) }) // without it the client goes on waiting for what it is to send
			go func() {
				out.Write(make([]byte, 1<<16))
				for info, err := os.Stat(part); err != nil || info.Size() < 1<<16; info, err = os.Stat(part) {
				}
				s.pull()
				for err := error(nil); err == nil && !stalls; _, err = out.Write(make([]byte, 1<<16)) {
				}
			}()
			req, err := http.NewRequestWithContext(ctx, "POST", s.url+"upload", body)
			if err != nil {
				t.Fatal(err)
			}
			reply, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatalf("the upload went on: %v", err)
			}
			defer reply.Body.Close()
			if text, _ := io.ReadAll(reply.Body); reply.StatusCode != http.StatusConflict || !strings.Contains(string(text), "not active any more") {
				t.Errorf("%d %s", reply.StatusCode, text)
			}
			if info, err := os.Stat(part); err != nil || info.Size() == 0 {
				t.Errorf("what came of it: %v", err)
			}
		})
	}
}
