package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"galvo/services/internal/ring"
)

// A ringCommand is what `galvo ring` does with the files of a ring. It changes nothing in them, so it may be used while the ring is being written.
type ringCommand struct {
	name, summary string
	run           func(ctx context.Context, f *flag.FlagSet, args []string) error
}

func ringCommands() []ringCommand {
	return []ringCommand{
		{"inspect", "says what the ring is, and what its segments hold", inspectRing},
		{"verify", "reads all of it and says what is damaged", verifyRing},
		{"export", "copies it, or what it has of a time, into a savefile, as it is", exportRing},
	}
}

func ringTool(ctx context.Context, args []string) error {
	f := flag.NewFlagSet("ring", flag.ContinueOnError)
	if len(args) == 0 {
		return wrongUsage("it takes inspect, verify or export, and the directories of the ring")
	}
	for _, c := range ringCommands() {
		if c.name == args[0] {
			return c.run(ctx, f, args[1:])
		}
	}
	if _, err := parse(f, args); errors.Is(err, flag.ErrHelp) {
		for _, c := range ringCommands() {
			fmt.Printf("  %-8s %s\n", c.name, c.summary)
		}
		fmt.Println("\nDIR is the ring's directory on each of its storage devices: .galvo/rings/NAME there. The ring may be recording.")
		return err
	} else if err != nil {
		return err
	}
	return wrongUsage("there is no command %q; it is inspect, verify or export", args[0])
}

// openRing opens the ring that lies in directories, all that it has, or what is left of it, and says what was found out without its state.
func openRing(dirs []string) (*ring.Ring, error) {
	if len(dirs) == 0 {
		return nil, wrongUsage("it takes the directories of the ring, one of each device")
	}
	for _, dir := range dirs {
		if info, err := os.Stat(dir); err != nil {
			return nil, err
		} else if !info.IsDir() {
			return nil, wrongUsage("%s is a file: name the directory that it is in; a segment alone is a savefile, for galvo read and others", dir)
		}
	}
	r, err := ring.Open(ring.Config{Dirs: dirs, ReadOnly: true, Workers: 1})
	if err != nil {
		if rings := ringsBelow(dirs); len(rings) > 0 {
			err = fmt.Errorf("%w; rings lie in %s", err, strings.Join(rings, ", "))
		}
		return nil, err
	}
	s := r.State()
	for _, text := range s.Rebuilt {
		if !slices.Contains(s.Problems, text) { // which are told, too
			fmt.Fprintf(os.Stderr, "galvo ring: %s\n", text)
		}
	}
	return r, nil
}

// ringsBelow finds the directories of rings below those of storage devices.
func ringsBelow(dirs []string) (rings []string) {
	for _, dir := range dirs {
		for _, below := range []string{"*", ".galvo/rings/*"} {
			states, _ := filepath.Glob(filepath.Join(dir, below, "state")) // a pattern in a directory's name finds nothing
			for _, s := range states {
				rings = append(rings, filepath.Dir(s))
			}
		}
	}
	return rings
}

// filesIn lists what lies in directories.
func filesIn(dirs []string) (files []string) {
	for _, dir := range dirs {
		entries, _ := os.ReadDir(dir) // what cannot be read is found out by whoever opens it
		for _, e := range entries {
			files = append(files, filepath.Join(dir, e.Name()))
		}
	}
	return files
}

// inspectRing prints what a ring is, and what its segments hold.
func inspectRing(_ context.Context, f *flag.FlagSet, args []string) error {
	all := f.Bool("all", false, "list the segments that were never written, too")
	dirs, err := parse(f, args)
	if err != nil {
		return err
	}
	r, err := openRing(dirs)
	if err != nil {
		return err
	}
	s := r.State()
	made := "nobody knows when"
	if s.Created != 0 {
		made = clock(s.Created)
	}
	fmt.Printf("ring %q, id %016x, made %s\n", s.Name, s.ID, made)
	fmt.Printf("devices: %d, copies of each block beside the first: %d; %s, of which %s used\n", len(s.Devices), s.Copies, bytesText(s.Size), bytesText(s.Used))
	if s.Oldest != 0 {
		fmt.Printf("packets from %s to %s\n", clock(s.Oldest), clock(s.Newest))
	} else {
		fmt.Println("no packets")
	}
	fmt.Printf("%d captured bytes since it was made; dropped: queue %d, disk %d, pinned %d, format %d; discarded by rules: %d\n",
		s.Bytes, s.Dropped["queue"], s.Dropped["disk"], s.Dropped["pinned"], s.Dropped["format"], s.Discarded)
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "device\tsegment\tstate\tblocks\tpackets\tbytes\tfirst packet\tlast packet\tblock numbers\tprotected until")
	for _, i := range r.Inspect() {
		if i.Blocks == 0 && !*all {
			continue
		}
		first, last, until := "-", "-", "-"
		if i.First <= i.Last {
			first, last = clock(i.First), clock(i.Last)
		}
		if i.Until > time.Now().UnixNano() {
			until = clock(i.Until)
		}
		fmt.Fprintf(w, "%d\t%s\t%s\t%d\t%d\t%d\t%s\t%s\t%d-%d\t%s\n", i.Device, i.Name, i.State, i.Blocks, i.Packets, i.Bytes, first, last, i.SeqLo, i.SeqHi, until)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if blocks, packets := r.Unfinished(); blocks > 0 {
		fmt.Printf("not in a segment yet: %d unfinished blocks, %d packets\n", blocks, packets)
	}
	for _, p := range s.Problems {
		fmt.Fprintf(os.Stderr, "galvo ring: %s\n", p)
	}
	return r.Close()
}

