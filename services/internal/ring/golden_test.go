package ring

import (
	"bytes"
	"flag"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"galvo/services/internal/filter"
	"galvo/services/internal/flow"
	"galvo/services/internal/l7"
	"galvo/services/internal/packet"
	"galvo/services/internal/pipeline"
	"galvo/services/internal/ring/block"
	"galvo/services/internal/ring/files"
	"galvo/services/internal/ring/index"
	"galvo/services/internal/ring/state"
)

var update = flag.Bool("update", false, "write the golden files anew")

// goldenBlock makes a block by hand, with one of everything: flows of both versions, one that goes on and is recognised, a tunnelled one, a name, and a
// packet without flow.
func goldenBlock() *block.Image {
	b := block.NewBuilder()
	img := &block.Image{Buf: make([]byte, block.Size)}
	b.Begin(img, block.Header{Worker: 3, Generation: 7, Ring: 0x1122334455667788, Seq: 42, Lost: 5, Dropped: 6, Synced: 1000}, block.AppendHead(nil, ethernet))
	eth := func(etherType uint16, rest ...byte) []byte {
		return append(append(bytes.Clone([]byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2}), byte(etherType>>8), byte(etherType)), rest...)
	}
	udp := eth(0x0800, 0x45, 0, 0, 32, 0, 1, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0xc0, 0, 0, 53, 0, 12, 0, 0, 1, 2, 3, 4)
	tcp := &flow.Record{ID: 900, First: epoch - 5e9, Flags: flow.Server1 | flow.V6, Proto: 6, Port: [2]uint16{50000, 443}}
	tcp.Addr[0][0], tcp.Addr[0][15], tcp.Addr[1][0], tcp.Addr[1][15] = 0x20, 1, 0x20, 2
	dns := &flow.Record{ID: 901, First: epoch, Flags: flow.Server1, Proto: 17, Port: [2]uint16{0xc000, 53}}
	copy(dns.Addr[0][:], []byte{10, 0, 0, 1})
	copy(dns.Addr[1][:], []byte{10, 0, 0, 2})
	outer := &flow.Record{ID: 17, First: epoch, Flags: flow.Outside, Proto: 47}
	add := func(i int64, data []byte, m pipeline.Meta, captured int) {
		p := packet.Packet{Frame: packet.Frame{Data: data, Len: uint32(len(data)), Iface: uint16(i % 2), Time: epoch + i*1000, Flags: packet.Flags(i % 3)}}
		p.Decode(packet.LinkEthernet)
		b.Add(&p, &m, captured)
	}
	add(0, udp, pipeline.Meta{Ref: flow.Ref{Flow: dns, Outer: dns}, L7: l7.Verdict{State: l7.Pending}}, len(udp))
	add(1, eth(0x88cc, 1, 2, 3), pipeline.Meta{L7: l7.Verdict{State: l7.Final, Proto: 300}}, 17)
	add(2, udp, pipeline.Meta{Ref: flow.Ref{Flow: dns, Outer: dns}, L7: l7.Verdict{State: l7.Final, Proto: 5}}, len(udp))
	add(3, udp, pipeline.Meta{Ref: flow.Ref{Flow: tcp, Outer: outer, From: 1, Host: []byte("example.org")}, L7: l7.Verdict{State: l7.Partial, Proto: 91, App: 200}}, 20)
	add(2, eth(0x0806), pipeline.Meta{}, 14)
	b.Finish(img)
	img.Header.Total = 4711
	block.Seal(img.Buf, &img.Header)
	return img
}

// golden compares with a file of testdata. Runs of zeros in it are left out: a line is an offset and up to 16 bytes.
func golden(t *testing.T, name string, b []byte) {
	t.Helper()
	var text bytes.Buffer
	for at := 0; at < len(b); at += 16 {
		row := b[at:min(at+16, len(b))]
		if !bytes.Equal(row, make([]byte, len(row))) {
			fmt.Fprintf(&text, "%06x % x\n", at, row)
		}
	}
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, text.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), text.String()); diff != "" {
		t.Errorf("%s: the format has changed: it needs a new version (-want +got):\n%.3000s", name, diff)
	}
}

// TestGolden compares a block, a segment's index and the pages of the state file with what FORMAT.md describes.
func TestGolden(t *testing.T) {
	img := goldenBlock()
	golden(t, "block.txt", img.Buf)

	one := index.SlotOf(&img.Header)
	one.Keys, one.Chunks = img.Keys, img.Chunks
	two := one
	two.Seq, two.First, two.Keys = 43, epoch+5, []uint64{uint64(filter.Key(5<<56 | 53)), 5<<56 | 443, 5<<56 | 444, 5<<56 | 445}
	two.Chunks = []block.Chunks{1<<3 | 1<<9, 1<<20 | 1<<21 | 1<<22 | 1<<40, 1 << 5, block.All}
	slots := []index.Slot{one, two, {}}
	file := &diskFile{disk: newDisk(1), b: make([]byte, index.MinSegment)}
	if err := new(index.Writer).Write(new(index.Index), &index.Segment{File: file, Bytes: index.MinSegment, Number: 9, Ring: img.Header.Ring}, slots); err != nil {
		t.Fatal(err)
	}
	golden(t, "index.txt", file.b[index.MinSegment-block.Size:])

	d := state.Descriptor{Name: "golden", Ring: img.Header.Ring, Device: 1, Devices: 2, Copies: 1, Generation: 7, SegmentBytes: 4 << 20, Segments: 5, Created: epoch, Discarded: 9, Clean: true,
		Saved: epoch + 7, Pauses: []state.Pause{{From: epoch + 1, To: epoch + 2}, {From: epoch + 3, To: epoch + 4}},
		Kept: []state.Kept{{From: epoch + 5, To: epoch + 6, Until: epoch + 1e9}}, KeptTurn: 3, Overwritten: epoch + 2, Ahead: state.Pause{From: epoch + 1e10, To: epoch + 2e10}, Total: 4712, Lacking: true}
	d.Dropped[state.CauseDisk] = 8
	page := make([]byte, 2*files.PageSize)
	d.Put(page)
	s := state.Segment{State: state.Closed, SeqLo: 42, SeqHi: 43, First: epoch, Last: epoch + 9, Pinned: epoch + 1e9, Floor: 3, TotalHi: 4711}
	s.Put(page[files.PageSize:])
	golden(t, "state.txt", page)
}

