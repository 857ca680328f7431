package block

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"testing"

	"galvo/services/internal/filter"
	"galvo/services/internal/flow"
	"galvo/services/internal/l7"
	"galvo/services/internal/packet"
	"galvo/services/internal/pipeline"
)

// A crowd makes frames of some hosts: each link header goes with each pair of addresses, as behind routers, and everything that has keys is rare in one round or another.
type crowd struct {
	*rand.Rand
	hosts, ports, macs         int
	tagged, tunnels, fragments int // one of so many frames
	padding                    int // bytes, for a block of several chunks
}

func newCrowd(rnd *rand.Rand) *crowd {
	return &crowd{rnd, 1 + rnd.IntN(4), 1 + rnd.IntN(2), 1 + rnd.IntN(3), 1 + rnd.IntN(30), 1 + rnd.IntN(30), 1 + rnd.IntN(30), rnd.IntN(2) * 4000}
}

func (c *crowd) frame(inside []byte) []byte {
	f := []byte{2, 0, 0, 0, 0, byte(c.IntN(c.macs)), 2, 0, 0, 0, 1, byte(c.IntN(c.macs))}
	for n := 0; n < 2 && c.IntN(c.tagged) == 0; n++ {
		f = append(f, [][]byte{{0x81, 0, 0, 5}, {0x81, 0, 0, 6}, {0x88, 0xa8, 0, 5}}[c.IntN(3)]...)
	}
	port, flags := 1000+c.IntN(c.ports), byte(0)
	if inside != nil {
		port, inside = 4789, append([]byte{8, 0, 0, 0, 0, 0, 7, 0}, inside...)
	} else if inside = make([]byte, 20); c.IntN(c.fragments) == 0 {
		flags = 0x20
	}
	f = append(f, 8, 0, 0x45, 0, 0, byte(28+len(inside)), 0, 1, flags, 0, 64, 17, 0, 0, 10, 0, byte(c.IntN(c.hosts)), 1, 10, 0, byte(c.IntN(c.hosts)), 2)
	f = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(f, uint16(1000+c.IntN(c.ports))), uint16(port))
	return append(append(f, 0, byte(8+len(inside)), 0, 0), inside...)
}

// packet makes a packet of one of the flows.
func (c *crowd) packet(flows map[string]*flow.Record) (p packet.Packet, m pipeline.Meta) {
	data := c.frame(nil)
	if c.IntN(c.tunnels) == 0 {
		data = c.frame(data)
	}
	data = append(data, make([]byte, c.padding)...)
	p = packet.Packet{Frame: packet.Frame{Data: data, Len: uint32(len(data)), Iface: uint16(c.IntN(20) / 19)}}
	p.Decode(packet.LinkEthernet)
	if c.IntN(50) == 0 {
		return p, m // as if there were no room for its flow
	}
	inner := p
	for inner.Inner(&inner) {
	}
	name := string(inner.Data[inner.L3+12:][:12])
	r := flows[name]
	if r == nil {
		r = &flow.Record{ID: uint64(len(flows) + 1), Proto: inner.Proto, Port: [2]uint16{inner.SrcPort, inner.DstPort}}
		binary.BigEndian.PutUint32(r.Addr[0][:], inner.Src4())
		binary.BigEndian.PutUint32(r.Addr[1][:], inner.Dst4())
		flows[name] = r
	}
	return p, pipeline.Meta{Ref: flow.Ref{Flow: r, Outer: r}, L7: l7.Verdict{State: l7.Final, Proto: 5}}
}

// TestKeys holds the keys that a builder notes to those of the packets.
func TestKeys(t *testing.T) {
	b, img := NewBuilder(), &Image{Buf: make([]byte, Size)}
	for seed := range uint64(1000) {
		c := newCrowd(rand.New(rand.NewPCG(1, seed)))
		begin(b, img, seed)
		flows := make(map[string]*flow.Record)
		for n := c.IntN(60); n >= 0; n-- {
			p, m := c.packet(flows)
			b.Add(&p, &m, len(p.Data))
		}
		b.Finish(img)
		checkKeys(t, img)
		b.Reset()
	}
}

// TestKeysOfManyFlows has so many flows in a block that its keys are looked for before it is complete, and then what came before once more.
func TestKeysOfManyFlows(t *testing.T) {
	b, img := NewBuilder(), &Image{Buf: make([]byte, Size)}
	for seed := range uint64(10) {
		c := newCrowd(rand.New(rand.NewPCG(2, seed)))
		begin(b, img, seed)
		flows := make(map[string]*flow.Record)
		first, m1 := c.packet(flows)
		b.Add(&first, &m1, len(first.Data))
		many := crowd{c.Rand, 100, 100, 10, math.MaxInt32, math.MaxInt32, math.MaxInt32, 0}
		collected := false
		for !collected {
			if !b.Room(200) {
				t.Fatalf("%d keys of %d packets were not too many", len(b.keys.list), b.Header.Packets)
			}
			p, m := many.packet(flows)
			b.Add(&p, &m, len(p.Data))
			collected = len(b.keys.list) == 0
		}
		b.Add(&first, &m1, len(first.Data))
		b.Finish(img)
		checkKeys(t, img)
		b.Reset()
	}
}

func begin(b *Builder, img *Image, seed uint64) {
	b.Begin(img, Header{Worker: 1, Generation: 2, Ring: 3, Seq: seed + 1}, AppendHead(nil, []pipeline.Interface{{Link: packet.LinkEthernet}, {Link: packet.LinkEthernet}}))
}

func checkKeys(t *testing.T, img *Image) {
	t.Helper()
	v := &Reader{Buf: img.Buf, Header: img.Header, Chunks: All}
	w, err := v.Walk(&Tables{})
	if err != nil {
		t.Fatal(err)
	}
	want, err := w.Keys(&img.Header)
	if err != nil {
		t.Fatal(err)
	}
	for i, k := range img.Keys {
		if c, ok := want[filter.Key(k)]; !ok {
			t.Errorf("the index has the key %#x, and no packet has it", k)
		} else if c&^img.Chunks[i] != 0 {
			t.Errorf("key %#x: chunks %#x, and packets in %#x have it", k, uint64(img.Chunks[i]), uint64(c))
		}
		delete(want, filter.Key(k))
	}
	for k := range want {
		t.Errorf("packets have the key %#x, and the index has not", uint64(k))
	}
}
