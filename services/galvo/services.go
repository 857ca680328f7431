package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"galvo/board"
	"galvo/services/engine"
	"galvo/services/host"
	"galvo/services/internal/ring/uring"
	"galvo/services/internal/sandbox"
	"galvo/services/supervise"
	"galvo/webui"
	"galvo/webui/server"
)

// A list is a flag that may be given several times.
type list []string

func (l *list) String() string { return strings.Join(*l, ",") }

func (l *list) Set(s string) error {
	*l = append(*l, s)
	return nil
}

// numbers is a flag with numbers that commas separate.
type numbers []int

func (n *numbers) String() string { return fmt.Sprint(*n) }

func (n *numbers) Set(s string) error {
	for _, field := range strings.Split(s, ",") {
		i, err := strconv.Atoi(field)
		if err != nil {
			return err
		}
		*n = append(*n, i)
	}
	return nil
}

// noArguments parses the flags of a role that takes nothing else.
func noArguments(f *flag.FlagSet, args []string) error {
	rest, err := parse(f, args)
	if err == nil && len(rest) > 0 {
		return wrongUsage("unexpected argument %q", rest[0])
	}
	return err
}

// run supervises the services in the foreground.
func run(ctx context.Context, args []string) error {
	o := supervise.Options{Stdout: os.Stdout, Stderr: os.Stderr}
	f := flag.NewFlagSet("run", flag.ContinueOnError)
	f.StringVar(&o.Config, "config", "", "configuration `file`; it is made with its defaults if it is not there (default config.toml in the state directory)")
	f.StringVar(&o.State, "state", defaultState(), "state `directory`")
	f.Var((*list)(&o.Interfaces), "interface", "`name` of an interface to capture from, instead of the configuration's ports; may be given several times")
	f.StringVar(&o.Listen, "listen", supervise.DefaultListen, "`address` to serve the page and the API at")
	f.BoolVar(&o.Appliance, "appliance", false, "the machine is Galvo's alone: its name, its clock and every port")
	f.StringVar(&o.Management, "management", "", "`link` to look after as management port where the configuration names none: its name, MAC or PCI address")
	if err := noArguments(f, args); err != nil {
		return err
	}
	for i, name := range o.Interfaces {
		switch {
		case name == "":
			return wrongUsage("-interface needs the name of an interface: `ip link` shows them")
		case slices.Contains(o.Interfaces[:i], name):
			return wrongUsage("-interface %s is given twice: each frame would come twice", name)
		}
	}
	return supervise.Run(ctx, o)
}

// defaultState is where root's services keep their state, and elsewhere where a user's programs do.
func defaultState() string {
	if os.Geteuid() == 0 {
		return "/var/lib/galvo"
	}
	if dir := os.Getenv("XDG_STATE_HOME"); dir != "" {
		return dir + "/galvo"
	}
	return os.Getenv("HOME") + "/.local/state/galvo"
}

func runHost(ctx context.Context, args []string) error {
	o := host.Options{State: ".", Storage: "..", Version: version, Built: built()} // it runs in its own part of the state
	f := flag.NewFlagSet("host", flag.ContinueOnError)
	f.StringVar(&o.Config, "config", "", "configuration `file`")
	f.StringVar(&o.Run, "run", "", "runtime `directory`")
	f.Var((*list)(&o.Interfaces), "interface", "`name` of an interface to capture from")
	f.Var((*list)(&o.Listen), "listen", "`address` at which the services listen")
	f.IntVar(&o.EngineUser, "engine-user", -1, "`uid` of the engine")
	f.IntVar(&o.WebUser, "web-user", -1, "`uid` of the web service")
	f.Uint64Var(&o.Instance, "instance", 0, "`number` of this run")
	f.BoolVar(&o.Appliance, "appliance", false, "the machine is Galvo's alone: its name, its clock and every port")
	f.StringVar(&o.Cgroups, "cgroups", "", "`folder` with the services' control groups")
	f.StringVar(&o.Management, "management", "", "`link` to manage the device through where the configuration names none: its name, MAC or PCI address")
	if err := noArguments(f, args); err != nil {
		return err
	}
	if err := sandbox.Enter(sandbox.Host()); err != nil {
		return err
	}
	if o.Appliance {
		o.Board = readBoard()
	}
	return host.Run(ctx, o)
}

