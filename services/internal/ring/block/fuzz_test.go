package block

import (
	"encoding/binary"
	"testing"

	"galvo/services/internal/flow"
	"galvo/services/internal/l7"
	"galvo/services/internal/packet"
	"galvo/services/internal/pipeline"
)

var oneInterface = []pipeline.Interface{{Port: 1, Name: "eth1", Link: packet.LinkEthernet}}

// seedBlock makes a block with flows, one of them in a tunnel, one with a name and a verdict that comes later, and returns its packets and the content of its flow table.
func seedBlock() (data, content []byte, packets uint32) {
	b, img := NewBuilder(), &Image{Buf: make([]byte, Size)}
	b.Begin(img, Header{Worker: 1, Generation: 2, Ring: 3, Seq: 4}, AppendHead(nil, oneInterface))
	udp := []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0, 0, 32, 0, 1, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0xc0, 0, 0, 53, 0, 12, 0, 0, 1, 2, 3, 4}
	tcp := &flow.Record{ID: 900, Flags: flow.Server1 | flow.V6, Proto: 6, Port: [2]uint16{50000, 443}}
	dns := &flow.Record{ID: 901, Flags: flow.Server1, Proto: 17, Port: [2]uint16{0xc000, 53}}
	outer := &flow.Record{ID: 17, Flags: flow.Outside, Proto: 47}
	for i, m := range []pipeline.Meta{
		{Ref: flow.Ref{Flow: dns, Outer: dns}, L7: l7.Verdict{State: l7.Pending}},
		{L7: l7.Verdict{State: l7.Final, Proto: 300}},
		{Ref: flow.Ref{Flow: dns, Outer: dns}, L7: l7.Verdict{State: l7.Final, Proto: 5}},
		{Ref: flow.Ref{Flow: tcp, Outer: outer, From: 1, Host: []byte("example.org")}, L7: l7.Verdict{State: l7.Partial, Proto: 91, App: 200}},
	} {
		p := packet.Packet{Frame: packet.Frame{Data: udp, Len: uint32(len(udp)), Time: int64(i)}}
		p.Decode(packet.LinkEthernet)
		b.Add(&p, &m, len(udp)-i)
	}
	b.Finish(img)
	h := &img.Header
	var t FlowTable
	if err := t.Read(img.Buf, h); err != nil {
		panic(err)
	}
	return img.Buf[h.DataStart:h.DataEnd], t.content, h.Packets
}

// FuzzWalk goes through packets and a flow table that anything may have written, without the checksums that keep damage from it: at most as many packets come as
// the header says, each with an entry that has events.
func FuzzWalk(f *testing.F) {
	data, content, packets := seedBlock()
	f.Add(data, content, packets)
	f.Add([]byte{}, content, uint32(0))
	head := AppendHead(nil, oneInterface)
	f.Fuzz(func(t *testing.T, data, content []byte, packets uint32) {
		if len(data)+len(content) > trailerAt/2 {
			return
		}
		b := append(append([]byte(nil), head...), data[:len(data)&^3]...)
		h := Header{Generation: 1, DataStart: uint32(len(head)), DataEnd: uint32(len(b)), Packets: packets}
		b = appendLocal(b, typeFlows, content)
		h.FlowsEnd = uint32(len(b))
		entries, _ := binary.Uvarint(content)
		h.Entries = uint32(entries)
		v := &Reader{Buf: b, Header: h, Chunks: All}
		w, err := v.Walk(&Tables{})
		if err != nil {
			return
		}
		n := uint32(0)
		for {
			more, err := w.Next()
			if err != nil || !more {
				break
			}
			n++
			if len(w.Entry.Events) == 0 || w.Entry.At(w.Ordinal-1) == nil || n > packets {
				t.Fatalf("packet %d of %d, %+v", n, packets, w.Entry)
			}
		}
		for _, later := range []bool{false, true} {
			for id, events := range v.Flows.Known(later) {
				if id == 0 || len(events) == 0 {
					t.Fatal(id, events)
				}
			}
		}
		if w, err = v.Walk(&Tables{}); err != nil {
			t.Fatal(err)
		}
		w.Keys(&h) //nolint:errcheck // any error will do
	})
}

// FuzzChunkTable reads tables of chunks: one that makes sense divides the packets of the block, a plan for any of it lies in the block, and who looks for a time there
// finds it or knows what to read.
func FuzzChunkTable(f *testing.F) {
	b, img := NewBuilder(), &Image{Buf: make([]byte, Size)}
	b.Begin(img, Header{}, AppendHead(nil, oneInterface))
	b.Finish(img)
	f.Add(img.Buf[trailerAt+chunksAt:trailerAt+bloomAt], uint32(100), uint32(4000), uint32(5000), uint32(7), uint64(5))
	block, have := make([]byte, Size), AllPages
	f.Fuzz(func(t *testing.T, table []byte, start, end, flowsEnd, packets uint32, chunks uint64) {
		copy(block[trailerAt+chunksAt:trailerAt+bloomAt], table)
		plan := Plan(Chunks(chunks), end, flowsEnd)
		if plan.without(&have) != (Pages{}) {
			t.Fatal("a plan of pages that there are not")
		}
		h := Header{DataStart: start, DataEnd: end, FlowsEnd: flowsEnd, Packets: packets}
		if start < 28 || start > end || end > flowsEnd || flowsEnd > trailerAt {
			return // no header is so
		}
		var c chunkTable
		if !c.read(block, &h) {
			return
		}
		for i := range MaxChunks {
			if c.at[i] > c.at[i+1] || c.nth[i] > c.nth[i+1] || c.at[i+1] > end || c.nth[i+1] > packets {
				t.Fatalf("chunk %d has the bytes %d to %d, and packets %d to %d, of %d", i, c.at[i], c.at[i+1], c.nth[i], c.nth[i+1], packets)
			}
		}
		v := Reader{Buf: block, Header: h, Chunks: Chunks(chunks), table: c}
		if n, left, err := v.Before(int64(chunks), All); err == nil && (n > int(packets) || left != 0 && left&^v.Chunks == 0) {
			t.Fatalf("%d of %d packets are earlier, and %064b may say more than %064b", n, packets, left, chunks)
		}
	})
}

// FuzzCodes reads codes of chunks, and writes what they say: that has these chunks at least.
func FuzzCodes(f *testing.F) {
	f.Add([]byte{5})
	f.Add([]byte{0x80 | 43, 32})
	f.Add([]byte{0x80 | 3, 0x40 | 7, 9})
	f.Fuzz(func(t *testing.T, codes []byte) {
		d := Decoder{B: codes}
		c := d.Codes()
		if c == 0 {
			t.Fatal("no chunk")
		}
		again := Decoder{B: c.AppendCodes(nil)}
		if back := again.Codes(); again.Bad || len(again.B) > 0 || back&c != c {
			t.Fatalf("%064b becomes %064b", c, back)
		}
	})
}
