package main

import (
	"context"
	"fmt"
	"path/filepath"
	"regexp"
)

// ringBytes is the size of the ring that the engine records into: its segments have 62 MB, about as much as one receiver gets, so each run closes some.
const ringBytes = 4_000_000_000

// record is the drain test for receivers that keep everything on the same disk: the same frames in full, and as much room for what the kernel has received. What tcpdump
// writes ends in the page cache, and kernel threads that bring it to the disk later are not in its figure; the engine writes past the page cache, and all of that is in its.
func record(ctx context.Context, b *bench) error {
	tcpdump := regexp.MustCompile(`(?s)(\d+) packets captured.*?(\d+) packets dropped by kernel`)
	return b.compare(ctx, "recording to the disk, drain test: processor time of the receiver", []receiver{
		{name: "tcpdump -w FILE", argv: []string{"tcpdump", "-i", device, "-B", "262144", "-w", filepath.Join(b.dir, "tcpdump.pcap")}, counts: tcpdump},
		b.recorder("galvo engine into a ring, pwrite", 0.85, "pwrite.toml"),
		b.recorder("galvo engine into a ring, io_uring", 0.70, "galvo.toml"),
		b.recorder("galvo engine into a ring, io_uring, without l7", 0, "fast.toml"),
	})
}

// recorder is the shipped engine with a ring. A frame counts as captured once the ring has it.
func (b *bench) recorder(name string, goal float64, config string) receiver {
	r := b.engine(name, goal, config)
	state := filepath.Join(b.dir, "recording")
	for i, arg := range r.argv {
		if arg == filepath.Join(b.dir, "state") {
			r.argv[i] = state
		}
	}
	rings := regexp.MustCompile(`/ports$`).ReplaceAllString(r.ask[len(r.ask)-1], "/rings")
	ports := r.ask[len(r.ask)-1]
	ask := r.ask[:len(r.ask)-1]
	// From the second time on the ring is there, and the answer, whatever it is, says so.
	r.first = [][]string{append(append([]string{"curl", "-sk", "-o", "/dev/null"}, ask[2:]...), "-H", "Content-Type: application/json",
		"-d", fmt.Sprintf(`{"name": "bench", "sizeBytes": %d}`, ringBytes), rings)}
	r.up = r.counts
	r.ask = append(ask, rings, ports)
	r.counts = regexp.MustCompile(`(?s)"state": *"recording".*"packets": *(\d+).*"lostKernel": *(\d+)`)
	return r
}
