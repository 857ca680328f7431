package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"sync"
	"time"

	"galvo/services/api"
)

const (
	// copyBytes is what a stream is copied with: 256 KiB cost a fifth less CPU per byte than the default.
	copyBytes = 256 << 10
	// writeBytes is how much is written under one deadline, so that a slow client that makes progress is not taken for one that stands still.
	writeBytes = 128 << 10
)

// forward sends requests to the services' unix sockets.
type forward struct {
	transports map[api.Service]*http.Transport
	proxies    map[api.Service]*httputil.ReverseProxy
}

func newForward(run string) *forward {
	f := &forward{map[api.Service]*http.Transport{}, map[api.Service]*httputil.ReverseProxy{}}
	buffers := &bufferPool{sync.Pool{New: func() any { return new([copyBytes]byte) }}}
	for _, service := range []api.Service{api.ServiceEngine, api.ServiceHost} {
		t := api.Transport(api.SocketPath(run, service))
		t.ReadBufferSize = 64 << 10
		t.MaxIdleConnsPerHost = 16
		f.transports[service] = t
		f.proxies[service] = &httputil.ReverseProxy{
			Transport:     t,
			BufferPool:    buffers,
			FlushInterval: -1,
			Rewrite:       rewrite,
			ErrorHandler:  func(w http.ResponseWriter, r *http.Request, err error) { unavailable(w, r, service, err) },
			ErrorLog:      log.New(debugLog{}, "", 0),
		}
	}
	return f
}

// rewrite addresses the service. The query goes on byte for byte: the capture URL has a reader of its own for what ReverseProxy would
// throw away as unparsable. What is a secret here stays here. So does what a client expects before it sends its body: web gives it leave, and a net/http server that
// was to do so hangs up on the rest of a body that it refuses, so that its answer may be lost.
func rewrite(p *httputil.ProxyRequest) {
	p.Out.URL.Scheme, p.Out.URL.Host, p.Out.Host = "http", "galvo", "galvo"
	p.Out.URL.Path, p.Out.URL.RawPath = p.In.URL.Path, p.In.URL.RawPath
	p.Out.URL.RawQuery, p.Out.URL.ForceQuery = p.In.URL.RawQuery, p.In.URL.ForceQuery
	for _, h := range []string{"Authorization", "Cookie", "Origin", "Referer", "Expect"} {
		p.Out.Header.Del(h)
	}
	for h, v := range callerHeaders(p.In.Context()) {
		p.Out.Header[h] = v
	}
}

// unavailable answers for a service that does not.
func unavailable(w http.ResponseWriter, r *http.Request, service api.Service, err error) {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		api.WriteError(w, &api.Error{Text: "the request is larger than 1 MiB", Kind: api.TooLarge})
		return
	}
	var broken *bodyError
	if errors.As(err, &broken) {
		api.WriteError(w, &api.Error{Text: fmt.Sprintf("the body of the request breaks off, or is not what its head says: %v", broken.err), Kind: api.BadRequest})
		return
	}
	if r.Context().Err() != nil { // as a rule nobody reads this
		api.WriteError(w, &api.Error{Text: "the connection was closed, or its sending side, before there was an answer: keep it open", Kind: api.BadRequest})
		return
	}
	slog.Warn("a service does not answer", "service", service, "error", err)
	w.Header().Set("Retry-After", "2")
	api.WriteError(w, &api.Error{
		Text: "the service " + string(service) + " does not answer; it is started again by itself, so try again in a few seconds, and see the log if it stays away",
		Kind: api.Unavailable,
	})
}

func (f *forward) close() {
	for _, t := range f.transports {
		t.CloseIdleConnections()
	}
}

// get asks a service something on this process's own account.
func (f *forward) get(service api.Service, path string) ([]byte, error) {
	client := &http.Client{Transport: f.transports[service], Timeout: 2 * time.Second}
	resp, err := client.Get("http://galvo" + path)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, api.ReadError(resp)
	}
	return io.ReadAll(io.LimitReader(resp.Body, 4*maxRequestBytes))
}

// serve lets a service answer. The client must take something of the answer within stall.
func (f *forward) serve(service api.Service, stall time.Duration, w http.ResponseWriter, r *http.Request) {
	control := http.NewResponseController(w)
	// The connection's next request begins without a deadline.
	defer control.SetWriteDeadline(time.Time{})
	upload, _ := r.Body.(*body) // others are small
	f.proxies[service].ServeHTTP(&deadlineWriter{ResponseWriter: w, control: control, stall: stall, body: upload}, r)
}

// A bufferPool lends the buffers that streams are copied with.
type bufferPool struct{ pool sync.Pool }

func (p *bufferPool) Get() []byte  { return p.pool.Get().(*[copyBytes]byte)[:] }
func (p *bufferPool) Put(b []byte) { p.pool.Put((*[copyBytes]byte)(b)) }

// A deadlineWriter gives every write so long until it must have made progress.
type deadlineWriter struct {
	http.ResponseWriter
	control *http.ResponseController
	stall   time.Duration
	body    *body // of the request; nil if nobody waits for it
}

func (w *deadlineWriter) Write(b []byte) (n int, err error) {
	for len(b) > 0 && err == nil {
		w.control.SetWriteDeadline(time.Now().Add(w.stall))
		var m int
		m, err = w.ResponseWriter.Write(b[:min(len(b), writeBytes)])
		n, b = n+m, b[m:]
	}
	return n, err
}

// WriteHeader gives the rest of a body that was not wanted to its end some time, and no more: net/http looks for it before it sends the head of the answer, and whoever
// sends it may stand still.
func (w *deadlineWriter) WriteHeader(status int) {
	if w.body != nil && !w.body.over.Load() && status >= http.StatusOK {
		w.control.SetReadDeadline(time.Now().Add(drainTime))
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *deadlineWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// debugLog takes what ReverseProxy says about clients that went away.
type debugLog struct{}

func (debugLog) Write(b []byte) (int, error) {
	slog.Debug("forward", "text", string(b))
	return len(b), nil
}

type callerKey struct{}

// A caller is whom a request is answered for.
type caller struct {
	user   string
	role   api.Role
	client string // address and port
}

func withCaller(ctx context.Context, c caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// callerHeaders returns the headers that tell a service who asks. Those that came from outside were removed.
func callerHeaders(ctx context.Context) http.Header {
	c, _ := ctx.Value(callerKey{}).(caller)
	h := http.Header{}
	h.Set("Galvo-User", c.user)
	h.Set("Galvo-Client", c.client)
	return h
}
