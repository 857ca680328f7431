package server

import (
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"galvo/services/api"
)

// A refused client may send its body to the end, or else some of them never read why they are refused.
func TestRefusedBody(t *testing.T) {
	w := newWeb(t, echo)
	for _, c := range []struct {
		path, login string
		status      int
	}{
		{api.StartCapture.Path, "", 401},
		{api.StartCapture.Path, basic("admin", password), 413},
		{"/api/v1/storage/data/files/x", basic("admin", "wrong"), 401},
		{"/api/v1/status", basic("admin", password), 405},
	} {
		var sent atomic.Int64
		size := int64(3 << 20)
		req, err := http.NewRequest("POST", "https://"+w.address+c.path, io.TeeReader(strings.NewReader(strings.Repeat(" ", int(size))), counted{&sent}))
		if err != nil {
			t.Fatal(err)
		}
		req.ContentLength = size
		req.Header.Set("Authorization", c.login)
		resp, err := w.client.Do(req)
		if err != nil {
			t.Fatalf("POST %s: %v", c.path, err)
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != c.status || !strings.Contains(string(text), `"kind"`) {
			t.Errorf("POST %s: %d %s, %v", c.path, resp.StatusCode, text, err)
		}
		if sent.Load() != size {
			t.Errorf("POST %s: %d of %d bytes of the body were taken", c.path, sent.Load(), size)
		}
	}
	begun := time.Now()
	w.do("POST", "/api/v1/status", "")
	if took := time.Since(begun); took > time.Second {
		t.Errorf("without a body a refusal took %s", took)
	}
}

type counted struct{ n *atomic.Int64 }

func (c counted) Write(b []byte) (int, error) {
	c.n.Add(int64(len(b)))
	return len(b), nil
}

// HEAD is a GET without its body, where nothing begins with a GET.
func TestHead(t *testing.T) {
	w := newWeb(t, echo)
	for path, status := range map[string]int{
		"/api/v1/captures": 200, "/api/v1/status": 200, "/api/v1/storage/data/files/x": 200, api.OpenAPIPath: 200,
		api.EventsPath: 405, "/api/v1/captures/x/stream": 405, api.CaptureURLPath: 405, api.Login.Path: 405,
	} {
		a := w.do("HEAD", path, "", "Authorization", basic("admin", password))
		if a.status != status || a.body != "" {
			t.Errorf("HEAD %s: %d %q, want %d", path, a.status, a.body, status)
		}
	}
}
