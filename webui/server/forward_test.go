package server

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"galvo/ci/pace"
	"galvo/services/api"
)

// The query arrives at the engine byte for byte, and what web says of the caller cannot be said from outside.
func TestForward(t *testing.T) {
	w := newWeb(t, echo)
	for _, query := range []string{
		"expression=ip==1.2.3.4&&port==80", "expression=a;b", "expression=a+b%20c", "expression=%zz&x", "", "?=&&&=", "expression=%C3%A4|x^{}`\"<>",
	} {
		c, err := tls.Dial("tcp", w.address, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(c, "GET /API/data/modules/capture?%s HTTP/1.1\r\nHost: localhost\r\nAuthorization: %s\r\nGalvo-User: root\r\ngalvo-client: 8.8.8.8:1\r\nConnection: close\r\n\r\n", query, basic("admin", password))
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		var got map[string]string
		if err := json.NewDecoder(resp.Body).Decode(&got); err != nil {
			t.Fatal(err)
		}
		c.Close()
		if got["query"] != query || got["user"] != "admin" || got["client"] != c.LocalAddr().String() || got["secrets"] != "" {
			t.Errorf("%q arrives as %v", query, got)
		}
	}
	a := w.do("POST", "/api/v1/captures", `{"expression":"x"}`, "Authorization", basic("admin", password))
	if !strings.Contains(a.body, `"body":"{\"expression\":\"x\"}"`) {
		t.Errorf("the body arrives as %s", a.body)
	}
	large := w.do("POST", "/api/v1/captures", strings.Repeat(" ", maxRequestBytes+1), "Authorization", basic("admin", password))
	if large.status != 413 || !strings.Contains(large.body, `"kind":"too_large"`) {
		t.Errorf("a large request: %d %s", large.status, large.body)
	}
}

func TestEngineDown(t *testing.T) {
	w := newWeb(t, nil)
	admin := basic("admin", password)
	a := w.do("GET", "/api/v1/captures", "", "Authorization", admin)
	if a.status != 503 || !strings.Contains(a.body, `"kind":"unavailable"`) {
		t.Errorf("without an engine: %d %s", a.status, a.body)
	}
	a = w.do("GET", "/api/v1/status", "", "Authorization", admin)
	var s api.Status
	if err := json.Unmarshal([]byte(a.body), &s); err != nil || s.State != "degraded" || len(s.Problems) == 0 || s.Name != "lab" {
		t.Errorf("status: %d %s %v", a.status, a.body, err)
	}
}

// A client that goes away ends the engine's request at once; one that only stands still keeps it.
func TestClients(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("h2=%t", h2), func(t *testing.T) {
			gone := make(chan time.Time, 1) // of one request after the other
			w := newWeb(t, func(rw http.ResponseWriter, r *http.Request) {
				block := make([]byte, 64<<10)
				for {
					if _, err := rw.Write(block); err != nil || r.Context().Err() != nil {
						gone <- time.Now()
						return
					}
				}
			})
			transport := w.client.Transport.(*http.Transport)
			transport.ForceAttemptHTTP2 = h2
			if !h2 {
				transport.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
			}
			pace.Within(t, 2*time.Second, func() time.Duration {
				closed := w.standStillAndLeave(t, h2, gone)
				select {
				case at := <-gone:
					return at.Sub(closed)
				case <-time.After(time.Minute):
					t.Fatal("the engine did not notice that the client is gone")
				}
				return 0
			})
		})
	}
}

// standStillAndLeave begins to read what the engine sends, pauses, goes on, and returns when it hung up.
func (w *web) standStillAndLeave(t *testing.T, h2 bool, gone <-chan time.Time) (closed time.Time) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", "https://"+w.address+api.CaptureURLPath, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("admin", password)
	resp, err := w.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if want := map[bool]int{false: 1, true: 2}[h2]; resp.ProtoMajor != want {
		t.Fatalf("HTTP/%d, want %d", resp.ProtoMajor, want)
	}
	if _, err := io.ReadFull(resp.Body, make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	select {
	case <-gone:
		t.Fatal("a client that stands still was given up")
	case <-time.After(300 * time.Millisecond):
	}
	// Reading goes on where it stood.
	if _, err := io.ReadFull(resp.Body, make([]byte, 8<<20)); err != nil {
		t.Fatal(err)
	}
	closed = time.Now()
	cancel()
	resp.Body.Close()
	return closed
}

