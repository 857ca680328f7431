// Command bench measures the shipped engine next to tcpdump, dumpcap and tshark, by processor time per packet, and next to Stenographer, by the time that an
// answer takes.
//
//	go run ./ci/bench -galvo build/galvo [-frames 200000] [-rounds 3] [-drains 3] [-only live|record|retrieve|offline] [-rows REGEXP]
//
// Wall-clock rates say little on a machine where the sender is slower than the receivers, and times move by a third from one run to the
// next, upwards: something else was running. So every program does the same work in each round, in turn, and what counts is the ratio of the least
// that each took to the least that tcpdump took. How far the ratios of single rounds were apart is printed beside it.
// The traffic is rig.Mix. It needs root, two processors and a quiet machine.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"time"

	"galvo/ci/rig"
)

// bench is what all measurements share.
type bench struct {
	galvo  string // the binary; may not exist
	dir    string // for files
	rounds int
	drains int            // rings emptied per round and receiver
	rows   *regexp.Regexp // which are measured, beside the first
	frames []rig.Frame
	file   string // the same frames, times times
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run() error {
	galvo := flag.String("galvo", "build/galvo", "the binary to measure")
	frames := flag.Int("frames", 200_000, "frames per measurement; they must fit into three quarters of the engine's ring")
	rounds := flag.Int("rounds", 3, "how often everything is measured")
	drains := flag.Int("drains", 3, "rings that a receiver empties in each round")
	named := flag.String("rows", "", "measure the rows whose name matches this `regexp`, and tcpdump")
	only := flag.String("only", "", "measure one part: live, record, retrieve or offline")
	flag.Parse()
	if os.Geteuid() != 0 {
		return fmt.Errorf("it makes network namespaces: run it as root")
	}
	if runtime.NumCPU() < 2 {
		return fmt.Errorf("sender and receiver need a processor each, and this machine has one")
	}
	rows, err := regexp.Compile(*named)
	if err != nil {
		return fmt.Errorf("-rows: %w", err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	dir, err := os.MkdirTemp("", "galvo-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	// tcpdump and the engine give up root and must still reach their files.
	if err := os.Chmod(dir, 0o777); err != nil {
		return err
	}
	_ = os.WriteFile("/proc/self/autogroup", []byte("-20"), 0) // only makes the figures steadier
	b := &bench{dir: dir, rounds: *rounds, drains: *drains, rows: rows, frames: rig.Mix(1, *frames), file: filepath.Join(dir, "mix.pcap")}
	if b.galvo, err = filepath.Abs(*galvo); err != nil {
		return err
	}
	// One worker, because the others have one thread.
	const common = "[captures]\nmax = 64\n[engine]\nworkers = 1\n"
	for name, more := range map[string]string{"galvo.toml": "", "fast.toml": "l7 = false\n", "pwrite.toml": "[rings]\nioUring = false\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(common+more), 0o644); err != nil {
			return err
		}
	}
	if err := rig.WritePcap(b.file, repeated(b.frames, times)); err != nil {
		return err
	}
	bytes := 0
	for _, f := range b.frames {
		bytes += len(f.Data)
	}
	fmt.Printf("%d frames of mixed traffic, %d bytes on average, %d rounds\n", len(b.frames), bytes/len(b.frames), b.rounds)
	for _, part := range []struct {
		name string
		run  func(context.Context, *bench) error
	}{{"live", live}, {"record", record}, {"retrieve", retrieve}, {"offline", offline}} {
		if *only != "" && *only != part.name {
			continue
		}
		if err := part.run(ctx, b); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	return nil
}

// times makes savefiles so long that the start of a program costs little beside.
const times = 5

// repeated returns frames n times, one after the other.
func repeated(frames []rig.Frame, n int) []rig.Frame {
	long := make([]rig.Frame, 0, n*len(frames))
	for i := range n {
		for _, f := range frames {
			f.Time += time.Duration(i) * (frames[len(frames)-1].Time + time.Millisecond)
			long = append(long, f)
		}
	}
	return long
}

// present reports whether a program can be measured, and says so if not.
func present(name, program string) bool {
	if _, err := exec.LookPath(program); err != nil {
		fmt.Printf("%s is not measured: %v\n", name, err)
		return false
	}
	return true
}
