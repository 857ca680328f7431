package live

import (
	"bytes"
	"io"
	"net/url"
	"os"
	"syscall"
	"testing"

	"github.com/google/gopacket/pcapgo"
	"github.com/vishvananda/netlink"

	"galvo/ci/rig"
)

// bridged is a link of two ports that forward to each other.
const bridged = twoWorkers + `
[[port]]
name = "left"
link = 1
[[port]]
name = "right"
link = 1
[[link]]
number = 1
mode = "bridge"
`

// arrived returns how many frames an end has received.
func arrived(t *testing.T, e *rig.End) (n uint64) {
	t.Helper()
	if err := e.Netns.Run(func() error {
		l, err := netlink.LinkByName(e.Name)
		if err == nil {
			n = l.Attrs().Statistics.RxPackets
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return n
}

// Frames that a Linux bridge would swallow cross a link of the device, are captured once and as received where they came in, and cross it when the engine
// is dead too.
func TestBridgedLink(t *testing.T) {
	box := rig.NetnsFor(t)
	var peers []*rig.End
	for _, name := range []string{"left", "right"} {
		_, peer, err := rig.Veth(box, name, rig.NetnsFor(t), "peer", 0)
		if err != nil {
			t.Fatal(err)
		}
		peers = append(peers, peer)
	}
	d := start(t, box, bridged)
	d.portsUp(2)
	d.wait("the link is bridged", func() bool {
		list := d.ports()
		return len(list) == 2 && list[0].Mode == "bridge" && list[1].Mode == "bridge"
	})
	frame := func(size int, head string) []byte {
		f := bytes.Repeat([]byte{0x5a}, size)
		copy(f, head)
		return f
	}
	const from = "\x02\x00\x00\x00\x00\x07"
	var frames []rig.Frame
	for _, f := range [][]byte{
		frame(60, "\x01\x80\xc2\x00\x00\x00"+from+"\x00\x26\x42\x42\x03"),                                                                       // STP
		frame(124, "\x01\x80\xc2\x00\x00\x02"+from+"\x88\x09\x01\x01"),                                                                          // LACP
		frame(90, "\x01\x80\xc2\x00\x00\x0e"+from+"\x88\xcc\x02\x07"),                                                                           // LLDP
		frame(60, "\x01\x1b\x19\x00\x00\x00"+from+"\x88\xf7\x00\x02"),                                                                           // PTP
		frame(70, "\x02\x00\x00\x00\x00\x08"+from+"\x88\xa8\x00\x0a\x81\x00\x00\x14\x08\x00"),                                                   // two tags
		frame(9000, "\x02\x00\x00\x00\x00\x08"+from+"\x08\x00\x45\x00\x23\x1a\x00\x00\x00\x00\x40\x11\x00\x00\x0a\x00\x00\x01\x0a\x00\x00\x02"), // jumbo, wrong checksums
	} {
		frames = append(frames, rig.Frame{Data: f})
	}
	for i, sender := range peers {
		receiver := peers[1-i]
		before, sent := arrived(t, receiver), d.received()
		dl := d.curl(url.Values{"expression": {""}}, "")
		if r, err := (&rig.Player{To: sender}).Play(t.Context(), frames); err != nil || r.Errors > 0 {
			t.Fatal(r, err)
		}
		d.settle(sent + uint64(len(frames)))
		d.end(dl)
		if n := arrived(t, receiver) - before; n != uint64(len(frames)) {
			t.Errorf("%d of %d frames came out of the link", n, len(frames))
		}
		if n := arrived(t, sender); i == 0 && n != 0 {
			t.Errorf("%d frames came back", n)
		}
		where := interfacesOf(t, dl.file)
		var want [][]byte
		for _, f := range frames {
			want = append(want, f.Data)
		}
		sameFrames(t, "captured", framesOf(t, dl.file), want)
		for _, index := range where {
			if index != i {
				t.Errorf("captured on port %d, sent into port %d", index+1, i+1)
			}
		}
	}

	engine := d.Service("engine")
	d.Signal("engine", syscall.SIGSTOP) // dead, and not started again yet
	before := arrived(t, peers[1])
	if r, err := (&rig.Player{To: peers[0]}).Play(t.Context(), frames); err != nil || r.Errors > 0 {
		t.Fatal(r, err)
	}
	if n := arrived(t, peers[1]) - before; n != uint64(len(frames)) {
		t.Errorf("without an engine %d of %d frames came out of the link", n, len(frames))
	}
	if err := syscall.Kill(engine, syscall.SIGKILL); err != nil {
		t.Error(err)
	}
	d.wait("the engine is back", func() bool {
		list := d.ports()
		return len(list) == 2 && list[0].Mode == "bridge" && list[1].State == "up"
	})
}

// interfacesOf returns the interface of each packet in a savefile, from 0.
func interfacesOf(t *testing.T, file string) (list []int) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := pcapgo.NewNgReader(f, pcapgo.NgReaderOptions{WantMixedLinkType: true})
	if err != nil {
		t.Fatal(err)
	}
	for {
		_, info, err := r.ReadPacketData()
		if err == io.EOF {
			return list
		}
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, info.InterfaceIndex)
	}
}
