// Command play sends a savefile, or frames of its own making, into an interface.
//
//	go run ./ci/rig/play -i veth0 [-rate 100000 | -speed 1] FILE
//	go run ./ci/rig/play -i veth0 -mix 100000 [-seed 1] [-w FILE]
//
// Without -rate and -speed it sends as fast as it can. With -w it writes the frames to a pcap file too; without -i it does only that.
package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"

	"galvo/ci/rig"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "play:", err)
		os.Exit(1)
	}
}

func run() error {
	name := flag.String("i", "", "the interface to send into")
	rate := flag.Float64("rate", 0, "frames per second")
	speed := flag.Float64("speed", 0, "times the frames' own timing")
	times := flag.Int("times", 1, "how often to send everything")
	mix := flag.Int("mix", 0, "how many frames of mixed traffic to make")
	seed := flag.Uint64("seed", 1, "of the mixed traffic")
	write := flag.String("w", "", "write the frames to this pcap file")
	flag.Parse()
	frames, err := load(*mix, *seed, flag.Args())
	if err != nil {
		return err
	}
	if *write != "" {
		if err := rig.WritePcap(*write, frames); err != nil {
			return err
		}
	}
	if *name == "" {
		return nil
	}
	to, err := net.InterfaceByName(*name)
	if err != nil {
		return fmt.Errorf("interface %s: %w", *name, err)
	}
	here, err := rig.ThisNetns()
	if err != nil {
		return err
	}
	defer here.Close()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	p := rig.Player{To: &rig.End{Netns: here, Name: *name, Index: to.Index}, Rate: *rate, Speed: *speed}
	for range *times {
		report, err := p.Play(ctx, frames)
		if err != nil {
			return err
		}
		fmt.Println(report)
	}
	return nil
}

func load(mix int, seed uint64, files []string) ([]rig.Frame, error) {
	switch {
	case mix > 0 && len(files) == 0:
		return rig.Mix(seed, mix), nil
	case mix == 0 && len(files) == 1:
		return rig.ReadFile(files[0])
	}
	flag.Usage()
	return nil, fmt.Errorf("name one savefile, or -mix and a number of frames")
}
