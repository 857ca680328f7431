package sink

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"galvo/ci/pace"
)

func TestMain(m *testing.M) { os.Exit(pace.Main(m)) }

// serve answers one request with as much as its client takes, and returns why it took no more.
func serve(t *testing.T, stall time.Duration, client func(net.Conn, *HTTP)) *End {
	t.Helper()
	ended := make(chan error, 1)
	sinks := make(chan *HTTP, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s := NewHTTP(r.Context(), w, stall)
		sinks <- s
		b := make([]byte, 256<<10)
		var err error
		for err == nil {
			if _, err = s.Write(b); err == nil {
				err = s.Flush()
			}
		}
		ended <- err
		panic(http.ErrAbortHandler)
	}))
	defer server.Close()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	client(conn, <-sinks)
	select {
	case err := <-ended:
		var end *End
		if !errors.As(err, &end) {
			t.Fatalf("the sink ended with %v", err)
		}
		return end
	case <-time.After(2 * time.Minute):
		t.Fatal("the sink did not end")
	}
	return nil
}

func TestFrozenClient(t *testing.T) {
	start := time.Now()
	end := serve(t, time.Second, func(net.Conn, *HTTP) {})
	if took := time.Since(start); end.Words != "client took nothing for 1 second" || end.Failed || took < time.Second {
		t.Errorf("%+v after %v", end, took)
	}
}

// A client that reads slowly takes longer than the stall time for all of it, and stays.
func TestSlowClient(t *testing.T) {
	pace.Patiently(t, func(times time.Duration) error { // this client may wait for a processor, too
		stall := times * time.Second
		var ended error
		end := serve(t, stall, func(c net.Conn, s *HTTP) {
			b := make([]byte, 400<<10)
			for start := time.Now(); ended == nil && time.Since(start) < 2*stall; {
				time.Sleep(100 * time.Millisecond)
				_, ended = io.ReadFull(c, b)
			}
			c.Close()
		})
		if ended != nil || end.Words != "client disconnected" {
			return fmt.Errorf("the stream ended: %v, %+v", ended, end)
		}
		return nil
	})
}

func TestDeadClient(t *testing.T) {
	pace.Within(t, time.Second, func() time.Duration {
		var gone time.Time
		end := serve(t, time.Minute, func(c net.Conn, _ *HTTP) {
			time.Sleep(200 * time.Millisecond) // the sink blocks by now
			c.(*net.TCPConn).SetLinger(0)
			c.Close()
			gone = time.Now()
		})
		took := time.Since(gone)
		if end.Words != "client disconnected" {
			t.Errorf("%+v after %v", end, took)
		}
		return took
	})
}

func TestInterrupt(t *testing.T) {
	pace.Within(t, 2*time.Second, func() time.Duration {
		var at time.Time
		serve(t, time.Minute, func(_ net.Conn, s *HTTP) {
			time.Sleep(200 * time.Millisecond) // the sink blocks by now
			at = time.Now()
			s.Interrupt(at.Add(300 * time.Millisecond))
		})
		took := time.Since(at)
		if took < 250*time.Millisecond {
			t.Errorf("the sink ended after %v", took)
		}
		return took
	})
}

// A connection goes on to the next request without the deadlines of the last one.
func TestCloseLeavesNoDeadline(t *testing.T) {
	pace.Patiently(t, closeLeavesNoDeadline)
}

// closeLeavesNoDeadline sends what is to be sent in 100 ms, so many times as long.
func closeLeavesNoDeadline(times time.Duration) error {
	sinks := make(chan *HTTP, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/next" {
			time.Sleep(times * 300 * time.Millisecond)
			io.WriteString(w, "still here")
			return
		}
		s := NewHTTP(r.Context(), w, times*200*time.Millisecond)
		s.Write([]byte("packets"))
		s.Interrupt(time.Now().Add(times * 100 * time.Millisecond))
		s.Flush()
		s.Close()
		sinks <- s
	}))
	defer server.Close()
	for _, path := range []string{"/", "/next"} {
		resp, err := server.Client().Get(server.URL + path)
		if err != nil {
			return err
		}
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || path == "/next" && string(b) != "still here" {
			return fmt.Errorf("%s: %q, %w", path, b, err)
		}
		if path == "/" {
			(<-sinks).Interrupt(time.Now())
		}
	}
	return nil
}

func TestWords(t *testing.T) {
	for d, want := range map[time.Duration]string{10 * time.Minute: "10 minutes", time.Minute: "1 minute", 90 * time.Second: "90 seconds", time.Second: "1 second"} {
		if got := words(d); got != want {
			t.Errorf("words(%v) = %s, want %s", d, got, want)
		}
	}
}

type short struct{}

func (short) Write(b []byte) (int, error) { return len(b) / 2, nil }

func TestWriter(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	r, pipe, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	defer pipe.Close()
	for _, c := range []struct {
		w      io.Writer
		words  string
		failed bool
		n      int
	}{
		{full, "no space left on the storage", true, 0},
		{pipe, "the reader of the output is gone", false, 0},
		{short{}, "write x: short write", true, 5},
	} {
		n, err := NewWriter(c.w, "x").Write(make([]byte, 10))
		var end *End
		if !errors.As(err, &end) || end.Words != c.words || end.Failed != c.failed || n != c.n {
			t.Errorf("Write = %d, %+v, want %d, %s", n, err, c.n, c.words)
		}
	}
}

// A pipe that nobody reads can be interrupted.
func TestWriterInterrupt(t *testing.T) {
	r, pipe, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer pipe.Close()
	s := NewWriter(pipe, "pipe")
	go func() {
		r.Read(make([]byte, 1)) // something was written
		s.Interrupt(time.Now())
	}()
	n, err := s.Write(make([]byte, 1<<20))
	var end *End
	if !errors.As(err, &end) || end.Words != "the reader of the output took nothing" || n == 0 {
		t.Errorf("Write = %d, %v", n, err)
	}
}
