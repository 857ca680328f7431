// Command profile measures where the processor's time goes on a frame's way, with the benchmarks that go the whole of it, and writes that down for the compiler, which then
// inlines and lays out what is hot (https://go.dev/doc/pgo). A profile of older code does no harm: what it does not name is compiled as ever.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/google/pprof/profile"
)

// output is where go build looks for it.
const output = "services/galvo/default.pgo"

// benchmarks are those of a frame's way, and in which package they are.
var benchmarks = []struct{ in, name string }{
	{"services/galvo", "Read"},
	{"services/internal/afpacket", "Drain"},
	{"services/internal/capture", "Everything"},
	{"services/internal/ring", "Stage"},
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "profile:", err)
		os.Exit(1)
	}
}

func run() error {
	dir, err := os.MkdirTemp("", "galvo-profile")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var all []*profile.Profile
	for _, b := range benchmarks {
		p, err := measure(dir, b.in, b.name)
		if err != nil {
			return fmt.Errorf("%s: %w", b.in, err)
		}
		all = append(all, p)
	}
	sum, err := profile.Merge(all)
	if err != nil {
		return err
	}
	f, err := os.Create(output)
	if err != nil {
		return err
	}
	if err := sum.Write(f); err != nil {
		return err
	}
	return f.Close()
}

// measure runs benchmarks, and returns what says nothing about the machine that they ran on.
func measure(dir, in, name string) (*profile.Profile, error) {
	to := filepath.Join(dir, filepath.Base(in))
	cmd := exec.Command("go", "test", "-run", "^$", "-bench", name, "-benchtime", "3s", "-cpuprofile", to, "-o", to+".test", "./"+in)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return nil, err
	}
	f, err := os.Open(to)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	p, err := profile.Parse(f)
	if err != nil {
		return nil, err
	}
	for _, fn := range p.Function {
		fn.Filename = ""
	}
	for _, m := range p.Mapping {
		m.File, m.BuildID = "", ""
	}
	p.TimeNanos, p.Comments = 0, nil
	return p, nil
}
