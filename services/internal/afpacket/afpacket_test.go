package afpacket

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"time"

	"galvo/ci/rig"
	"galvo/services/internal/packet"
	"galvo/services/internal/pipeline"
)

// A got is a frame that a source delivered, with its bytes copied.
type got struct {
	packet.Frame
	worker int
}

// patience is how long something may take that takes a moment on a machine that is not busy with other things.
const patience = time.Minute

// receive runs one source until stop says so, and copies its frames.
func receive(t *testing.T, ps *Ports, workers int, stop func(all []got) bool) []got {
	t.Helper()
	var all []got
	batches := make([]pipeline.Batch, workers)
	deadline := time.Now().Add(patience)
	for !stop(all) {
		if time.Now().After(deadline) {
			t.Fatalf("%d frames after %s", len(all), patience)
		}
		for w := range workers {
			if err := ps.Source(w).Next(context.Background(), &batches[w]); err != nil {
				t.Fatal(err)
			}
			for _, p := range batches[w].Packets {
				f := p.Frame
				f.Data = bytes.Clone(f.Data)
				all = append(all, got{f, w})
			}
		}
	}
	return all
}

// count stops receive at a number of frames.
func count(n int) func([]got) bool { return func(all []got) bool { return len(all) >= n } }

// addPort opens a port on e, as the two processes would.
func addPort(t testing.TB, ps *Ports, e *rig.End, id, workers int, o Options) *Port {
	t.Helper()
	var fds []int
	err := e.Netns.Run(func() (err error) {
		fds, err = Open(e.Index, workers)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	p, err := ps.Add(pipeline.Interface{Port: id, Name: e.Name}, fds, o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// newPorts makes ports that end with the test.
func newPorts(t *testing.T, workers int) *Ports {
	ps := NewPorts(workers)
	t.Cleanup(ps.Close)
	return ps
}

// play plays frames; they must all arrive at the other end.
func play(t *testing.T, p rig.Player, frames ...[]byte) {
	t.Helper()
	var list []rig.Frame
	for _, f := range frames {
		list = append(list, rig.Frame{Data: f})
	}
	mustPlay(t, p, list)
}

// ethernet makes a frame between two hosts: what is the hex of everything between the MAC addresses and the IP header, tags and type.
func ethernet(src, dst byte, what string, ip []byte) []byte {
	f := []byte{2, 0, 0, 0, 0, dst, 2, 0, 0, 0, 0, src}
	b, err := hex.DecodeString(strings.ReplaceAll(what, " ", ""))
	if err != nil {
		panic(err)
	}
	return append(append(f, b...), ip...)
}

// ipv4 makes a UDP packet of size bytes; a fragment if offset (in units of 8 bytes, with the flag MF) is not 0.
func ipv4(src, dst uint32, offset uint16, size int) []byte {
	b := make([]byte, size)
	b[0], b[8], b[9] = 0x45, 64, 17
	binary.BigEndian.PutUint16(b[2:], uint16(size))
	binary.BigEndian.PutUint16(b[6:], offset)
	binary.BigEndian.PutUint32(b[12:], src)
	binary.BigEndian.PutUint32(b[16:], dst)
	for i := 28; i < size; i++ {
		b[i] = byte(i)
	}
	return b
}

func TestFramesAreIdentical(t *testing.T) {
	ip := ipv4(0x0a000001, 0x0a000002, 0, 100)
	sent := [][]byte{
		ethernet(1, 2, "0800", ip),
		ethernet(1, 2, "8100 0064 0800", ip),           // 802.1Q
		ethernet(1, 2, "8100 a000 0800", ip),           // priority tag
		ethernet(1, 2, "8100 0000 0800", ip),           // with nothing in it
		ethernet(1, 2, "88a8 0fff 0800", ip),           // 802.1ad
		ethernet(1, 2, "88a8 0010 8100 6020 0800", ip), // QinQ
		ethernet(1, 2, "8100 0010 8100 0020 0800", ip), //
		ethernet(1, 2, "9100 0010 8100 0020 0800", ip), // the kernel does not know this one as a tag
		ethernet(1, 2, "88a8 0001 8100 0002 8100 0003 0800", ip),
		ethernet(1, 2, "0800", ipv4(0x0a000001, 0x0a000002, 0x2000, 1500)), // a datagram that never becomes whole
		ethernet(1, 2, "0800", ipv4(0x0a000001, 0x0a000002, 0x20b9, 500)),
		ethernet(1, 2, "0800", ipv4(0x0a000001, 0x0a000002, 0, 9000)),
		ethernet(1, 2, "8100 0005 0800", ipv4(0x0a000001, 0x0a000002, 0, 9000)),
		ethernet(1, 2, "0026 4242 03", make([]byte, 40)), // 802.3
		ethernet(1, 2, "88cc", nil),
	}
	for _, workers := range []int{1, 2} {
		t.Run(fmt.Sprint(workers), func(t *testing.T) {
			tx, rx := rig.VethFor(t)
			ps := newPorts(t, workers)
			port := addPort(t, ps, rx, 7, workers, Options{})
			before := time.Now().UnixNano()
			play(t, rig.Player{To: tx}, sent...)
			all := receive(t, ps, workers, count(len(sent)))
			after := time.Now().UnixNano()
			missing := sent
			for _, f := range all {
				if f.Len != uint32(len(f.Data)) || f.Flags != packet.DirIn || f.Time < before || f.Time > after {
					t.Errorf("frame of %d bytes: length %d, flags %d, time %d not in %d..%d", len(f.Data), f.Len, f.Flags, f.Time, before, after)
				}
				at := 0
				for at < len(missing) && !bytes.Equal(missing[at], f.Data) {
					at++
				}
				if at == len(missing) {
					t.Errorf("never sent: % x", f.Data[:min(len(f.Data), 64)])
					continue
				}
				missing = append(append([][]byte{}, missing[:at]...), missing[at+1:]...)
			}
			for _, f := range missing {
				t.Errorf("not received: % x", f[:min(len(f), 64)])
			}
			if s := port.Stats(); s.Received != uint64(len(sent)) || s.Frames != s.Received || s.LostKernel != 0 {
				t.Errorf("stats are %+v after %d frames", s, len(sent))
			}
			if i := ps.Source(0).Interfaces()[6]; i.Port != 7 || i.Link != packet.LinkEthernet || i.MAC == [6]byte{} {
				t.Errorf("interface is %+v", i)
			}
		})
	}
}
