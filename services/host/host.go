// Package host is the process with the rights that capturing needs: it owns the configuration file, finds and prepares the NICs, opens packet sockets
// for the engine, and answers the API's part about configuration and machine on a unix socket.
//
// It never reads a captured byte, and listens on no network. The ports of an engine are looked after by one goroutine, which lists the machine's
// links once a second and whenever netlink says that something changed; so a lost netlink message costs at most a second.
package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"galvo/board"
	"galvo/services/api"
	"galvo/services/internal/disk"
	"galvo/services/internal/handover"
)

// Options are what the process is started with.
type Options struct {
	Config     string   // the configuration file
	Run        string   // runtime directory, with the sockets
	State      string   // directory for what must be remembered
	Storage    string   // directory below which storage devices lie and are mounted: the state directory of all services; empty is none
	Interfaces []string // links to capture from instead of the configuration's ports
	Listen     []string // where the device's services listen, as ADDRESS:PORT
	EngineUser int      // the only user that gets sockets
	WebUser    int      // the only user, beside the process's own, that may call the API
	Instance   uint64   // see handover.Config
	Version    string
	Built      time.Time    // of the program's sources: it cannot be earlier; zero is unknown
	Appliance  bool         // the machine is Galvo's alone: its name, its clock and every port
	Board      *board.Board // of the appliance: what its NICs are for; nil is unknown
	Cgroups    string       // folder with a control group for each service, by its name; empty is none
	Management string       // link that is managed where the configuration names none: its name, MAC or PCI address; empty is none
}

// Run serves until ctx is done. A configuration file that cannot be understood is an error that names the line.
func Run(ctx context.Context, o Options) error {
	store, err := openConfig(ctx, o)
	if err != nil {
		return err
	}
	engines, err := handover.Listen(handover.Path(o.Run), o.EngineUser)
	if err != nil {
		return err
	}
	calls, err := api.Listen(api.SocketPath(o.Run, api.ServiceHost), o.WebUser, os.Getuid())
	if err != nil {
		engines.Close()
		return err
	}
	storage, err := newStorage(o, store, disk.Local())
	if err != nil {
		return errors.Join(err, engines.Close(), calls.Close())
	}
	keeper, err := newKeeper(o, store, storage)
	if err != nil {
		return errors.Join(err, engines.Close(), calls.Close())
	}
	storage.changed = keeper.poke
	trial, err := openTrial(store, filepath.Join(o.State, "unconfirmed.toml"), keeper.poke, keeper.managed)
	if err != nil {
		return errors.Join(err, engines.Close(), calls.Close())
	}
	defer trial.close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	server := &http.Server{
		Handler: (&service{store: store, keeper: keeper, storage: storage, trial: trial, version: o.Version,
			firmware: firmware{device: appliance()}, init: api.InitPath}).handler(),
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          slog.NewLogLogger(slog.Default().Handler(), slog.LevelDebug),
	}
	keeper.introduce() // nobody who asks for the device's name is to hear another one first
	var running sync.WaitGroup
	running.Go(func() { watch(ctx, keeper.wake) })
	running.Go(func() { keeper.run(ctx) })
	running.Go(func() { storage.run(ctx) })
	running.Go(func() { keeper.management.Run(ctx) })
	running.Go(func() { keeper.clocks.Run(ctx) })
	running.Go(func() { cancel(fmt.Errorf("accept engines: %w", acceptAll(ctx, engines, keeper))) })
	running.Go(func() { cancel(fmt.Errorf("serve the API: %w", server.Serve(calls))) })
	<-ctx.Done()
	engines.Close()
	server.Close()
	running.Wait()
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// acceptAll makes each engine that connects known to the keeper, until the listener is closed.
func acceptAll(ctx context.Context, l *handover.Listener, k *keeper) error {
	var conversations sync.WaitGroup
	defer conversations.Wait()
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		stop := context.AfterFunc(ctx, func() { c.Close() })
		conversations.Go(func() {
			defer stop()
			k.converse(ctx, c)
		})
	}
}
