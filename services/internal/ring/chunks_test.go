package ring

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"galvo/services/internal/packet"
	"galvo/services/internal/ring/block"
	"galvo/services/internal/ring/files"
)

// datagram makes an Ethernet frame with UDP in IPv4: of it, offset bytes are left out in front and more says that some follow.
func datagram(mac byte, src, dst [4]byte, sport, dport uint16, id uint16, offset, n int, more bool) []byte {
	flags := uint16(offset / 8)
	if more {
		flags |= 0x2000
	}
	udp := make([]byte, 8+2*n)
	binary.BigEndian.PutUint16(udp, sport)
	binary.BigEndian.PutUint16(udp[2:], dport)
	binary.BigEndian.PutUint16(udp[4:], uint16(len(udp)))
	payload := udp[offset : offset+n]
	ip := []byte{0x45, 0, 0, 0, byte(id >> 8), byte(id), byte(flags >> 8), byte(flags), 64, 17, 0, 0}
	binary.BigEndian.PutUint16(ip[2:], uint16(20+n))
	return bytes.Join([][]byte{{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, mac, 8, 0}, ip, src[:], dst[:], payload}, nil)
}

// A packet that lies in a chunk of its own, away from the first one of its flow, is delivered with all that is known of that.
func TestPacketAwayFromItsFlow(t *testing.T) {
	a, b := [4]byte{192, 0, 2, 1}, [4]byte{192, 0, 2, 2}
	const rare = 0x99
	for _, test := range []struct {
		name         string
		first, other []byte // the other one alone has the rare address
		between      []byte // nil if nothing need be between them
	}{
		{"reply", datagram(2, b, a, 53, 9999, 1, 0, 64, false), datagram(rare, a, b, 9999, 53, 2, 0, 64, false), nil},
		{"same address", datagram(2, a, a, 6000, 5000, 1, 0, 64, false), datagram(rare, a, a, 5000, 6000, 2, 0, 64, false), nil},
		{"same address again", datagram(2, a, a, 5000, 6000, 1, 0, 64, false), datagram(rare, a, a, 5000, 6000, 2, 0, 64, false), nil},
		{"later fragment", datagram(2, b, a, 5000, 6000, 1, 0, 64, false), datagram(rare, b, a, 5000, 6000, 2, 64, 64, false), datagram(2, b, a, 5000, 6000, 2, 0, 64, true)},
	} {
		t.Run(test.name, func(t *testing.T) {
			frames := []packet.Frame{}
			add := func(data []byte) {
				frames = append(frames, packet.Frame{Data: data, Len: uint32(len(data)), Time: epoch + int64(len(frames))*1000})
			}
			filler := func() {
				for i := range 200 {
					add(datagram(2, [4]byte{10, 0, 0, byte(i)}, b, uint16(i), 9, 1, 0, 600, false))
				}
			}
			add(test.first)
			filler()
			if test.between != nil {
				add(test.between)
				filler()
			}
			add(test.other)
			filler()
			set := newSetting(t, 1, 12<<20).create(t)
			r := set.open(t)
			defer closeRing(t, r)
			w := replay(t, r, frames, len(frames))
			waitIdle(t, r)
			q := Query{From: math.MinInt64, To: math.MaxInt64, Filter: mustFilter(t, fmt.Sprintf("mac == 02:00:00:00:00:%02x", rare))}
			want := w.want(q.Filter, q.From, q.To, false)
			if len(want) != 1 || want[0].flow.ID == 0 {
				t.Fatalf("%d packets are to be found", len(want))
			}
			have, scan := collect(t, r, q)
			if len(have) != 1 || !want[0].is(&have[0]) || scan.Packets > 100 {
				t.Errorf("%+v of %d packets, want %+v", have, scan.Packets, want)
			}
		})
	}
}

// TestDamagedChunk flips a byte in each chunk of a block in turn. What is in the others is delivered, and what does not ask for the chunk does not notice.
func TestDamagedChunk(t *testing.T) {
	set := newSetting(t, 1, 16<<20).create(t)
	r := set.open(t)
	defer closeRing(t, r)
	frames := mix(5, 12_000)
	s := r.Stage(0, table)
	play(t, s, &traffic{frames: frames})
	s.Finish()
	waitIdle(t, r)
	full := 0 // a place with a full block
	for i, b := range r.devices[0].segments[0].slots {
		if b.DataEnd > r.devices[0].segments[0].slots[full].DataEnd {
			full = i
		}
	}
	file := set.disks["a"].files[files.SegmentName(0)].b[full*block.Size:]
	hosts := make(map[string]bool)
	for i := range frames {
		var p packet.Packet
		p.Frame = frames[i]
		p.Decode(packet.LinkEthernet)
		if a := p.Src4(); p.Layers&packet.IPv4 != 0 && len(hosts) < 40 && i%150 == 0 {
			hosts[fmt.Sprintf("%d.%d.%d.%d", a>>24, a>>16&255, a>>8&255, a&255)] = true
		}
	}
	whole, untouched := make(map[string]int), 0
	for host := range hosts {
		have, _ := collect(t, r, Query{From: math.MinInt64, To: math.MaxInt64, Filter: mustFilter(t, "ip == "+host)})
		whole[host] = len(have)
	}
	for c := 0; c < 60; c += 6 {
		at := c*block.ChunkSize + block.ChunkSize/2
		file[at] ^= 4
		have, scan := collect(t, r, everything)
		if lost := len(frames) - len(have); lost < 1 || lost > 1000 || len(scan.Gaps) != 1 || scan.Gaps[0].Why != "damaged" {
			t.Errorf("chunk %d: %d of %d packets, gaps %v", c, len(have), len(frames), scan.Gaps)
		}
		lost := make(map[int64]bool)
		for i := range frames {
			lost[frames[i].Time] = true
		}
		for i := range have {
			delete(lost, have[i].Time)
		}
		first, last := int64(math.MaxInt64), int64(math.MinInt64)
		for at := range lost {
			first, last = min(first, at), max(last, at)
		}
		const around = int64(time.Millisecond) // between two packets
		if len(scan.Gaps) == 1 && (scan.Gaps[0].From > first || scan.Gaps[0].To < last || scan.Gaps[0].To-scan.Gaps[0].From > last-first+2*around) {
			t.Errorf("chunk %d: the packets of %d to %d are lost, and the gap is %v", c, first-epoch, last-epoch, short(scan.Gaps))
		}
		if _, scan := collect(t, r, Query{From: last + around, To: math.MaxInt64}); len(scan.Gaps) != 0 {
			t.Errorf("chunk %d: gaps %v behind it", c, short(scan.Gaps))
		}
		for host, n := range whole {
			have, scan := collect(t, r, Query{From: math.MinInt64, To: math.MaxInt64, Filter: mustFilter(t, "ip == "+host)})
			switch {
			case len(scan.Gaps) == 0 && len(have) != n:
				t.Errorf("chunk %d: %s: %d of %d packets, and no gap", c, host, len(have), n)
			case len(scan.Gaps) == 0:
				untouched++
			case n-len(have) > len(lost):
				t.Errorf("chunk %d: %s: %d of %d packets, and %d were lost", c, host, len(have), n, len(lost))
			}
		}
		file[at] ^= 4
	}
	if said := strings.Join(r.State().Problems, "\n"); !strings.Contains(said, "1 of its 64 chunks: its checksum is wrong") {
		t.Errorf("the ring says %q", said)
	}
	if untouched == 0 {
		t.Error("every query read every damaged chunk")
	}
	have, _ := collect(t, r, everything)
	sameFrames(t, frames, have)
}
