package server

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"galvo/ci/pace"
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
		// The server has no more patience than drainTime, and a busy machine may need that for itself.
		pace.Patiently(t, func(time.Duration) error { return w.sendRefused(c.path, c.login, c.status) })
	}
	pace.Within(t, time.Second, func() time.Duration { // without a body
		begun := time.Now()
		w.do("POST", "/api/v1/status", "")
		return time.Since(begun)
	})
}

// What the engine refuses after a part of the body, it refuses in its own words, also to a client that waited for leave to send.
func TestRefusedUpload(t *testing.T) {
	w := newWeb(t, func(rw http.ResponseWriter, r *http.Request) {
		io.CopyN(io.Discard, r.Body, 1<<20)
		api.WriteError(rw, &api.Error{Kind: api.StorageFull, Text: "no room"})
	})
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ExpectContinueTimeout: time.Minute}}
	defer client.CloseIdleConnections()
	block := strings.Repeat(" ", 8<<20)
	for range 30 {
		req, err := http.NewRequest("POST", "https://"+w.address+"/api/v1/storage/data/files/x", strings.NewReader(block))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", basic("admin", password))
		req.Header.Set("Expect", "100-continue")
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusInsufficientStorage {
			t.Fatalf("a full device: %d %s %v", resp.StatusCode, text, err)
		}
	}
}

// A body that is no body is the client's fault, and is not said to be the engine's.
func TestBrokenBody(t *testing.T) {
	w := newWeb(t, func(rw http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) })
	for what, body := range map[string]string{
		"a chunk without a length":      "Transfer-Encoding: chunked\r\n\r\nZZ\r\nabc\r\n0\r\n\r\n",
		"a body that ends too early":    "Content-Length: 10\r\n\r\nabc",
		"chunks without the last of it": "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
	} {
		conn, err := tls.Dial("tcp", w.address, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "POST /api/v1/storage/data/files/x HTTP/1.1\r\nHost: localhost\r\nAuthorization: %s\r\n%s", basic("admin", password), body)
		conn.CloseWrite()
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		text, _ := io.ReadAll(resp.Body)
		if resp.StatusCode != http.StatusBadRequest || !strings.Contains(string(text), string(api.BadRequest)) {
			t.Errorf("%s: %d %s", what, resp.StatusCode, text)
		}
	}
}

// An upload that the engine gives up is answered, also if the client stands still in the middle of its body.
func TestAnswerToStandingUpload(t *testing.T) {
	w := newWeb(t, func(rw http.ResponseWriter, r *http.Request) {
		io.CopyN(io.Discard, r.Body, 100_000)
		http.NewResponseController(rw).SetReadDeadline(time.Now()) // as the engine, which waits no longer
		api.WriteError(rw, &api.Error{Kind: api.NoStorage, Text: "not active any more"})
	})
	conn, err := tls.Dial("tcp", w.address, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetReadDeadline(time.Now().Add(time.Minute))
	fmt.Fprintf(conn, "POST /api/v1/storage/data/files/x HTTP/1.1\r\nHost: localhost\r\nAuthorization: %s\r\nContent-Length: 1000000\r\n\r\n%s",
		basic("admin", password), strings.Repeat("x", 100_000))
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	if text, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusConflict || !strings.Contains(string(text), "not active any more") {
		t.Errorf("%d %s", resp.StatusCode, text)
	}
}

// sendRefused sends a body of 3 MiB that is refused with a status, and wants all of it taken.
func (w *web) sendRefused(path, login string, status int) error {
	var sent atomic.Int64
	size := int64(3 << 20)
	req, err := http.NewRequest("POST", "https://"+w.address+path, io.TeeReader(strings.NewReader(strings.Repeat(" ", int(size))), counted{&sent}))
	if err != nil {
		return err
	}
	req.ContentLength = size
	req.Header.Set("Authorization", login)
	resp, err := w.client.Do(req)
	if err != nil {
		return fmt.Errorf("POST %s: %w", path, err)
	}
	text, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil || resp.StatusCode != status || !strings.Contains(string(text), `"kind"`) || sent.Load() != size {
		return fmt.Errorf("POST %s: %d %s, %w; %d of %d bytes of the body were taken", path, resp.StatusCode, text, err, sent.Load(), size)
	}
	return nil
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
