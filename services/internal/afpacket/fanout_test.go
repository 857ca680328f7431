package afpacket

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"galvo/ci/rig"
	"galvo/services/internal/packet"
)

// wrappings make frames that belong together: between hosts a and b, the i-th thing that they do.
var wrappings = []struct {
	name string
	make func(src, dst byte, ip []byte) []byte
	ip   func(src, dst byte, i int) []byte
}{
	{"ipv4", wrap("0800"), v4},
	{"802.1Q", wrap("8100 0064 0800"), v4},
	{"priority", wrap("8100 0000 0800"), v4},
	{"QinQ", wrap("88a8 0010 8100 0020 0800"), v4},
	{"four tags", wrap("88a8 0010 8100 0020 8100 0030 9100 0040 0800"), v4},
	{"PPPoE", wrap("8864 1100 1234 0066 0021"), v4},
	{"PPPoE behind a tag", wrap("8100 0007 8864 1100 1234 0066 0021"), v4},
	{"MPLS", wrap("8847 0006 4140"), v4},
	{"MPLS, three labels", wrap("8847 0006 4040 0007 4040 0008 4140"), v4},
	{"MPLS multicast code behind two tags", wrap("8100 0007 8100 0008 8848 0006 4140"), v4},
	{"ipv6", wrap("86dd"), v6},
	{"ipv6 behind tags", wrap("88a8 0001 8100 0002 86dd"), v6},
	{"ipv6 in PPPoE", wrap("8864 1100 1234 0066 0057"), v6},
	{"ipv6 in MPLS", wrap("8847 0006 4140"), v6},
	{"VN-Tag", wrapOneWay("8926 00050006 0800"), v4},
	{"HSR behind a tag", wrapOneWay("8100 0007 892f 00340001 0800"), v4},
	{"E-TAG before a tag", wrapOneWay("893f 000500060007 8100 0009 86dd"), v6},
	{"PBB", wrapOneWay("88a8 000b 88e7 00000001 020000000003 020000000004 8100 000c 0800"), v4},
	{"FabricPath", wrapOneWay("8903 0d60 0a0000000001 0a0000000002 8100 0009 0800"), v4},
	{"MPLS behind CMD", wrapOneWay("8909 010100010006 8847 0006 4140"), v6},
	{"no IP", wrap("88cc"), nil},
	{"802.3", wrap("0026 4242 03"), nil},
	{"MPLS without IP", wrap("8847 0006 4140 0000 0000"), nil},
	{"too many labels", wrap("8847" + fmt.Sprintf("%0*x", 8*maxLabels, 0) + "0006 4140"), nil},
}

// wrap returns a maker of frames whose MAC addresses are the hosts'.
func wrap(what string) func(src, dst byte, ip []byte) []byte {
	return func(src, dst byte, ip []byte) []byte { return ethernet(src, dst, what, ip) }
}

// wrapOneWay is wrap, but each direction has source addresses of its own: only what is within tells that they belong together.
func wrapOneWay(what string) func(src, dst byte, ip []byte) []byte {
	return func(src, dst byte, ip []byte) []byte {
		f := ethernet(src, dst, what, ip)
		f[10] = src + 1
		return f
	}
}

// v4 is a packet of hosts in two networks; the i-th is a whole datagram, a first fragment, or a later one.
func v4(src, dst byte, i int) []byte {
	return ipv4(0x0a000000|uint32(src&1)<<16|uint32(src), 0x0a000000|uint32(dst&1)<<16|uint32(dst), [...]uint16{0, 0x2000, 0x20b9, 0x00b9}[i%4], 100)
}

func v6(src, dst byte, _ int) []byte {
	b := make([]byte, 60)
	b[0], b[6], b[7] = 0x60, 17, 64
	binary.BigEndian.PutUint16(b[4:], 20)
	copy(b[8:], []byte{0x20, 0x01, 0x0d, 0xb8, 14: src & 1, 15: src})
	copy(b[24:], []byte{0x20, 0x01, 0x0d, 0xb8, 14: dst & 1, 15: dst})
	return b
}

// Both directions of 64 pairs of hosts, on both ports of a link, must meet in one worker, and both workers must have some.
func TestOneWorkerPerFlow(t *testing.T) {
	const pairs, workers = 64, 2
	tx1, rx1 := rig.VethFor(t)
	tx2, rx2 := rig.VethFor(t)
	for _, w := range wrappings {
		t.Run(w.name, func(t *testing.T) {
			ps := newPorts(t, workers)
			addPort(t, ps, rx1, 1, workers, Options{Blocks: 16})
			addPort(t, ps, rx2, 2, workers, Options{Direction: Both, Blocks: 16})
			var there, back [][]byte
			for i := range pairs {
				a, b := byte(2*i), byte(2*i+1)
				for n := range 4 {
					var ab, ba []byte
					if w.ip != nil {
						ab, ba = w.ip(a, b, n), w.ip(b, a, n)
					} else {
						ab, ba = make([]byte, 60), make([]byte, 60)
					}
					there = append(there, w.make(a, b, ab))
					back = append(back, w.make(b, a, ba))
				}
			}
			play(t, rig.Player{To: tx1}, append(slices.Clone(there), back...)...)
			play(t, rig.Player{To: tx2}, append(slices.Clone(there), back...)...)
			play(t, rig.Player{To: rx2, Visible: true}, append(slices.Clone(there), back...)...)
			all := receive(t, ps, workers, count(6*len(there)))
			where := map[byte]int{} // by the even host of the pair
			used := [workers]int{}
			for _, f := range all {
				pair := f.Data[5] &^ 1
				if first, ok := where[pair]; ok && first != f.worker {
					t.Fatalf("pair %d is in workers %d and %d", pair/2, first, f.worker)
				} else if !ok {
					used[f.worker]++
				}
				where[pair] = f.worker
			}
			if len(where) != pairs || used[0] < pairs/4 || used[1] < pairs/4 {
				t.Errorf("%d pairs, in workers %v", len(where), used)
			}
		})
	}
}