func clock(ns int64) string { return time.Unix(0, ns).UTC().Format("2006-01-02T15:04:05.000000Z") }

func bytesText(n int64) string {
	switch {
	case n >= 1e9:
		return fmt.Sprintf("%.1f GB", float64(n)/1e9)
	case n >= 1e6:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	}
	return fmt.Sprintf("%d bytes", n)
}

// verifyRing reads a whole ring and says what is wrong with it.
func verifyRing(ctx context.Context, f *flag.FlagSet, args []string) error {
	quiet := f.Bool("q", false, "show no progress")
	dirs, err := parse(f, args)
	if err != nil {
		return err
	}
	r, err := openRing(dirs)
	if err != nil {
		return err
	}
	defer r.Close()
	shown := time.Now()
	v, err := r.Verify(ctx, func(done, total int) {
		if !*quiet && time.Since(shown) > time.Second {
			shown = time.Now()
			fmt.Fprintf(os.Stderr, "%d of %d blocks\n", done, total)
		}
	})
	if err != nil {
		return err
	}
	problems := append(r.State().Problems, v.Problems...)
	out := bufio.NewWriter(os.Stdout)
	for _, p := range problems {
		fmt.Fprintln(out, p)
	}
	if hidden := v.Found - uint64(len(v.Problems)); hidden > 0 {
		fmt.Fprintf(out, "and %d more\n", hidden)
	}
	if blocks, packets := r.Unfinished(); blocks > 0 { // which were checked when the ring was opened
		v.Blocks, v.Packets = v.Blocks+uint64(blocks), v.Packets+packets
	}
	fmt.Fprintf(out, "%d segments, %d blocks, %d packets, %d problems\n", v.Segments, v.Blocks, v.Packets, len(problems))
	if err := out.Flush(); err != nil {
		return err
	}
	if len(problems) > 0 {
		return errReported
	}
	return nil
}

// exportRing copies blocks of a ring, which are pcapng, as they are.
func exportRing(ctx context.Context, f *flag.FlagSet, args []string) error {
	from := f.String("from", "", "start `time`: RFC 3339, 2006-01-02 15:04:05, microseconds since 1970, or now-10m")
	to := f.String("to", "", "end `time`, in the same way; the blocks of the ring that hold a packet in between are copied")
	out := f.String("w", "", "`file` to write, - for standard output")
	dirs, err := parse(f, args)
	if err != nil {
		return err
	}
	now := time.Now()
	start, err := parseTime(*from, now)
	if err != nil {
		return wrongUsage("-from: %v", err)
	}
	end, err := parseTime(*to, now)
	if err != nil {
		return wrongUsage("-to: %v", err)
	}
	switch {
	case *out == "":
		return wrongUsage("-w says where to write to")
	case end != 0 && end <= start:
		return wrongUsage("-to is not after -from: there would be nothing to copy")
	}
	r, err := openRing(dirs)
	if err != nil {
		return err
	}
	defer r.Close()
	w := io.WriteCloser(os.Stdout)
	if *out != "-" {
		if err := notRead(*out, filesIn(dirs)); err != nil {
			return err
		}
		if w, err = os.Create(*out); err != nil {
			return err
		}
	}
	first, last := int64(math.MinInt64), int64(math.MaxInt64)
	if start != 0 {
		first = start * 1000
	}
	if end != 0 {
		last = end * 1000
	}
	b := bufio.NewWriterSize(w, 1<<20)
	blocks, gaps, err := r.Export(ctx, first, last, b)
	if err == nil {
		err = b.Flush()
	}
	if cerr := w.Close(); err == nil {
		err = cerr
	}
	for _, g := range gaps {
		from := ""
		if g.From > 0 { // else nobody knows where the ring began
			from = fmt.Sprintf("from %s ", clock(g.From))
		}
		fmt.Fprintf(os.Stderr, "galvo ring: %sto %s packets may be missing: %s\n", from, clock(g.To), g.Why)
	}
	fmt.Fprintf(os.Stderr, "%d blocks\n", blocks)
	return err
}
