package main

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"time"

	"galvo/ci/rig"
)

// A reader is a program that looks for one host's packets in a savefile.
type reader struct {
	name string
	goal float64
	argv []string
	slow bool // it gets the first frames only
}

// host is one of the hosts of rig.Mix.
const host = "10.16.0.10"

// slowFrames is what slow readers get.
const slowFrames = 20_000

func readers(b *bench, few string) []reader {
	return []reader{
		{name: "tcpdump -r, host filter", argv: []string{"tcpdump", "-r", b.file, "-w", "/dev/null", "host " + host}},
		{name: "tshark -Y", argv: []string{"tshark", "-n", "-r", few, "-Y", "ip.addr==" + host, "-w", "/dev/null"}, slow: true},
		{name: "galvo read", goal: 1 / 1.1, argv: []string{b.galvo, "read", "-filter", "ip==" + host, "-w", "/dev/null", b.file}},
		{name: "galvo read -flows", argv: []string{b.galvo, "read", "-flows", b.file}},
	}
}

// offline compares processor times, start and end of the programs included.
func offline(ctx context.Context, b *bench) error {
	few := filepath.Join(b.dir, "few.pcap")
	n := min(slowFrames, len(b.frames))
	if err := rig.WritePcap(few, b.frames[:n]); err != nil {
		return err
	}
	var rows []reader
	for i, r := range readers(b, few) {
		if (i == 0 || b.rows.MatchString(r.name)) && present(r.name, r.argv[0]) {
			rows = append(rows, r)
		}
	}
	t := newTable("offline: processor time", len(rows))
	for range b.rounds {
		for i, r := range rows {
			cmd := exec.CommandContext(ctx, r.argv[0], r.argv[1:]...)
			if out, err := cmd.CombinedOutput(); err != nil {
				return fmt.Errorf("%s: %w\n%s", r.name, err, out)
			}
			frames := times * len(b.frames)
			if r.slow {
				frames = n
			}
			cost := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
			t.add(i, r.name, r.goal, cost/time.Duration(frames))
		}
	}
	t.print()
	return nil
}
