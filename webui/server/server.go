// Package server is the process that the network sees: TLS, logins, roles, the page, and forwarding of everything else to the engine and the host
// service over their unix sockets.
//
// What a request may do is in the route table of package api. The process has no rights, opens no sockets of its own but unix ones, and
// keeps its state (certificate, users, tokens, sessions) in its directory.
package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Options are what the process is started with.
type Options struct {
	Listeners []net.Listener // inherited; TLS is spoken on them
	Redirect  net.Listener   // inherited, nil for none: plain HTTP, which is sent to the first of Listeners
	State     string         // directory of certificate, users, tokens and sessions
	Run       string         // runtime directory, with the sockets of the other services
	Names4    net.PacketConn // inherited, bound to the port of multicast DNS; nil is none
	Names6    net.PacketConn // likewise, for IPv6
	Addresses []string       // the machine's own, for the certificate
	Password  string         // of the user admin; empty keeps it, or makes one at first start and prints it on Stdout
	Page      fs.FS
	Stdout    io.Writer
	Version   string
	Patience  time.Duration // how long the start waits for the host service, whose settings it needs and whose name the certificate has
}

const maxRequestBytes = 1 << 20

// Run serves until ctx is done.
func Run(ctx context.Context, o Options) error {
	s, err := newServer(ctx, o)
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler:           s,
		TLSConfig:         s.certificates.tlsConfig(),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    256 << 10, // expressions come in the first line
		ErrorLog:          slog.NewLogLogger(slog.Default().Handler(), slog.LevelDebug),
		// A deadline of one stream does not end a write that blocks the whole connection. The setting of the start holds for all of them.
		HTTP2:       &http.HTTP2Config{MaxConcurrentStreams: 250, WriteByteTimeout: s.device.stall()},
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	own, stopOwn := context.WithCancel(ctx)
	defer stopOwn()
	var running sync.WaitGroup
	running.Go(func() { s.device.watch(own) })
	if s.names != nil {
		running.Go(func() { s.names.Run(own) })
	}
	for _, l := range o.Listeners {
		running.Go(func() {
			if err := server.ServeTLS(&listener{Listener: l}, "", ""); !errors.Is(err, http.ErrServerClosed) {
				s.failed <- fmt.Errorf("serve on %s: %w", l.Addr(), err)
			}
		})
	}
	plain := redirectServer(o)
	if plain != nil {
		running.Go(func() { plain.Serve(o.Redirect) })
	}
	select {
	case <-ctx.Done():
	case err = <-s.failed:
	}
	stopOwn()
	// Streams have ended with ctx; what is left gets a moment.
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	server.Shutdown(end)
	server.Close()
	if plain != nil {
		plain.Close()
	}
	running.Wait()
	s.forward.close()
	return err
}

// redirectServer returns what answers plain HTTP, or nil for none. It reads no body and keeps no connection.
func redirectServer(o Options) *http.Server {
	if o.Redirect == nil || len(o.Listeners) == 0 {
		return nil
	}
	port := ""
	if a, ok := o.Listeners[0].Addr().(*net.TCPAddr); ok && a.Port != 443 {
		port = strconv.Itoa(a.Port)
	}
	s := &http.Server{
		Handler:           http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { redirect(w, r, port) }),
		ReadHeaderTimeout: 10 * time.Second,
		WriteTimeout:      10 * time.Second,
		MaxHeaderBytes:    256 << 10,
		ErrorLog:          slog.NewLogLogger(slog.Default().Handler(), slog.LevelDebug),
	}
	s.SetKeepAlivesEnabled(false)
	return s
}

// redirect sends a request to the same host and path through TLS. A body is sent again with status 308 (RFC 9110, 15.4.9).
func redirect(w http.ResponseWriter, r *http.Request, port string) {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.Trim(host, "[]")
	if host == "" {
		http.Error(w, "the request has no Host", http.StatusBadRequest)
		return
	}
	switch {
	case port != "":
		host = net.JoinHostPort(host, port)
	case strings.Contains(host, ":"):
		host = "[" + host + "]"
	}
	target := url.URL{Scheme: "https", Host: host, Path: r.URL.Path, RawPath: r.URL.RawPath, RawQuery: r.URL.RawQuery, ForceQuery: r.URL.ForceQuery}
	http.Redirect(w, r, target.String(), http.StatusPermanentRedirect)
}