// TestGoldenIsRead reads the golden block as it was made.
func TestGoldenIsRead(t *testing.T) {
	img := goldenBlock()
	h, err := block.Check(img.Buf)
	if err != nil || h != img.Header {
		t.Fatalf("%+v, want %+v, %v", h, img.Header, err)
	}
	v := &block.Reader{Buf: img.Buf, Header: h, Chunks: block.All}
	w, err := v.Walk(&block.Tables{})
	if err != nil {
		t.Fatal(err)
	}
	type row struct {
		Flow, Outer, ID uint64
		Server, Client  uint16
		From            flow.Endpoint
		Verdict         l7.Verdict
		Host            string
		Data            int
	}
	var rows []row
	for {
		more, err := w.Next()
		if err != nil {
			t.Fatal(err)
		}
		if !more {
			break
		}
		ev := w.Entry.At(w.Ordinal - 1)
		r := row{Verdict: ev.Verdict, Host: string(ev.Host), Data: len(w.Packet.Data), From: w.Ref.From}
		if f := w.Ref.Flow; f != nil {
			r.Flow, r.Outer, r.Server, r.Client = f.ID, w.Ref.Outer.ID, f.Port[f.Server()], f.Port[1-f.Server()]
		}
		rows = append(rows, r)
	}
	const dns, tcp, outer = 7<<48 | 3<<40 | 901, 7<<48 | 3<<40 | 900, 7<<48 | 3<<40 | 17
	want := []row{
		{Flow: dns, Outer: dns, Server: 53, Client: 0xc000, Verdict: l7.Verdict{State: l7.Pending}, Data: 46},
		{Verdict: l7.Verdict{State: l7.Final, Proto: 300}, Data: 17},
		{Flow: dns, Outer: dns, Server: 53, Client: 0xc000, Verdict: l7.Verdict{State: l7.Final, Proto: 5}, Data: 46},
		{Flow: tcp, Outer: outer, Server: 443, Client: 50000, Verdict: l7.Verdict{State: l7.Partial, Proto: 91, App: 200}, Host: "example.org", Data: 20},
		{Data: 14},
	}
	if diff := cmp.Diff(want, rows); diff != "" {
		t.Error(diff)
	}
}

// FuzzBlock reads blocks that anything may have damaged, with checksums that say that they are whole: all of it, and some of its chunks.
func FuzzBlock(f *testing.F) {
	img := goldenBlock()
	table := img.Buf[theTrailer+theChunks : theTrailer+theBloom]
	f.Add(img.Buf[:img.Header.FlowsEnd], table, uint64(1), img.Header.Packets, img.Header.Entries, img.Header.DataStart, img.Header.DataEnd)
	f.Fuzz(func(t *testing.T, front, table []byte, chunks uint64, packets, entries, dataStart, dataEnd uint32) {
		b := make([]byte, block.Size)
		n := copy(b[:theTrailer-12], front) &^ 3 // with room for padding
		copy(b[theTrailer+theChunks:theTrailer+theBloom], table)
		h := block.Header{Ring: 1, Seq: 1, Packets: packets, Entries: entries & 0xffff, FlowsEnd: uint32(n)}
		h.DataEnd = dataEnd % uint32(n+1)
		h.DataStart = dataStart % (h.DataEnd + 1)
		h.Resum(b)
		block.Seal(b, &h)
		whole := &block.Reader{Buf: b, Chunks: block.All}
		var err error
		if whole.Header, err = block.Check(b); err != nil {
			return
		}
		part, pages, heads := &block.Reader{Buf: b}, block.AllPages, &block.Heads{}
		heads.Know(b[:h.DataStart])
		for _, v := range []*block.Reader{whole, part} {
			if v == part {
				if missing, err := v.Part(block.Chunks(chunks), &pages, heads); err != nil || missing != (block.Pages{}) || v.Verify(block.Chunks(chunks), heads) != nil {
					return
				}
			}
			w, err := v.Walk(&block.Tables{})
			for more := true; more && err == nil; {
				more, err = w.Next()
			}
		}
	})
}

// A ring of another version is not opened, and the error says what can be done.
func TestOtherVersion(t *testing.T) {
	set := newSetting(t, 1, 12<<20).create(t)
	b := set.disks["a"].files[files.StateName].b
	for page := b[:2*files.PageSize]; len(page) > 0; page = page[files.PageSize:] {
		le.PutUint16(page[24:], 1)
		le.PutUint32(page, crc32.Checksum(page[4:files.PageSize], crc32.MakeTable(crc32.Castagnoli)))
	}
	if _, err := Open(set.cfg); err == nil || !strings.Contains(err.Error(), "it has version 1, and this program reads 2: delete the ring") {
		t.Error(err)
	}
}
