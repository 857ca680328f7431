package rescue

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/u-root/u-root/pkg/core"
	"github.com/u-root/u-root/pkg/core/base64"
	"github.com/u-root/u-root/pkg/core/cat"
	"github.com/u-root/u-root/pkg/core/chmod"
	"github.com/u-root/u-root/pkg/core/cp"
	"github.com/u-root/u-root/pkg/core/find"
	"github.com/u-root/u-root/pkg/core/gzip"
	"github.com/u-root/u-root/pkg/core/ls"
	"github.com/u-root/u-root/pkg/core/mkdir"
	"github.com/u-root/u-root/pkg/core/mktemp"
	"github.com/u-root/u-root/pkg/core/mv"
	"github.com/u-root/u-root/pkg/core/rm"
	"github.com/u-root/u-root/pkg/core/shasum"
	"github.com/u-root/u-root/pkg/core/tar"
	"github.com/u-root/u-root/pkg/core/touch"
	"github.com/u-root/u-root/pkg/core/xargs"
	"golang.org/x/sys/unix"
	"mvdan.cc/sh/v3/interp"
)

// A command runs inside this process. The error says what is wrong.
type command struct {
	summary string
	run     func(ctx context.Context, h interp.HandlerContext, args []string) error
}

// commands are by name.
type commands map[string]command

func (o Options) commands() commands {
	c := commands{
		"ps":       {"list the processes", listProcesses},
		"kill":     {"[-SIGNAL] PID...: send a signal, 15 if none is named", kill},
		"links":    {"list the links of the machine with their addresses", listLinks},
		"dmesg":    {"show the kernel's messages", showKernelLog},
		"log":      {"host|engine|web|init: show what a service said last", o.initCommand("log")},
		"reboot":   {"start the device again, in order", o.initCommand("reboot")},
		"poweroff": {"switch the device off, in order", o.initCommand("poweroff")},
	}
	for name, make := range map[string]func() core.Command{
		"base64": base64.New, "cat": cat.New, "chmod": chmod.New, "cp": cp.New, "find": find.New, "ls": ls.New, "mkdir": mkdir.New, "mktemp": mktemp.New,
		"mv": mv.New, "rm": rm.New, "shasum": shasum.New, "tar": tar.New, "touch": touch.New, "xargs": xargs.New,
		"gzip": func() core.Command { return gzip.New("gzip") }, "gunzip": func() core.Command { return gzip.New("gunzip") },
	} {
		c[name] = command{"", wrap(make)}
	}
	c["help"] = command{"list the commands", func(_ context.Context, h interp.HandlerContext, _ []string) error { return c.help(h.Stdout) }}
	return c
}

// handler runs the commands that are here, and other programs of the image as processes.
func (c commands) handler(next interp.ExecHandlerFunc) interp.ExecHandlerFunc {
	return func(ctx context.Context, args []string) error {
		h := interp.HandlerCtx(ctx)
		known, ok := c[args[0]]
		if !ok {
			return next(ctx, args)
		}
		if err := known.run(ctx, h, args[1:]); err != nil {
			fmt.Fprintf(h.Stderr, "%s: %v\n", args[0], err)
			return interp.NewExitStatus(1)
		}
		return nil
	}
}

func wrap(make func() core.Command) func(context.Context, interp.HandlerContext, []string) error {
	return func(ctx context.Context, h interp.HandlerContext, args []string) error {
		c := make()
		c.SetIO(h.Stdin, h.Stdout, h.Stderr)
		c.SetWorkingDir(h.Dir)
		c.SetLookupEnv(func(name string) (string, bool) { v := h.Env.Get(name); return v.String(), v.IsSet() })
		return c.RunContext(ctx, args...)
	}
}

func (c commands) help(w io.Writer) error {
	var core []string
	for _, name := range slices.Sorted(maps.Keys(c)) {
		if c[name].summary == "" {
			core = append(core, name)
			continue
		}
		fmt.Fprintf(w, "  %-9s %s\n", name, c[name].summary)
	}
	_, err := fmt.Fprintf(w, "  and, as on any Linux: %s\n", strings.Join(core, " "))
	return err
}

func (o Options) initCommand(name string) func(context.Context, interp.HandlerContext, []string) error {
	return func(_ context.Context, h interp.HandlerContext, args []string) error {
		text, err := o.Init(strings.Join(append([]string{name}, args...), " "))
		if err == nil {
			_, err = io.WriteString(h.Stdout, text)
		}
		return err
	}
}

func listProcesses(_ context.Context, h interp.HandlerContext, _ []string) error {
	found, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return err
	}
	var pids []int
	for _, path := range found {
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	for _, pid := range pids {
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err != nil || len(line) == 0 {
			continue // it has ended, or belongs to the kernel
		}
		fmt.Fprintf(h.Stdout, "%7d  %s\n", pid, strings.TrimSpace(strings.ReplaceAll(string(line), "\x00", " ")))
	}
	return nil
}

func kill(_ context.Context, _ interp.HandlerContext, args []string) error {
	signal := unix.SIGTERM
	if len(args) > 0 && strings.HasPrefix(args[0], "-") {
		name := strings.ToUpper(args[0][1:])
		if n, err := strconv.Atoi(name); err == nil {
			signal = syscall.Signal(n)
		} else if signal = unix.SignalNum("SIG" + strings.TrimPrefix(name, "SIG")); signal == 0 {
			return fmt.Errorf("there is no signal %q", name)
		}
		args = args[1:]
	}
	if len(args) == 0 {
		return fmt.Errorf("name a process: `ps` lists them")
	}
	for _, a := range args {
		pid, err := strconv.Atoi(a)
		if err != nil || pid <= 0 {
			return fmt.Errorf("%q is not a process", a)
		}
		if err := unix.Kill(pid, signal); err != nil {
			return fmt.Errorf("process %d: %w", pid, err)
		}
	}
	return nil
}

func listLinks(_ context.Context, h interp.HandlerContext, _ []string) error {
	links, err := net.Interfaces()
	for _, l := range links {
		addresses, _ := l.Addrs()
		fmt.Fprintf(h.Stdout, "%-12s %s %s %v\n", l.Name, l.HardwareAddr, l.Flags, addresses)
	}
	return err
}

// showKernelLog prints what /dev/kmsg has: "priority,number,microseconds,flags;text" (Documentation/ABI/testing/dev-kmsg).
func showKernelLog(_ context.Context, h interp.HandlerContext, _ []string) error {
	fd, err := unix.Open("/dev/kmsg", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for b := make([]byte, 8192); ; {
		n, err := unix.Read(fd, b)
		switch {
		case err == unix.EAGAIN:
			return nil
		case err == unix.EPIPE: // overwritten meanwhile
		case err != nil:
			return err
		default:
			head, text, _ := strings.Cut(string(b[:n]), ";")
			micros := 0
			if f := strings.Split(head, ","); len(f) > 2 {
				micros, _ = strconv.Atoi(f[2])
			}
			line, _, _ := strings.Cut(text, "\n")
			fmt.Fprintf(h.Stdout, "[%12.6f] %s\n", float64(micros)/1e6, line)
		}
	}
}