// readBoard returns the appliance's board. If the image has none that can be used, the configuration says which NICs are captured from.
func readBoard() *board.Board {
	b, err := board.Read(board.Path)
	if err != nil {
		slog.Error("the board is unknown: name the ports in the configuration", "error", err)
		return board.Fallback()
	}
	return b
}

func runEngine(ctx context.Context, args []string) error {
	o := engine.Options{State: ".", Version: version}
	f := flag.NewFlagSet("engine", flag.ContinueOnError)
	f.StringVar(&o.Run, "run", "", "runtime `directory`")
	f.Var((*numbers)(&o.Callers), "callers", "`uids` that may call the API")
	user, group := identity(f)
	if err := noArguments(f, args); err != nil {
		return err
	}
	// From within the sandbox none can be made.
	uring, err := uring.New(func(err error) { slog.Warn("rings are written with pwrite", "error", err) })
	if err != nil {
		slog.Info("rings are written with pwrite", "reason", err)
	}
	o.Uring = uring
	if err := sandbox.Enter(sandbox.Engine(*user, *group)); err != nil {
		return err
	}
	return engine.Run(ctx, o)
}

// hostPatience is how long web waits for the host service at its start. Both are started at once.
const hostPatience = 10 * time.Second

func runWeb(ctx context.Context, args []string) error {
	o := server.Options{State: ".", Page: webui.Bundle(), Stdout: os.Stdout, Password: os.Getenv(supervise.PasswordVariable), Version: version, Patience: hostPatience}
	f := flag.NewFlagSet("web", flag.ContinueOnError)
	f.StringVar(&o.Run, "run", "", "runtime `directory`")
	f.Var((*list)(&o.Addresses), "address", "`address` of the machine, for the certificate")
	redirect := f.Bool("redirect", false, "answer plain HTTP on the second inherited socket, and send it to the first")
	var names numbers
	f.Var(&names, "mdns", "`number` of an inherited socket to answer for the device's name with")
	user, group := identity(f)
	if err := noArguments(f, args); err != nil {
		return err
	}
	if err := sandbox.Enter(sandbox.Unprivileged(*user, *group)); err != nil {
		return err
	}
	for _, fd := range names {
		if err := inheritNames(&o, fd); err != nil {
			return err
		}
	}
	listener, err := inherit(3)
	if err != nil {
		return err
	}
	o.Listeners = []net.Listener{listener}
	if *redirect {
		if o.Redirect, err = inherit(4); err != nil {
			return err
		}
	}
	return server.Run(ctx, o)
}

// inherit takes over the listening socket that this process has from its parent.
func inherit(fd uintptr) (net.Listener, error) {
	inherited := os.NewFile(fd, "listener")
	defer inherited.Close()
	l, err := net.FileListener(inherited)
	if err != nil {
		return nil, fmt.Errorf("take over the listening socket %d: %w", fd, err)
	}
	return l, nil
}

// inheritNames takes over a socket for multicast DNS.
func inheritNames(o *server.Options, fd int) error {
	f := os.NewFile(uintptr(fd), "mdns")
	defer f.Close()
	c, err := net.FilePacketConn(f)
	if err != nil {
		return fmt.Errorf("take over the socket %d for names: %w", fd, err)
	}
	if a, ok := c.LocalAddr().(*net.UDPAddr); ok && a.IP.To4() != nil {
		o.Names4 = c
	} else {
		o.Names6 = c
	}
	return nil
}

// identity adds the flags that say as whom a service runs.
func identity(f *flag.FlagSet) (user, group *int) {
	return f.Int("user", -1, "`uid` to run as; negative is as before"), f.Int("group", -1, "`gid` to run as; negative is as before")
}

// built returns the time of the program's commit, or none if it was built without one.
func built() time.Time {
	if seconds, err := strconv.ParseInt(commit, 10, 64); err == nil {
		return time.Unix(seconds, 0)
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return time.Time{}
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.time" {
			t, _ := time.Parse(time.RFC3339, s.Value)
			return t
		}
	}
	return time.Time{}
}
