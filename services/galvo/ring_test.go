package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"galvo/ci/rig"
	"galvo/services/internal/packet"
	"galvo/services/internal/pcapng"
	"galvo/services/internal/pipeline"
	"galvo/services/internal/ring"
)

// output runs something and returns what it wrote to standard output and standard error.
func output(t *testing.T, f func() error) (stdout, stderr string, err error) {
	t.Helper()
	var said [2][]byte
	before := [2]*os.File{os.Stdout, os.Stderr}
	defer func() { os.Stdout, os.Stderr = before[0], before[1] }()
	var files [2]*os.File
	for i := range files {
		if files[i], err = os.CreateTemp(t.TempDir(), "output"); err != nil {
			t.Fatal(err)
		}
		defer files[i].Close()
	}
	os.Stdout, os.Stderr = files[0], files[1]
	err = f()
	for i, f := range files {
		b, rerr := os.ReadFile(f.Name())
		if rerr != nil {
			t.Fatal(rerr)
		}
		said[i] = b
	}
	return string(said[0]), string(said[1]), err
}

// recorded makes a ring on so many devices and records frames in it.
func recorded(t *testing.T, devices, frames int) (dirs []string) {
	t.Helper()
	dirs, r, s := recorder(t, devices)
	play(t, s, frames)
	s.Finish()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	return dirs
}

// recorder makes a ring on so many devices, and opens it. The caller ends the stage and closes the ring.
func recorder(t *testing.T, devices int) (dirs []string, r *ring.Ring, s ring.Stage) {
	t.Helper()
	c := ring.Config{Name: "office", Bytes: 12 << 20, SegmentBytes: 4 << 20, QueueBytes: 32 << 20}
	for range devices {
		c.Dirs = append(c.Dirs, filepath.Join(t.TempDir(), "office"))
	}
	if err := ring.Create(context.Background(), c); err != nil {
		t.Fatal(err)
	}
	r, err := ring.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	return c.Dirs, r, r.Stage(0, func() []pipeline.Interface {
		return []pipeline.Interface{{Port: 1, Name: "eth1", Link: packet.LinkEthernet}}
	})
}

// play gives frames to a stage, a microsecond apart.
func play(t *testing.T, s pipeline.Stage, frames int) {
	t.Helper()
	var b pipeline.Batch
	for i, f := range rig.Mix(1, frames) {
		p := packet.Packet{Frame: packet.Frame{Data: f.Data, Len: uint32(len(f.Data)), Time: 1_700_000_000e9 + int64(i)*1000}}
		p.Decode(packet.LinkEthernet)
		b.Packets, b.Meta, b.Now = append(b.Packets[:0], p), append(b.Meta[:0], pipeline.Meta{}), p.Time
		s.Process(&b)
	}
}

// TestRingHelp: who knows no command learns what there is, and where a ring lies.
func TestRingHelp(t *testing.T) {
	stdout, _, err := output(t, func() error { return ringTool(context.Background(), []string{"-h"}) })
	for _, want := range []string{"usage: galvo ring inspect", "inspect  says what", "verify   reads all", "export   copies it", ".galvo/rings/NAME"} {
		if !errors.Is(err, flag.ErrHelp) || !strings.Contains(stdout, want) {
			t.Errorf("%v, and the help lacks %q:\n%s", err, want, stdout)
		}
	}
}