// A client that takes nothing for as long as is set is given up, and so is the engine's request.
func TestStall(t *testing.T) {
	gone := make(chan struct{})
	w := newWeb(t, func(rw http.ResponseWriter, r *http.Request) {
		defer close(gone)
		for block := make([]byte, 64<<10); r.Context().Err() == nil; {
			if _, err := rw.Write(block); err != nil {
				return
			}
		}
	})
	f := newForward(w.options.Run)
	defer f.close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	front := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		f.serve(api.ServiceEngine, 300*time.Millisecond, rw, r)
	})}
	served := make(chan error, 1)
	go func() { served <- front.Serve(l) }()
	defer func() { front.Close(); <-served }()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	begun := time.Now()
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", api.CaptureURLPath)
	select {
	case <-gone:
		if took := time.Since(begun); took < 300*time.Millisecond {
			t.Errorf("given up after %s", took)
		}
	case <-time.After(time.Minute):
		t.Error("a client that takes nothing is kept")
	}
}

// What an engine that dies in the middle sent does not look whole.
func TestEngineDiesInAStream(t *testing.T) {
	w := newWeb(t, func(rw http.ResponseWriter, r *http.Request) {
		rw.Write(make([]byte, 1000))
		http.NewResponseController(rw).Flush()
		panic(http.ErrAbortHandler)
	})
	req, _ := http.NewRequest("GET", "https://"+w.address+api.CaptureURLPath, nil)
	req.SetBasicAuth("admin", password)
	resp, err := w.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); err == nil {
		t.Errorf("%d bytes were read to a proper end", len(b))
	}
}

// BenchmarkStream is a download through TLS and the unix socket, all three processes' work in one.
func BenchmarkStream(b *testing.B) {
	const size = 64 << 20
	for _, h2 := range []bool{false, true} {
		b.Run(fmt.Sprintf("h2=%t", h2), func(b *testing.B) {
			block := make([]byte, 256<<10)
			w := newWeb(b, func(rw http.ResponseWriter, r *http.Request) {
				for range size / len(block) {
					rw.Write(block)
				}
			})
			transport := w.client.Transport.(*http.Transport)
			if transport.ForceAttemptHTTP2 = h2; !h2 {
				transport.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
			}
			b.SetBytes(size)
			for b.Loop() {
				req, err := http.NewRequestWithContext(b.Context(), "GET", "https://"+w.address+api.CaptureURLPath, nil)
				if err != nil {
					b.Fatal(err)
				}
				req.SetBasicAuth("admin", password)
				resp, err := w.client.Do(req)
				if err != nil {
					b.Fatal(err)
				}
				if n, err := io.Copy(io.Discard, resp.Body); n != size || err != nil {
					b.Fatal(n, err)
				}
				resp.Body.Close()
			}
		})
	}
}

// A host service that hangs holds up nobody who wants something of the engine.
func TestHangingHost(t *testing.T) {
	w := newWeb(t, echo)
	auth := []string{"Authorization", basic("admin", password)}
	w.do("GET", api.GetStatus.Path, "", auth...)
	w.mu.Lock() // which is how the host service of these tests hangs; the device is looked at every two seconds
	asked := make(chan struct{})
	for range 4 {
		go func() { w.do("GET", api.GetStatus.Path, "", auth...); asked <- struct{}{} }()
	}
	pace.Within(t, time.Second, func() (longest time.Duration) {
		for begun := time.Now(); time.Since(begun) < 3*time.Second; time.Sleep(50 * time.Millisecond) {
			at := time.Now()
			if a := w.do("GET", api.ListCaptures.Path, "", auth...); a.status != http.StatusOK {
				t.Fatalf("the engine's answer is %d %s", a.status, a.body)
			}
			longest = max(longest, time.Since(at))
		}
		return longest
	})
	for range 4 {
		<-asked
	}
	w.mu.Unlock()
}
