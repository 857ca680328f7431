package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"syscall"
	"time"

	"galvo/ci/rig"
)

// A receiver is a program that captures from the interface rx0 until SIGINT.
type receiver struct {
	name    string
	goal    float64  // at most so many times the first receiver; 0 means none
	argv    []string // the program and its arguments
	env     []string
	process string         // which process is measured, by a word of its command line; empty means the one that is started
	first   [][]string     // programs that are run before the frames come, once it receives
	ask     []string       // a program that asks it for its counters, and succeeds once it receives; empty means that it prints them when it ends
	up      *regexp.Regexp // what it says then, before first is run; nil means counts
	counts  *regexp.Regexp // finds captured and lost frames in what it said
}

// receivers are the rows of the table. The first one is what the others are compared with.
func receivers(b *bench) []receiver {
	tcpdump := regexp.MustCompile(`(?s)(\d+) packets captured.*?(\d+) packets dropped by kernel`)
	dumpcap := regexp.MustCompile(`received/dropped on interface '\w+': (\d+)/(\d+)`)
	galvo := regexp.MustCompile(`captured=(\d+).* lost=(\d+)`)
	rows := []receiver{
		{name: "tcpdump -w /dev/null", argv: []string{"tcpdump", "-i", device, "-B", "262144", "-w", "/dev/null"}, counts: tcpdump},
		{name: "dumpcap", argv: []string{"dumpcap", "-q", "-i", device, "-B", "256", "-w", "/dev/null"}, counts: dumpcap},
	}
	rows = append(rows,
		b.engine("galvo engine, without l7", 1.5, "fast.toml"),
		b.engine("galvo engine, without l7, one capture of everything", 2.5, "fast.toml", ""),
		b.engine("galvo engine, with l7", 3, "galvo.toml"),
		b.engine("galvo engine, with l7, one idle capture", 0, "galvo.toml", "ip == 203.0.113.1"),
		b.engine("galvo engine, with l7, 50 idle captures", 0, "galvo.toml", idle(50)...),
	)
	path := filepath.Join(b.dir, "receive")
	for _, does := range []struct {
		name string
		goal float64
	}{{"count", 0}, {"decode", 0}, {"flows", 1.5}, {"l7", 3}} {
		rows = append(rows, receiver{name: "receive path, " + does.name, goal: does.goal, argv: []string{path, device}, env: []string{"GALVO_TEST_RECEIVE=" + does.name}, counts: galvo})
	}
	return rows
}

const (
	device   = "rx0"
	warmRate = 100_000 // frames per second
)

// idle returns filters of captures that somebody runs and that nothing of the traffic matches.
func idle(n int) (filters []string) {
	for i := range n {
		filters = append(filters, []string{
			fmt.Sprintf("ip == 203.0.113.%d", i), fmt.Sprintf("ip == 198.51.100.%d and port == %d", i, 40000+i),
			fmt.Sprintf("portrange == %d-%d and l4Protocol == SCTP", 2000+i, 3000+i), fmt.Sprintf("vlan == %d or mac == 02:00:5e:00:53:%02x", 4000+i, i),
		}[i%4])
	}
	return filters
}

// engine is the shipped engine with all its stages, and a capture with a discarding sink for each filter.
func (b *bench) engine(name string, goal float64, config string, filters ...string) receiver {
	const address, password = "127.0.0.1:8443", "a password for benchmarks"
	var first [][]string
	for _, f := range filters {
		first = append(first, []string{"curl", "-skf", "-u", "admin:" + password, "-H", "Content-Type: application/json",
			"-d", fmt.Sprintf(`{"expression": %q, "sink": {"type": "discard"}}`, f), "https://" + address + "/api/v1/captures"})
	}
	return receiver{
		first: first,
		name:  name, goal: goal, process: "engine",
		argv:   []string{b.galvo, "run", "-config", filepath.Join(b.dir, config), "-state", filepath.Join(b.dir, "state"), "-interface", device, "-listen", address},
		env:    []string{"GALVO_ADMIN_PASSWORD=" + password},
		ask:    []string{"curl", "-skf", "-u", "admin:" + password, "https://" + address + "/api/v1/ports"},
		counts: regexp.MustCompile(`(?s)"rxPackets": *(\d+).*"lostKernel": *(\d+)`),
	}
}