// TestRingBeingRecorded looks into the files of a ring whose last packets are not in a segment yet: all three tools count them.
func TestRingBeingRecorded(t *testing.T) {
	dirs, r, s := recorder(t, 1)
	play(t, s, 5_000)
	defer r.Close()
	defer s.Finish()
	run := func(args ...string) string {
		stdout, stderr, err := output(t, func() error { return ringTool(context.Background(), append(args, dirs...)) })
		if err != nil {
			t.Fatalf("%v: %v\n%s", args, err, stderr)
		}
		return stdout
	}
	out := filepath.Join(t.TempDir(), "out.pcapng")
	said, exported := "", 0
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		play(t, s, 1) // a tail is saved at a batch
		run("export", "-w", out)
		b, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		exported, said = packetsIn(t, b), run("verify")
		if exported > 5_000 && strings.Contains(said, fmt.Sprintf(" %d packets, 0 problems\n", exported)) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("export has %d packets, and verify says %s", exported, said)
		}
	}
	if said := run("inspect"); !strings.Contains(said, "not in a segment yet: 1 unfinished blocks, ") {
		t.Errorf("inspect does not count what is unfinished:\n%s", said)
	}
}

// TestRingOfSegments has only the segments of a ring, as somebody copied them from a disk: the tools say so, and give what is in them.
func TestRingOfSegments(t *testing.T) {
	const frames = 20_000
	for _, devices := range []int{1, 2} {
		dirs := recorded(t, devices, frames)
		run := func(args ...string) (string, string, error) {
			return output(t, func() error { return ringTool(context.Background(), append(args, dirs...)) })
		}
		for _, alone := range []bool{false, true} {
			note := " has no state"
			if alone {
				note = "device 0 (" + dirs[0] + "): it has no state; what it is was found out by its 3 segments"
				for _, d := range dirs {
					for _, name := range []string{"state", "tails"} {
						if err := os.Remove(filepath.Join(d, name)); err != nil {
							t.Fatal(err)
						}
					}
				}
			}
			stdout, stderr, err := run("inspect")
			if err != nil || !strings.Contains(stdout, `ring "office"`) || !strings.Contains(stdout, "packets from 2023-11-14T22:13:20.000000Z to 2023-11-14T22:13:20.019999Z") ||
				strings.Contains(stderr, note) != alone {
				t.Errorf("inspect, %v: %v\n%s\n%s", alone, err, stdout, stderr)
			}
			stdout, stderr, err = run("verify")
			if err != nil || !strings.Contains(stdout, " 20000 packets, 0 problems\n") || strings.Contains(stderr, note) != alone {
				t.Errorf("verify, %v: %v\n%s\n%s", alone, err, stdout, stderr)
			}
			out := filepath.Join(t.TempDir(), "out.pcapng")
			_, stderr, err = run("export", "-w", out)
			b, rerr := os.ReadFile(out)
			if err != nil || rerr != nil || strings.Contains(stderr, "missing") || strings.Contains(stderr, note) != alone || packetsIn(t, b) != frames {
				t.Errorf("export, %v: %v, %v, %d packets\n%s", alone, err, rerr, packetsIn(t, b), stderr)
			}
		}
		// And not all of them.
		if err := os.Remove(filepath.Join(dirs[0], "000000.pcapng")); err != nil {
			t.Fatal(err)
		}
		_, stderr, err := run("verify", "-q")
		if err != nil || !strings.Contains(stderr, "segments are not there: 000000.pcapng") {
			t.Errorf("verify without a segment: %v\n%s", err, stderr)
		}
	}
}

func packetsIn(t *testing.T, b []byte) (n int) {
	t.Helper()
	r, err := pcapng.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	var p [256]packet.Packet
	for {
		k, err := r.Read(p[:])
		if errors.Is(err, io.EOF) {
			return n
		}
		if err != nil {
			t.Fatal(err)
		}
		n += k
	}
}

// TestRingNotThere: what is no ring is said to be none.
func TestRingNotThere(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("not a ring"), 0o600); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(dir, "other")
	if err := os.Mkdir(other, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(other, "000000.pcapng"), make([]byte, 5<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		dir: "no ring lies there", file: "is a file", filepath.Join(dir, "nothing"): "no such file", other: "it does not end like a block of a ring",
	} {
		_, _, err := output(t, func() error {
			return inspectRing(context.Background(), flag.NewFlagSet("ring", flag.ContinueOnError), []string{path})
		})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
}
