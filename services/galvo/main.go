// Command galvo is the network multimeter: one binary whose first argument, or the name it is called by, picks the role.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	_ "time/tzdata" // appliances have no zoneinfo
)

// Set by the linker: the version, and the time of the commit in seconds since 1970.
var (
	version = "unknown"
	commit  = ""
)

// Exit codes of every role.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

// A role is what the binary can be.
type role struct {
	name     string
	synopsis string
	summary  string
	run      func(ctx context.Context, args []string) error
}

// roles returns the table of roles.
func roles() []role {
	return []role{
		{"run", "[-config FILE] [-state DIR] [-interface NAME]... [-listen ADDR]", "serve the page and capture from ports, in the foreground", run},
		{"read", "[-filter EXPR] [-w OUT] [-format pcapng|pcap|pcap-ns] [-snaplen N] [-undecided skip|hold] [-flows] [-config FILE] FILE...", "filter savefiles, or list their flows", read},
		{"filter", "EXPR", "check an expression and print its canonical form", checkFilter},
		{"capture", "-d URL [-u USER] [-filter EXPR] [-w OUT] [-duration D] [-max-bytes N] [-max-packets N] [-snaplen N] [-from TIME] [-to TIME] [-ring NAME] [-k]", "capture from a remote device", remoteCapture},
		{"firmware", firmwareSynopsis(), "build, sign and verify updates of appliances", firmwareRole},
		{"ring", "inspect [-all] DIR... | verify [-q] DIR... | export [-from TIME] [-to TIME] -w OUT DIR...", "look into the files of a packet ring buffer", ringTool},
		{"version", "", "print the version", printVersion},
		{"host", "", "service: configuration and ports; started by run", runHost},
		{"engine", "", "service: receives and captures; started by run", runEngine},
		{"web", "", "service: the page and the API; started by run", runWeb},
		{"init", "", "appliance: the first process", runInit},
		{"rescue", "[-state DIR]", "appliance: the console at the serial line; started by init", runRescue},
		{"modprobe", "[-q] NAME", "appliance: loads a kernel module with all that it needs", modprobe},
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	os.Exit(dispatch(ctx, os.Args))
}

// dispatch runs the role that argv names and returns the exit code.
func dispatch(ctx context.Context, argv []string) int {
	name, args := filepath.Base(argv[0]), argv[1:]
	i := slices.IndexFunc(roles(), func(r role) bool { return r.name == name })
	if i < 0 && len(args) > 0 {
		name, args = args[0], args[1:]
		i = slices.IndexFunc(roles(), func(r role) bool { return r.name == name })
	}
	switch {
	case i >= 0:
	case slices.Contains([]string{"help", "-h", "-help", "--help"}, name):
		usage(os.Stdout)
		return exitOK
	default:
		if len(argv) > 1 {
			fmt.Fprintf(os.Stderr, "galvo: there is no role %q\n\n", name)
		}
		usage(os.Stderr)
		return exitUsage
	}
	err := roles()[i].run(ctx, args)
	var wrong usageError
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return exitOK
	case errors.As(err, &wrong):
		fmt.Fprintf(os.Stderr, "galvo %s: %v\nusage: galvo %s %s\n", name, err, name, roles()[i].synopsis)
		return exitUsage
	case errors.Is(err, errReported):
		return exitFailed
	}
	fmt.Fprintf(os.Stderr, "galvo %s: %v\n", name, err)
	return exitFailed
}

func usage(w io.Writer) {
	fmt.Fprint(w, "Galvo, the open network multimeter.\n\n")
	for _, r := range roles() {
		fmt.Fprintf(w, "  galvo %-8s %s\n", r.name, r.summary)
	}
	fmt.Fprint(w, "\n`galvo ROLE -h` lists a role's flags.\n")
}

// A usageError is a wrong call; the synopsis is printed after it.
type usageError struct{ error }

func wrongUsage(format string, args ...any) error {
	return usageError{fmt.Errorf(format, args...)}
}

// errReported ends a role whose error was printed where it belongs.
var errReported = errors.New("reported")

// parse parses the flags of a role, prints them for -h, and returns the arguments that are left.
func parse(f *flag.FlagSet, args []string) ([]string, error) {
	f.SetOutput(io.Discard)
	switch err := f.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		i := slices.IndexFunc(roles(), func(r role) bool { return r.name == f.Name() })
		fmt.Printf("usage: galvo %s %s\n\n%s.\n\n", f.Name(), roles()[i].synopsis, roles()[i].summary)
		f.SetOutput(os.Stdout)
		f.PrintDefaults()
		return nil, err
	case err != nil:
		return nil, usageError{err}
	}
	return f.Args(), nil
}

func printVersion(context.Context, []string) error {
	fmt.Println(version)
	return nil
}