// live is the drain test: each receiver is stopped while its ring fills, and what counts is the processor time that it takes to empty it. So no
// receiver is helped by a sender that cannot keep it busy. Before that it gets the same frames once at a rate that all receivers keep up with: what is
// measured is not the first touch of code and tables.
//
// A receiver that was stopped has other things to do as well when it goes on: timers that are due. So each is also stopped for as long without any
// frame, and that is taken off. It empties several rings one after the other, and the least of a round counts, because what else runs on the machine only adds.
func live(ctx context.Context, b *bench) error {
	// The receive path without the rest of the engine is a mode of its package's test binary.
	if out, err := exec.CommandContext(ctx, "go", "test", "-c", "-o", filepath.Join(b.dir, "receive"), "galvo/services/internal/afpacket").CombinedOutput(); err != nil {
		return fmt.Errorf("build the receive path: %w\n%s", err, out)
	}
	return b.compare(ctx, "live, drain test: processor time of the receiver", receivers(b))
}

// compare measures receivers by turns.
func (b *bench) compare(ctx context.Context, title string, all []receiver) error {
	var rows []receiver
	for i, r := range all {
		if (i == 0 || b.rows.MatchString(r.name)) && present(r.name, r.argv[0]) {
			rows = append(rows, r)
		}
	}
	t := newTable(title, len(rows))
	for round := range b.rounds {
		for i, r := range rows {
			cost, err := b.drain(ctx, r)
			if err != nil {
				return fmt.Errorf("round %d: %s: %w", round+1, r.name, err)
			}
			t.add(i, r.name, r.goal, cost)
		}
	}
	t.print()
	return nil
}

// drain returns what a receiver costs per frame.
func (b *bench) drain(ctx context.Context, r receiver) (time.Duration, error) {
	sender, receiver, err := network()
	if err != nil {
		return 0, err
	}
	defer sender.Close()
	defer receiver.Close()
	tx, _, err := rig.Veth(sender, "tx0", receiver, device, 0)
	if err != nil {
		return 0, err
	}
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, "taskset", append([]string{"-c", "1"}, r.argv...)...)
	cmd.Env = append(os.Environ(), r.env...)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := receiver.Start(cmd); err != nil {
		return 0, err
	}
	cost, err := b.measure(ctx, cmd, r, receiver, tx)
	said := ""
	if err == nil && r.ask != nil {
		said, err = r.answer(receiver)
	}
	_ = cmd.Process.Signal(os.Interrupt) // it may have ended, which Wait tells
	waited := cmd.Wait()
	if err != nil {
		return 0, errors.Join(err, waited, errors.New(out.String()))
	}
	captured, lost, err := r.count(said + out.String())
	if err != nil {
		return 0, err
	}
	sent := len(b.frames) * (1 + b.drains)         // the warming up too
	if captured+lost != sent || lost > sent/1000 { // the kernel may drop a frame when a ring is rather full
		return 0, fmt.Errorf("it captured %d of %d frames and lost %d: its ring is too small for a comparison", captured, sent, lost)
	}
	return cost, nil
}

func network() (sender, receiver *rig.Netns, err error) {
	if sender, err = rig.NewNetns(); err != nil {
		return nil, nil, err
	}
	if receiver, err = rig.NewNetns(); err != nil {
		sender.Close()
		return nil, nil, err
	}
	return sender, receiver, nil
}

