package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
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

// readers returns who reads a file. One filter asks for the flows of the host, and the other one for those of every packet: that a host is asked for tells which flows matter.
func readers(b *bench, in savefile, few string) []reader {
	rows := []reader{
		{name: "tcpdump -r, host filter", argv: []string{"tcpdump", "-r", in.path, "-w", "/dev/null", "host " + host}},
		{name: "galvo read", goal: 1 / 1.1, argv: []string{b.galvo, "read", "-filter", "ip==" + host, "-w", "/dev/null", in.path}},
		{name: "galvo read, with its flows", goal: 1 / 1.1, argv: []string{b.galvo, "read", "-filter", "ip==" + host + " and serverport!=1", "-w", "/dev/null", in.path}},
		{name: "galvo read, with all flows", goal: 1 / 1.1, argv: []string{b.galvo, "read", "-filter", "serverport==1 and len>0", "-w", "/dev/null", in.path}},
	}
	if few != "" {
		rows = append(rows,
			reader{name: "galvo read -flows", argv: []string{b.galvo, "read", "-flows", in.path}},
			reader{name: "tshark -Y", argv: []string{"tshark", "-n", "-r", few, "-Y", "ip.addr==" + host, "-w", "/dev/null"}, slow: true})
	}
	return rows
}

// A savefile is what readers read.
type savefile struct {
	title  string
	path   string
	frames int
}

// savefiles makes what is read: the first one is mixed traffic, which the others are compared by, and of which there are the first frames in few.
func savefiles(ctx context.Context, b *bench, few string) ([]savefile, error) {
	if err := rig.WritePcap(few, b.frames[:min(slowFrames, len(b.frames))]); err != nil {
		return nil, err
	}
	n := times * len(b.frames)
	list := []savefile{
		{"mixed traffic, pcap", b.file, n},
		{"the same, pcapng", filepath.Join(b.dir, "mix.pcapng"), n},
		{fmt.Sprintf("60 bytes a frame, %d flows", smallFlows), filepath.Join(b.dir, "small.pcap"), n},
	}
	if out, err := exec.CommandContext(ctx, b.galvo, "read", "-w", list[1].path, b.file).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("make %s: %w\n%s", list[1].path, err, out)
	}
	return list, rig.WritePcap(list[2].path, small(n))
}

// smallFlows is how many flows there are in the file of small frames, in any order: the worst that a flow table is given.
const smallFlows = 100_000

// small makes frames of 60 bytes, UDP over IPv4.
func small(n int) []rig.Frame {
	r := rand.New(rand.NewPCG(1, 2))
	flows := make([][]byte, smallFlows)
	for i := range flows {
		f := append(make([]byte, 12), 8, 0, 0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0)
		f = binary.BigEndian.AppendUint32(f, 10<<24|r.Uint32()>>8)
		f = binary.BigEndian.AppendUint32(f, 192<<24|168<<16|r.Uint32()>>16)
		f = binary.BigEndian.AppendUint16(f, uint16(1024+r.IntN(60_000)))
		flows[i] = append(f, append([]byte{0, 53, 0, 26, 0, 0}, make([]byte, 18)...)...)
	}
	frames := make([]rig.Frame, n)
	for i := range frames {
		frames[i] = rig.Frame{Data: flows[r.IntN(len(flows))], Time: time.Duration(i) * time.Microsecond}
	}
	return frames
}

// offline compares processor times, start and end of the programs included.
func offline(ctx context.Context, b *bench) error {
	few := filepath.Join(b.dir, "few.pcap")
	files, err := savefiles(ctx, b, few)
	if err != nil {
		return err
	}
	for _, in := range files {
		if err := b.readAll(ctx, in, few); err != nil {
			return err
		}
		few = "" // slow readers read one file
	}
	return nil
}

// readAll is offline for one file.
func (b *bench) readAll(ctx context.Context, in savefile, few string) error {
	var rows []reader
	for i, r := range readers(b, in, few) {
		if (i == 0 || b.rows.MatchString(r.name)) && present(r.name, r.argv[0]) {
			rows = append(rows, r)
		}
	}
	t := newTable("offline, "+in.title+": processor time", len(rows))
	for range b.rounds {
		for i, r := range rows {
			cmd := exec.CommandContext(ctx, r.argv[0], r.argv[1:]...)
			if out, err := cmd.CombinedOutput(); err != nil {
				return fmt.Errorf("%s: %w\n%s", r.name, err, out)
			}
			frames := in.frames
			if r.slow {
				frames = min(slowFrames, len(b.frames))
			}
			cost := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
			t.add(i, r.name, r.goal, cost/time.Duration(frames))
		}
	}
	t.print()
	return nil
}
