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
	"sync"
	"time"
)

// Options are what the process is started with.
type Options struct {
	Listeners []net.Listener // inherited; TLS is spoken on them
	State     string         // directory of certificate, users, tokens and sessions
	Run       string         // runtime directory, with the sockets of the other services
	Names4    net.PacketConn // inherited, bound to the port of multicast DNS; nil is none
	Names6    net.PacketConn // likewise, for IPv6
	Addresses []string       // the machine's own, for the certificate
	Password  string         // of the user admin; empty keeps it, or makes one at first start and prints it on Stdout
	Page      fs.FS
	Stdout    io.Writer
	Version   string
}

const maxRequestBytes = 1 << 20

// Run serves until ctx is done.
func Run(ctx context.Context, o Options) error {
	s, err := newServer(o)
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
			if err := server.ServeTLS(l, "", ""); !errors.Is(err, http.ErrServerClosed) {
				s.failed <- fmt.Errorf("serve on %s: %w", l.Addr(), err)
			}
		})
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
	running.Wait()
	s.forward.close()
	return err
}