// measure returns what a frame costs the receiver.
func (b *bench) measure(ctx context.Context, cmd *exec.Cmd, r receiver, where *rig.Netns, tx *rig.End) (time.Duration, error) {
	if err := r.ready(ctx, where, cmd.Process.Pid, cmp.Or(r.up, r.counts)); err != nil {
		return 0, err
	}
	for _, argv := range r.first {
		program := exec.Command(argv[0], argv[1:]...)
		if err := errors.Join(where.Start(program), program.Wait()); err != nil {
			return 0, fmt.Errorf("run %v: %w", argv, err)
		}
	}
	if err := r.ready(ctx, where, cmd.Process.Pid, r.counts); err != nil {
		return 0, err
	}
	pid, err := find(cmd.Process.Pid, r.process)
	if err != nil {
		return 0, err
	}
	if err := b.warm(ctx, tx); err != nil {
		return 0, err
	}
	var full, empty []time.Duration
	for range b.drains {
		begin, filling := time.Now(), time.Duration(0)
		cost, err := stopped(ctx, pid, func() error {
			defer func() { filling = time.Since(begin) }()
			return b.play(ctx, tx)
		})
		if err != nil {
			return 0, err
		}
		full = append(full, cost)
		if cost, err = stopped(ctx, pid, func() error { time.Sleep(filling); return nil }); err != nil {
			return 0, err
		}
		empty = append(empty, cost)
	}
	return (slices.Min(full) - slices.Min(empty)) / time.Duration(len(b.frames)), nil
}

// retire is longer than any receiver's ring keeps the last frames back: tcpdump's does for a second.
const retire = 1200 * time.Millisecond

// stopped stops a process, does something, and returns the processor time that the process takes until it has caught up.
func stopped(ctx context.Context, pid int, do func() error) (time.Duration, error) {
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		return 0, err
	}
	err := do()
	time.Sleep(retire)
	before, _, gone := processorTime(pid)
	if err := errors.Join(err, gone, syscall.Kill(pid, syscall.SIGCONT)); err != nil {
		return 0, err
	}
	after, err := settled(ctx, pid)
	return after - before, err
}

// play fills the receiver's ring.
func (b *bench) play(ctx context.Context, tx *rig.End) error {
	report, err := (&rig.Player{To: tx, CPU: 1}).Play(ctx, b.frames)
	if err == nil && (report.Errors != 0 || report.Dropped != 0) {
		err = fmt.Errorf("the sender could not play everything: %v", report)
	}
	return err
}

// warm plays everything once.
func (b *bench) warm(ctx context.Context, tx *rig.End) error {
	time.Sleep(time.Second) // for what a process does at its start
	_, err := (&rig.Player{To: tx, CPU: 1, Rate: warmRate}).Play(ctx, b.frames)
	time.Sleep(2 * retire)
	return err
}

// ready waits until a receiver that can be asked answers what is wanted.
func (r receiver) ready(ctx context.Context, where *rig.Netns, pid int, want *regexp.Regexp) error {
	if r.ask == nil {
		return nil
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(200 * time.Millisecond) {
		said, err := r.answer(where)
		if err == nil && want.MatchString(said) {
			return nil
		}
		if _, _, gone := processorTime(pid); gone != nil || ctx.Err() != nil || time.Now().After(deadline) {
			return errors.Join(fmt.Errorf("it does not answer %v: %s", r.ask, said), err, gone, ctx.Err())
		}
	}
}

// answer returns what the receiver says to the question for its counters.
func (r receiver) answer(where *rig.Netns) (string, error) {
	var out bytes.Buffer
	cmd := exec.Command(r.ask[0], r.ask[1:]...)
	cmd.Stdout = &out
	if err := where.Start(cmd); err != nil {
		return "", err
	}
	err := cmd.Wait()
	return out.String(), err
}

// count finds what a program says that it captured and lost.
func (r receiver) count(out string) (captured, lost int, err error) {
	m := r.counts.FindStringSubmatch(out)
	if m == nil {
		return 0, 0, fmt.Errorf("no counters in its output: %s", out)
	}
	if captured, err = strconv.Atoi(m[1]); err == nil {
		lost, err = strconv.Atoi(m[2])
	}
	return captured, lost, err
}
