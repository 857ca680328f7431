package gate

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"galvo/ci/rig"
	"galvo/services/internal/afpacket"
	"galvo/services/internal/pipeline"
)

// A wire is a veth pair between the device's namespace and a neighbour's.
type wire struct{ port, peer *rig.End }

// newWires makes the device with so many ports and their neighbours.
func newWires(t testing.TB, n int) []wire {
	t.Helper()
	device := rig.NetnsFor(t)
	var wires []wire
	for i := range n {
		port, peer, err := rig.Veth(device, string(rune('a'+i)), rig.NetnsFor(t), "peer", 0)
		if err != nil {
			t.Fatal(err)
		}
		wires = append(wires, wire{port, peer})
	}
	for _, w := range wires {
		for _, e := range []*rig.End{w.port, w.peer} {
			if err := e.WaitUp(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	return wires
}

func (w wire) run(t testing.TB, f func() error) {
	t.Helper()
	if err := w.port.Netns.Run(f); err != nil {
		t.Fatal(err)
	}
}

func link(t testing.TB, a, b wire) {
	t.Helper()
	a.run(t, func() error { return Forward(a.port.Index, b.port.Index) })
	b.run(t, func() error { return Forward(b.port.Index, a.port.Index) })
}

// An ear hears what arrives at an end.
type ear struct {
	*testing.T
	source *afpacket.Source
}

func listen(t *testing.T, e *rig.End) *ear {
	t.Helper()
	var sockets []int
	if err := e.Netns.Run(func() (err error) {
		sockets, err = afpacket.Open(e.Index, 1)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	ports := afpacket.NewPorts(1)
	t.Cleanup(ports.Close)
	if _, err := ports.Add(pipeline.Interface{Port: 1}, sockets, afpacket.Options{}); err != nil {
		t.Fatal(err)
	}
	return &ear{t, ports.Source(0)}
}

// hear returns the frames up to the one that is last, which is left out.
func (e *ear) hear(last []byte) [][]byte {
	e.Helper()
	ctx, cancel := context.WithTimeout(e.Context(), time.Minute)
	defer cancel()
	var heard [][]byte
	for {
		var b pipeline.Batch
		if err := e.source.Next(ctx, &b); err != nil {
			e.Fatalf("after %d frames: %v", len(heard), err)
		}
		for _, p := range b.Packets {
			if bytes.Equal(p.Data, last) {
				return heard
			}
			heard = append(heard, bytes.Clone(p.Data))
		}
	}
}

func play(t *testing.T, e *rig.End, frames ...[]byte) {
	t.Helper()
	var list []rig.Frame
	for _, f := range frames {
		list = append(list, rig.Frame{Data: f})
	}
	r, err := (&rig.Player{To: e}).Play(t.Context(), list)
	if err != nil || r.Errors > 0 {
		t.Fatalf("%v: %v", r, err)
	}
}

// frame makes one of size bytes that begins with destination, a source, and head.
func frame(destination string, size int, head ...byte) []byte {
	f := make([]byte, size)
	for i := range f {
		f[i] = byte(i)
	}
	copy(f, destination)
	copy(f[6:], "\x02\x00\x00\x00\x00\x09")
	copy(f[12:], head)
	return f
}

const (
	host = "\x02\x00\x00\x00\x00\x05"
	all  = "\xff\xff\xff\xff\xff\xff"
)

// whatBridgesSwallow are frames that a Linux bridge, or a network stack, would keep, answer or repair.
func whatBridgesSwallow() map[string][]byte {
	badUDP := []byte{8, 0, 0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0xba, 0xd1, 10, 0, 0, 1, 10, 0, 0, 2, 0, 7, 0, 9, 0, 26, 0xba, 0xd2}
	return map[string][]byte{
		"STP":                    frame("\x01\x80\xc2\x00\x00\x00", 60, 0, 38, 0x42, 0x42, 3),
		"pause":                  frame("\x01\x80\xc2\x00\x00\x01", 60, 0x88, 8, 0, 1, 0xff, 0xff),
		"LACP":                   frame("\x01\x80\xc2\x00\x00\x02", 124, 0x88, 9, 1, 1),
		"802.1X":                 frame("\x01\x80\xc2\x00\x00\x03", 60, 0x88, 0x8e, 1, 1),
		"LLDP":                   frame("\x01\x80\xc2\x00\x00\x0e", 90, 0x88, 0xcc, 2, 7),
		"PTP":                    frame("\x01\x1b\x19\x00\x00\x00", 60, 0x88, 0xf7, 0, 2),
		"PTP peer delay":         frame("\x01\x80\xc2\x00\x00\x0e", 68, 0x88, 0xf7, 2, 2),
		"CDP":                    frame("\x01\x00\x0c\xcc\xcc\xcc", 120, 0, 106, 0xaa, 0xaa, 3, 0, 0, 12, 0x20, 0),
		"ARP":                    frame(all, 60, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1),
		"wrong checksums":        frame(host, 60, badUDP...),
		"tagged":                 frame(host, 70, 0x81, 0, 0x20, 100, 8, 0),
		"priority tag":           frame(host, 70, 0x81, 0, 0xe0, 0, 8, 0),
		"service tag":            frame(host, 70, 0x88, 0xa8, 0, 10, 0x81, 0, 0, 20, 8, 0),
		"three tags":             frame(host, 90, 0x81, 0, 0, 1, 0x81, 0, 0, 2, 0x81, 0, 0, 3, 8, 0),
		"jumbo":                  frame(host, 9018, 0x81, 0, 0, 1, 8, 0),
		"14 bytes of header":     frame(host, 14, 0x08, 0),
		"unknown type":           frame(host, 60, 0x12, 0x34),
		"802.2 with a wrong len": frame(host, 60, 5, 0xdc, 0xfe, 0xfe, 3),
		"IPv6 hop limit 0":       frame(host, 62, 0x86, 0xdd, 0x60, 0, 0, 0, 0, 8, 58, 0),
	}
}

// end is sent last.
func end() []byte { return frame(host, 60, 0x88, 0xb5, 'e', 'n', 'd') }

// Everything crosses a link in both directions as it came, once, and is captured once, where it came in.
func TestForward(t *testing.T) {
	w := newWires(t, 2)
	link(t, w[0], w[1])
	for i, from := range w {
		to := w[1-i]
		captured, other, neighbour := listen(t, from.port), listen(t, to.port), listen(t, to.peer)
		back := listen(t, from.peer)
		var sent [][]byte
		for _, f := range whatBridgesSwallow() {
			sent = append(sent, f)
		}
		play(t, from.peer, append(sent, end())...)
		for where, ear := range map[string]*ear{"the neighbour": neighbour, "the capture": captured} {
			got := ear.hear(end())
			if len(got) != len(sent) {
				t.Errorf("%s has %d frames of %d", where, len(got), len(sent))
			}
			for i := range min(len(got), len(sent)) {
				if !bytes.Equal(got[i], sent[i]) {
					t.Errorf("%s has frame %d as\n% x, want\n% x", where, i, got[i], sent[i])
				}
			}
		}
		// What comes from the other side ends the silence on this one.
		play(t, to.peer, end())
		for where, ear := range map[string]*ear{"the port where they left": other, "the sender": back} {
			if got := ear.hear(end()); len(got) != 0 {
				t.Errorf("%s received %d frames: % x", where, len(got), got[0])
			}
		}
	}
}

// A port that is closed sends nothing of its own, whatever the machine has to say, and its frames go nowhere.
func TestClose(t *testing.T) {
	w := newWires(t, 1)[0]
	w.run(t, func() error { return Close(w.port.Index) })
	heard := listen(t, w.peer)
	w.run(t, func() error {
		l, err := netlink.LinkByIndex(w.port.Index)
		if err != nil {
			return err
		}
		for _, file := range []string{"all", "default", w.port.Name} {
			if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+file+"/disable_ipv6", []byte("0"), 0); err != nil {
				return err
			}
		}
		address, err := netlink.ParseAddr("10.0.0.1/24")
		if err != nil {
			return err
		}
		if err := netlink.AddrAdd(l, address); err != nil {
			return err
		}
		for range 3 { // router solicitations, duplicate address detection, multicast reports, gratuitous ARP
			if err := netlink.LinkSetDown(l); err != nil {
				return err
			}
			if err := netlink.LinkSetUp(l); err != nil {
				return err
			}
		}
		return nil
	})
	// Requests that a machine with this address answers.
	if err := w.port.WaitUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	arp := frame(all, 60, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 9, 10, 0, 0, 2, 0, 0, 0, 0, 0, 0, 10, 0, 0, 1)
	play(t, w.peer, arp)
	if err := w.port.Netns.Run(func() error { return sendRaw(w.port.Index, frame(all, 60, 0x88, 0xcc), 0) }); !errors.Is(err, unix.ENOBUFS) {
		t.Errorf("a daemon that sends LLDP is told %v", err)
	}
	// Silence can only be listened to: router solicitations come after up to a second (RFC 4861 6.3.7).
	time.Sleep(1500 * time.Millisecond)
	w.run(t, func() error { return sendRaw(w.port.Index, end(), Mark) })
	if got := heard.hear(end()); len(got) != 0 {
		t.Errorf("the port sent %d frames: % x", len(got), got[0])
	}
}

// sendRaw sends a frame as a daemon does, or with the mark of who may.
func sendRaw(index int, data []byte, mark int) error {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, mark); err != nil {
		return err
	}
	return unix.Sendto(fd, data, 0, &unix.SockaddrLinklayer{Ifindex: index, Protocol: binary.BigEndian.Uint16([]byte{0, 3})})
}

// Modes change while frames flow, and what is left over from another process is found.
func TestChange(t *testing.T) {
	w := newWires(t, 2)
	neighbour := listen(t, w[1].peer)
	is := func(want bool) {
		t.Helper()
		w[0].run(t, func() error {
			got, err := IsSet(w[0].port.Index)
			if got != want {
				t.Errorf("the gate is there: %t, want %t", got, want)
			}
			return err
		})
	}
	is(false)
	for range 3 {
		w[0].run(t, func() error { return Close(w[0].port.Index) })
		w[1].run(t, func() error { return Close(w[1].port.Index) })
		is(true)
		play(t, w[0].peer, frame(host, 60, 8, 0))
		link(t, w[0], w[1])
		play(t, w[0].peer, end())
		if got := neighbour.hear(end()); len(got) != 0 {
			t.Errorf("%d frames went through a closed port", len(got))
		}
	}
	w[0].run(t, func() error { return Open(w[0].port.Index) })
	is(false)
	w[0].run(t, func() error { return Open(w[0].port.Index) })
	w[0].run(t, func() error { return Open(4711) })
	if err := w[0].port.Netns.Run(func() error { return Close(4711) }); err == nil {
		t.Error("a port that is not there was closed")
	}
}

// Somebody else's filters are left alone.
func TestForeignFilter(t *testing.T) {
	w := newWires(t, 1)[0]
	w.run(t, func() error {
		if err := netlink.QdiscAdd(qdisc(w.port.Index)); err != nil {
			return err
		}
		fd, err := load(drop)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return netlink.FilterAdd(&netlink.BpfFilter{
			FilterAttrs: netlink.FilterAttrs{LinkIndex: w.port.Index, Parent: netlink.HANDLE_MIN_INGRESS, Handle: 1, Protocol: unix.ETH_P_ALL, Priority: 7},
			Fd:          fd, Name: "cilium", DirectAction: true,
		})
	})
	if err := w.port.Netns.Run(func() error { return Close(w.port.Index) }); err == nil {
		t.Error("a port with a filter of another program was closed")
	}
	w.run(t, func() error { return Open(w.port.Index) })
	w.run(t, func() error {
		filters, err := netlink.FilterList(device(w.port.Index), netlink.HANDLE_MIN_INGRESS)
		if len(filters) != 1 {
			t.Errorf("the other program's filter is gone: %v", filters)
		}
		return err
	})
}

// BenchmarkForward sends frames of 60 and 1514 bytes through a link; what is measured is the sender's processor, on which veth does all the work.
func BenchmarkForward(b *testing.B) {
	for _, size := range []int{60, 1514} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			w := newWires(b, 2)
			link(b, w[0], w[1])
			frames := slices.Repeat([]rig.Frame{{Data: frame(host, size, 8, 0)}}, b.N)
			b.SetBytes(int64(size))
			b.ResetTimer()
			r, err := (&rig.Player{To: w[0].peer}).Play(b.Context(), frames)
			if err != nil || r.Errors > 0 {
				b.Fatal(r, err)
			}
			b.ReportMetric(float64(r.CPU.Nanoseconds())/float64(b.N), "ns-cpu/frame")
		})
	}
}