// A frame that ends where the program wants to look goes to some worker and is not lost.
func TestCutFrames(t *testing.T) {
	const workers = 2
	tx, rx := rig.VethFor(t)
	ps := newPorts(t, workers)
	addPort(t, ps, rx, 1, workers, Options{Blocks: 16})
	var sent [][]byte
	for _, w := range wrappings {
		f := w.make(1, 2, v4(1, 2, 0))
		for n := 20; n < 60; n++ { // the kernel itself drops a frame with half a tag, before any tap
			sent = append(sent, f[:n])
		}
	}
	play(t, rig.Player{To: tx}, sent...)
	for _, f := range receive(t, ps, workers, count(len(sent))) {
		if !slices.ContainsFunc(sent, func(s []byte) bool { return bytes.Equal(s, f.Data) }) {
			t.Errorf("never sent: % x", f.Data)
		}
	}
}

func TestDirections(t *testing.T) {
	tx, rx := rig.VethFor(t)
	in := ethernet(1, 2, "8100 0003 0800", v4(1, 2, 0))
	out := ethernet(2, 1, "8100 0003 0800", v4(2, 1, 0))
	for _, c := range []struct {
		name    string
		workers int
		o       Options
		want    map[packet.Flags][]byte
	}{
		{"in", 1, Options{Direction: In}, map[packet.Flags][]byte{packet.DirIn: in}},
		{"in, two workers", 2, Options{Direction: In}, map[packet.Flags][]byte{packet.DirIn: in}},
		{"both", 1, Options{Direction: Both}, map[packet.Flags][]byte{packet.DirIn: in, packet.DirOut: out}},
		{"both, two workers", 2, Options{Direction: Both}, map[packet.Flags][]byte{packet.DirIn: in, packet.DirOut: out}},
	} {
		t.Run(c.name, func(t *testing.T) {
			ps := newPorts(t, c.workers)
			port := addPort(t, ps, rx, 1, c.workers, c.o)
			play(t, rig.Player{To: rx, Visible: true}, out)
			play(t, rig.Player{To: tx}, in)
			for _, f := range receive(t, ps, c.workers, count(len(c.want))) {
				if !bytes.Equal(f.Data, c.want[f.Flags]) {
					t.Errorf("flags %d: % x", f.Flags, f.Data)
				}
			}
			if s := port.Stats(); s.Received != uint64(len(c.want)) {
				t.Errorf("received %d, want %d", s.Received, len(c.want))
			}
		})
	}
}

// Frames of a link's two ports come in the order of their times, though their blocks are ready at other times.
func TestPortsAreMergedByTime(t *testing.T) {
	const turns = 40
	tx1, rx1 := rig.VethFor(t)
	tx2, rx2 := rig.VethFor(t)
	ps := newPorts(t, 1)
	addPort(t, ps, rx1, 1, 1, Options{Blocks: 16})
	addPort(t, ps, rx2, 2, 1, Options{Blocks: 16})
	played := make(chan bool)
	go func() {
		defer close(played)
		for range turns {
			play(t, rig.Player{To: tx1}, ethernet(1, 2, "0800", v4(1, 2, 0)))
			play(t, rig.Player{To: tx2}, ethernet(2, 1, "0800", v4(2, 1, 0)))
		}
	}()
	all := receive(t, ps, 1, count(2*turns))
	<-played
	for i := range all {
		if i > 0 && all[i].Time < all[i-1].Time {
			t.Fatalf("frame %d is %v older than the one before it", i, time.Duration(all[i-1].Time-all[i].Time))
		}
		if want := uint16(i % 2); all[i].Iface != want {
			t.Fatalf("frame %d came from interface %d, want %d", i, all[i].Iface, want)
		}
	}
}

func TestProgramIsAccepted(t *testing.T) {
	for link := range map[packet.LinkType]bool{packet.LinkEthernet: true, packet.LinkRaw: true} {
		code := fanoutProgram(link)
		if len(code) > unix.BPF_MAXINSNS {
			t.Errorf("%d instructions", len(code))
		}
		t.Logf("link type %d: %d instructions", link, len(code))
	}
}
