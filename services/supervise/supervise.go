// Package supervise runs the product in the foreground: it starts host, engine and web as processes of the one binary, starts them again when they
// end, and stops them in reverse order.
//
// It listens on the network for web, which inherits the socket, makes the directories with the owners that the roles need, and says when
// requests are answered. It reads nothing from the network itself, apart from the answer to its own request at the start.
package supervise

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"time"

	"galvo/services/api"
)

// Options are what `galvo run` is called with.
type Options struct {
	Config     string   // the configuration file; empty is config.toml in State
	State      string   // the state directory; it is made if it is not there
	Interfaces []string // links to capture from instead of the configuration's ports
	Listen     string   // address and port; empty is :8443
	Redirect   string   // address and port where plain HTTP is sent to Listen; empty is nowhere
	Init       *Init    // nil outside init
	Appliance  bool     // the machine is Galvo's alone
	Management string   // link to manage the device through where the configuration names none; see host.Options
	Stdout     io.Writer
	Stderr     io.Writer

	binary string   // for tests: the program to start instead of this one
	env    []string // for tests: added to the environment of every service
}

// DefaultListen is where the page is served unless something else is asked for.
const DefaultListen = ":8443"

// Run serves until ctx is done. It returns an error if a service cannot be started the first time, and nil after an orderly end.
func Run(ctx context.Context, o Options) error {
	if o.Listen == "" {
		o.Listen = DefaultListen
	}
	places, err := prepare(o.State, o.Config)
	if err != nil {
		return err
	}
	defer places.close()
	l, err := listen(ctx, o.Listen)
	if err != nil {
		return err
	}
	defer l.Close()
	sockets := []net.Listener{l}
	if o.Redirect != "" {
		r, err := listen(ctx, o.Redirect)
		if err != nil {
			return err
		}
		defer r.Close()
		sockets = append(sockets, r)
	}
	for _, lack := range places.lacks() {
		slog.Warn(lack)
	}
	return serve(ctx, o, places, sockets)
}

// serve starts the services in order, says that they are there, and stops them in reverse order.
func serve(ctx context.Context, o Options, places *places, listeners []net.Listener) error {
	var sockets []*os.File
	for _, l := range listeners {
		f, err := l.(*net.TCPListener).File()
		if err != nil {
			return fmt.Errorf("pass the listening socket on: %w", err)
		}
		defer f.Close()
		sockets = append(sockets, f)
	}
	bound := listeners[0].Addr().(*net.TCPAddr)
	run, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	services := roles(o, places, bound, instance(), sockets)
	if places.managed(o) {
		web := services[len(services)-1]
		for _, f := range nameSockets(ctx) {
			defer f.Close()
			web.args = append(web.args, "-mdns", fmt.Sprint(3+len(web.files)))
			web.files = append(web.files, f)
		}
	}
	for _, s := range services {
		if run.Err() != nil {
			break
		}
		stop := s.start(context.WithoutCancel(ctx), o, fail)
		// Deferred calls end the last service first.
		defer stop()
		if o.Init != nil {
			continue // side by side: a machine's start is waited for
		}
		// A person who has to put something right is told that, and nothing else.
		if err := s.awaitSocket(run); err != nil {
			fail(err)
		}
	}
	if err := announce(run, o, places, bound); err != nil {
		fail(err)
	}
	for _, s := range services {
		s.started.Store(true)
	}
	<-run.Done()
	if ctx.Err() != nil {
		return nil
	}
	return context.Cause(run)
}

// instance returns a number that no other run has.
func instance() uint64 {
	var b [8]byte
	rand.Read(b[:])
	return binary.NativeEndian.Uint64(b[:])
}

// listen opens the socket that web inherits. Multipath TCP stays off: filters that know TCP do not know it.
func listen(ctx context.Context, address string) (net.Listener, error) {
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	l, err := lc.Listen(ctx, "tcp", address)
	switch {
	case errors.Is(err, errInUse):
		return nil, fmt.Errorf("another program listens on %s: end it, or choose another address with -listen", address)
	case errors.Is(err, os.ErrPermission):
		return nil, fmt.Errorf("listening on %s needs root: choose a port from 1024 on with -listen", address)
	case err != nil:
		return nil, fmt.Errorf("listen on %s: %w; -listen takes ADDRESS:PORT, as in :8443 or 127.0.0.1:8443", address, err)
	}
	return l, nil
}

// announceTimeout is how long the ready line waits for ports. It comes then all the same: the page says what is wrong.
const announceTimeout = 8 * time.Second

// boardTimeout is likewise, on an appliance whose configuration names no ports: there are those that the board says, or none.
const boardTimeout = 2 * time.Second

// announce waits until requests are answered and the engine knows its ports, and prints the ready line.
func announce(ctx context.Context, o Options, places *places, bound *net.TCPAddr) error {
	local, shown := urls(bound)
	probe := Probe{page: local, engine: api.SocketPath(places.run, api.ServiceEngine)}
	o.Init.serving(probe)
	if err := awaitPage(ctx, probe, o.Init != nil); err != nil {
		return err
	}
	ports, least, timeout := places.portCount(o.Interfaces), 0, announceTimeout
	if o.Init != nil && ports == 0 {
		least, timeout = 1, boardTimeout
	}
	late, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var list []api.Port
	err := poll(late, func() (err error) {
		list, err = probe.Engine(late)
		if err == nil && len(list) < max(ports, least) {
			err = fmt.Errorf("the engine has %d of %d ports", len(list), ports)
		}
		return err
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	switch {
	case ports == 0 && len(list) == 0:
		slog.Warn(noPorts(o.Init != nil))
	case err != nil:
		slog.Warn("not everything is there", "error", err)
	}
	_, err = fmt.Fprintf(o.Stdout, "ready https://%s\n", shown)
	return err
}

func noPorts(appliance bool) string {
	if appliance {
		return "there are no ports to capture from: name one in the configuration, as [[port]] name = \"NAME\""
	}
	return "there are no ports to capture from: name one with -interface NAME (`ip link` shows the names), or in the configuration as [[port]] name = \"NAME\""
}
