package pcapng

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"galvo/services/internal/packet"
)

var orders = map[string]byteOrder{"little": binary.LittleEndian, "big": binary.BigEndian}

// both runs a test in both byte orders.
func both(t *testing.T, test func(t *testing.T, w *foreign)) {
	for name, order := range orders {
		t.Run(name, func(t *testing.T) { test(t, &foreign{byteOrder: order}) })
	}
}

func wantFrames(t *testing.T, file []byte, want ...frame) (ins []Interface) {
	t.Helper()
	got, ins, err := readAll(t, bytes.NewReader(file))
	if err != io.EOF {
		t.Errorf("error %v, want the end of the file", err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("frames (-want +got):\n%s", diff)
	}
	return ins
}

func TestPcap(t *testing.T) {
	both(t, func(t *testing.T, w *foreign) {
		cases := []struct {
			name         string
			magic        uint32
			major, minor uint16
			words        []uint32
			want         frame
		}{
			{"microseconds", magicMicro, 2, 4, []uint32{7, 5, 3, 60}, frame{"abc", 60, 0, 0, 7_000_005_000}},
			{"nanoseconds", magicNano, 2, 4, []uint32{7, 5, 3, 60}, frame{"abc", 60, 0, 0, 7_000_000_005}},
			{"after 2038", magicNano, 2, 4, []uint32{math.MaxUint32, 5, 3, 60}, frame{"abc", 60, 0, 0, math.MaxUint32*1e9 + 5}},
			{"modified, in", magicModified, 2, 4, []uint32{7, 5, 3, 60, 1, 0}, frame{"abc", 60, 0, packet.DirIn, 7_000_005_000}},
			{"version 2.2 has the lengths swapped", magicMicro, 2, 2, []uint32{7, 5, 60, 3}, frame{"abc", 60, 0, 0, 7_000_005_000}},
			{"version 2.3 swaps them, too", magicMicro, 2, 3, []uint32{7, 5, 60, 3}, frame{"abc", 60, 0, 0, 7_000_005_000}},
			{"version 2.3 does not swap them", magicMicro, 2, 3, []uint32{7, 5, 3, 60}, frame{"abc", 60, 0, 0, 7_000_005_000}},
			{"shorter on the wire", magicMicro, 2, 4, []uint32{7, 5, 3, 2}, frame{"abc", 3, 0, 0, 7_000_005_000}},
			{"no length on the wire", magicMicro, 2, 4, []uint32{7, 5, 3, 0}, frame{"abc", 3, 0, 0, 7_000_005_000}},
		}
		for _, c := range cases {
			t.Run(c.name, func(t *testing.T) {
				f := &foreign{byteOrder: w.byteOrder}
				f.pcap(c.magic, c.major, c.minor, 65535, 1).record("abc", c.words...).record("abc", c.words...)
				ins := wantFrames(t, f.b, c.want, c.want)
				if diff := cmp.Diff([]Interface{{Link: packet.LinkEthernet, SnapLen: 65535}}, ins); diff != "" {
					t.Error(diff)
				}
			})
		}
	})
}

func TestModifiedDirection(t *testing.T) {
	w := &foreign{byteOrder: binary.LittleEndian}
	w.pcap(magicModified, 2, 4, 65535, 1).record("abc", 7, 5, 3, 3, 1, 0x0004_0008)
	wantFrames(t, w.b, frame{"abc", 3, 0, packet.DirOut, 7_000_005_000})
}

func TestRawIPNumbers(t *testing.T) {
	for _, number := range []uint32{12, 14, 101} {
		w := &foreign{byteOrder: binary.LittleEndian}
		_, ins, err := readAll(t, bytes.NewReader(w.pcap(magicMicro, 2, 4, 65535, number).b))
		if err != io.EOF || ins[0].Link != packet.LinkRaw {
			t.Errorf("link type %d: interfaces %v, error %v", number, ins, err)
		}
	}
}

func TestBlocks(t *testing.T) {
	both(t, func(t *testing.T, w *foreign) {
		w.section().
			describe(1, 96, optName, "eth0", optDescription, "uplink\x00", optMAC, "\x02\x00\x00\x00\x00\x01", optSpeed, uint64(1e10),
				optFilter, "\x00tcp", optTimeUnit, byte(9), optComment, "skipped").
			describe(113, 0).
			enhanced(0, 1e18, 60, "abc", optComment, "skipped", optFlags, uint32(2)).
			block(4, "names").
			enhanced(1, 2_000_001, 5, "abcde", optFlags, uint32(epbCRCError|1<<31|3)).
			block(0x80000001, "local use").
			block(blockObsolete, uint16(0), uint16(9), uint32(0), uint32(77), uint32(4), uint32(4), "abcd", uint16(optFlags), uint16(4), uint32(1)).
			block(blockSimple, uint32(2000), strings.Repeat("s", 96)).
			block(blockStatistics, uint32(0), uint64(0)).
			block(10, "secrets").
			section().
			describe(101, 0, optName, "ppp0").
			enhanced(0, 3, 1, "x")
		ins := wantFrames(t, w.b,
			frame{"abc", 60, 0, packet.DirOut, 1e18},
			frame{"abcde", 5, 1, packet.FCSBad | packet.PortErr, 2_000_001_000},
			frame{"abcd", 4, 0, packet.DirIn, 77},
			frame{strings.Repeat("s", 96), 2000, 0, 0, 0},
			frame{"x", 1, 2, 0, 3000},
		)
		want := []Interface{
			{Name: "eth0", Description: "uplink", Filter: "tcp", Link: 1, SnapLen: 96, SpeedBits: 1e10, MAC: [6]byte{2, 0, 0, 0, 0, 1}},
			{Link: 113},
			{Name: "ppp0", Link: 101},
		}
		if diff := cmp.Diff(want, ins); diff != "" {
			t.Error(diff)
		}
	})
}

// TestLargeBlockWithoutPacket skips a block that is larger than the chunk, which stays as it is.
func TestLargeBlockWithoutPacket(t *testing.T) {
	both(t, func(t *testing.T, w *foreign) {
		w.section().describe(1, 0).enhanced(0, 1, 1, "a")
		begin := len(w.b)
		w.block(0xbad, strings.Repeat("custom", ChunkBytes))
		end := len(w.b)
		w.enhanced(0, 2, 1, "b")
		wrong := bytes.Clone(w.b)
		wrong[end-3] ^= 1
		for _, c := range []struct {
			name string
			file []byte
			want string
			err  string
		}{
			{"whole", w.b, "ab", "EOF"},
			{"cut behind it", w.b[:end], "a", "EOF"},
			{"cut in its end", w.b[:end-2], "a", fmt.Sprintf("truncated at offset %d: a block needs %d bytes, %d are left", begin, end-begin, end-begin-2)},
			{"cut in its middle", w.b[:begin+2*ChunkBytes+1], "a", fmt.Sprintf("truncated at offset %d: a block needs %d bytes, %d are left", begin, end-begin, 2*ChunkBytes+1)},
			{"cut at its begin", w.b[:begin+12], "a", fmt.Sprintf("truncated at offset %d: a block needs %d bytes, 12 are left", begin, end-begin)},
			{"another length at its end", wrong, "a", fmt.Sprintf("damaged at offset %d: a block begins with a length of %d and ends with ", begin, end-begin)},
		} {
			for _, src := range []io.Reader{bytes.NewReader(c.file), iotest.HalfReader(bytes.NewReader(c.file))} {
				r, err := NewReader(src)
				if err != nil {
					t.Fatal(err)
				}
				var got strings.Builder
				batch := make([]packet.Packet, 4)
				for err == nil {
					var n int
					n, err = r.Read(batch)
					for i := range batch[:n] {
						got.Write(batch[i].Data)
					}
				}
				if got.String() != c.want || !strings.HasPrefix(err.Error(), c.err) {
					t.Errorf("%s: frames %q and %v; want %q and %s", c.name, got.String(), err, c.want, c.err)
				}
				if len(r.buf) != ChunkBytes {
					t.Errorf("%s: the chunk has %d bytes", c.name, len(r.buf))
				}
			}
		}
	})
}

// TestShorterOnTheWire reads packets that say that they had fewer bytes on the wire than were captured.
func TestShorterOnTheWire(t *testing.T) {
	both(t, func(t *testing.T, w *foreign) {
		w.section().describe(1, 0).enhanced(0, 1, 0, "abc").enhanced(0, 2, 2, "abc")
		wantFrames(t, w.b, frame{"abc", 3, 0, 0, 1000}, frame{"abc", 3, 0, 0, 2000})
	})
}

// TestSectionTells reads section headers with options, of which the last one is damaged.
func TestSectionTells(t *testing.T) {
	both(t, func(t *testing.T, w *foreign) {
		w.section(optHardware, "box", optComment, "one", optOS, "Linux", optApplication, "dumpcap", optComment, "two")
		w.describe(1, 0)
		w.section(optHardware, "other box", optComment, "three")
		w.block(blockSection, uint32(byteOrderMagic), uint16(1), uint16(0), uint64(math.MaxUint64), uint16(optComment), uint16(500), uint32(0))
		w.describe(1, 0).enhanced(0, 1, 1, "x")
		r, err := NewReader(bytes.NewReader(w.b))
		if err != nil {
			t.Fatal(err)
		}
		want := Section{Hardware: "box", OS: "Linux", Application: "dumpcap", Comment: "one\ntwo\nthree"}
		if diff := cmp.Diff(want, r.Section()); diff != "" {
			t.Error(diff)
		}
	})
}

func TestByteOrderChangesWithTheSection(t *testing.T) {
	big := (&foreign{byteOrder: binary.BigEndian}).section().describe(1, 0).enhanced(0, 1, 1, "b")
	little := (&foreign{byteOrder: binary.LittleEndian}).section().describe(1, 0).enhanced(0, 2, 1, "l")
	wantFrames(t, append(big.b, little.b...), frame{"b", 1, 0, 0, 1000}, frame{"l", 1, 1, 0, 2000})
}

func TestTimestamps(t *testing.T) {
	seconds := func(n int64) uint64 { return uint64(n) }
	cases := []struct {
		name   string
		unit   byte
		offset uint64
		ticks  uint64
		want   int64
	}{
		{"microseconds", 6, 0, 1_500_000, 1_500_000_000},
		{"nanoseconds", 9, 0, 1_500_000, 1_500_000},
		{"seconds", 0, 0, 15, 15_000_000_000},
		{"picoseconds", 12, 0, 1_999, 1},
		{"10^-28", 28, 0, math.MaxUint64, 1},
		{"10^-127", 127, 0, math.MaxUint64, 0},
		{"2^-10", 0x80 | 10, 0, 1536, 1_500_000_000},
		{"2^-32", 0x80 | 32, 0, 1<<63 | 1<<31, 1<<31*1e9 + 500_000_000},
		{"2^-64", 0x80 | 64, 0, 1 << 63, 500_000_000},
		{"2^-70", 0x80 | 70, 0, 1 << 63, 7_812_500},
		{"2^-127", 0x80 | 127, 0, 1 << 63, 0},
		{"offset", 9, 100, 5, 100_000_000_005},
		{"negative offset", 9, ^uint64(0), 5, -999_999_995},
		{"the last", 9, 0, latest, latest},
		{"too late", 9, 0, latest + 1, latest},
		{"much too late", 6, 0, math.MaxUint64, latest},
		{"too late with offset", 9, math.MaxInt64 / 2, 5, latest},
		{"too late with the largest offset", 0, math.MaxInt64, math.MaxUint64, latest},
		{"the first", 9, seconds(earliest / 1e9), 0, earliest},
		{"too early", 0, seconds(earliest/1e9 - 1), 0, earliest},
		{"much too early", 9, 1 << 63, 5, earliest},
		{"the offset brings it back", 9, seconds(-5), 5_000_000_001, 1},
		{"since 1601, as Windows counts", 7, seconds(-11_644_473_600), (11_644_473_600 + 1_700_000_000) * 1e7, 1_700_000_000 * 1e9},
		{"since the year 1 in microseconds", 6, seconds(-62_135_596_800), (62_135_596_800 + 1_700_000_000) * 1e6, 1_700_000_000 * 1e9},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			both(t, func(t *testing.T, w *foreign) {
				w.section().describe(1, 0, optTimeUnit, c.unit, optTimeOffset, c.offset).enhanced(0, c.ticks, 1, "x")
				wantFrames(t, w.b, frame{"x", 1, 0, 0, c.want})
			})
		})
	}
}

// TestMisdated: what no format that is written can say is counted. tshark says of the same file what it is.
func TestMisdated(t *testing.T) {
	w := &foreign{byteOrder: binary.LittleEndian}
	w.section().describe(1, 0, optTimeOffset, ^uint64(1)) // two seconds before 1970
	for _, microseconds := range []uint64{0, 1_999_999, 2_000_000, 9_223_372_039_000_000} {
		w.enhanced(0, microseconds, 14, "x")
	}
	r, err := NewReader(bytes.NewReader(w.b))
	if err != nil {
		t.Fatal(err)
	}
	var got []int64
	dst := make([]packet.Packet, 8)
	for n := 0; err == nil; n, err = r.Read(dst) {
		for _, p := range dst[:n] {
			got = append(got, p.Time)
		}
	}
	if diff := cmp.Diff([]int64{-2e9, -1000, 0, latest}, got); diff != "" || r.Remarks().Misdated != 3 {
		t.Errorf("%+v, times (-want +got):\n%s", r.Remarks(), diff)
	}
	// Of a negative time tshark shows seconds and nanoseconds with a sign each.
	want := "-2.000000000\n-1.999999000\n0.000000000\n9223372037.000000000\n"
	if diff := cmp.Diff(want, run(t, w.b, "tshark", "-n", "-r", "-", "-T", "fields", "-e", "frame.time_epoch")); diff != "" {
		t.Errorf("tshark (-want +got):\n%s", diff)
	}
}

func TestFrameCheckSequence(t *testing.T) {
	const data = "0123456789ab\x08\x00frame"
	n := uint32(len(data))
	sum := binary.LittleEndian.AppendUint32(nil, crc32.ChecksumIEEE([]byte(data)))
	good, bad := data+string(sum), data+"!!!!"
	ng := func(fcs byte, wire int, captured string, options ...any) []byte {
		w := &foreign{byteOrder: binary.LittleEndian}
		return w.section().describe(1, 0, optFCSLen, fcs).enhanced(0, 0, wire, captured, options...).b
	}
	pcap := func(words uint32, captured string) []byte {
		w := &foreign{byteOrder: binary.LittleEndian}
		return w.pcap(magicMicro, 2, 4, 65535, words<<28|1<<26|1).record(captured, 0, 0, uint32(len(captured)), uint32(len(captured))).b
	}
	cases := []struct {
		name string
		file []byte
		want frame
	}{
		{"good", ng(4, len(good), good), frame{data, n, 0, packet.FCSGood, 0}},
		{"bad", ng(4, len(bad), bad), frame{data, n, 0, packet.FCSBad, 0}},
		{"length in bits", ng(32, len(good), good), frame{data, n, 0, packet.FCSGood, 0}},
		{"cut within", ng(4, len(good), good[:n+2]), frame{data, n, 0, 0, 0}},
		{"cut before", ng(4, len(good), good[:n-2]), frame{data[:n-2], n, 0, 0, 0}},
		{"other length", ng(2, len(good), good), frame{good[:n+2], n + 2, 0, 0, 0}},
		{"shorter than the FCS", ng(4, 3, "abc"), frame{"abc", 3, 0, 0, 0}},
		{"the packet knows better", ng(0, len(good), good, optFlags, uint32(4<<epbFCSShift|1)), frame{data, n, 0, packet.FCSGood | packet.DirIn, 0}},
		{"the FCS overrules the flag", ng(4, len(good), good, optFlags, uint32(epbCRCError)), frame{data, n, 0, packet.FCSGood, 0}},
		{"pcap, good", pcap(2, good), frame{data, n, 0, packet.FCSGood, 0}},
		{"pcap, bad", pcap(2, bad), frame{data, n, 0, packet.FCSBad, 0}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { wantFrames(t, c.file, c.want) })
	}
}

func TestSimplePacketFCS(t *testing.T) {
	w := &foreign{byteOrder: binary.LittleEndian}
	w.section().describe(1, 0, optFCSLen, byte(4)).block(blockSimple, uint32(5), "aFCS!")
	wantFrames(t, w.b, frame{"a", 1, 0, packet.FCSBad, 0})
}

func TestUnpaddedLength(t *testing.T) {
	w := (&foreign{byteOrder: binary.LittleEndian}).section().describe(1, 0).enhanced(0, 0, 5, "abcde").enhanced(0, 0, 1, "z")
	at := bytes.Index(w.b, []byte("abcde"))
	w.PutUint32(w.b[at-24:], 37) // of 40 bytes, three of which are padding
	w.PutUint32(w.b[at+8:], 37)
	wantFrames(t, w.b, frame{"abcde", 5, 0, 0, 0}, frame{"z", 1, 0, 0, 0})
}

func TestManyInterfaces(t *testing.T) {
	ring := AppendSection(nil, Section{})
	ring = AppendInterface(ring, Interface{Name: "a", Link: 1})
	ring = AppendInterface(ring, Interface{Name: "b", Link: 1})
	ring = AppendPacket(ring, 1, 5, []byte("x"), 1, 0, nil)
	r, err := NewReader(bytes.NewReader(bytes.Repeat(ring, 40_000)))
	if err != nil {
		t.Fatal(err)
	}
	batch := make([]packet.Packet, 256)
	n, last := 0, uint16(0)
	for {
		k, err := r.Read(batch)
		if err != nil {
			if err != io.EOF {
				t.Error(err)
			}
			break
		}
		n += k
		last = batch[k-1].Iface
	}
	if ins := r.Interfaces(); n != 40_000 || len(ins) != 65536 || ins[last].Name != "b" {
		t.Errorf("%d frames, %d interfaces, the last frame is of interface %d", n, len(ins), last)
	}
}

func TestDamage(t *testing.T) {
	le := func() *foreign { return &foreign{byteOrder: binary.LittleEndian} }
	ng := func() *foreign { return le().section().describe(1, 0).enhanced(0, 1000, 3, "abc") } // 28 + 20 + 36 bytes
	pcap := func() *foreign { return le().pcap(magicMicro, 2, 4, 65535, 1).record("abc", 0, 1, 3, 3) }
	edit := func(w *foreign, at int, v uint32) []byte { w.PutUint32(w.b[at:], v); return w.b }
	cases := []struct {
		name   string
		file   []byte
		frames int
		want   string
	}{
		{"pcap header cut", pcap().b[:20], 0, "truncated at offset 0: a pcap header needs 24 bytes, 20 are left"},
		{"pcap version", le().pcap(magicMicro, 3, 0, 65535, 1).b, 0, "damaged at offset 0: pcap version 3.0 is not known"},
		{"reserved bits of the link type", le().pcap(magicMicro, 2, 4, 65535, 1|1<<16|1<<26).record("abc", 0, 1, 3, 3).b, 0,
			"damaged at offset 0: a link type of 0x04010001: of its upper bits 0x00010000 have no meaning"},
		{"FDDI of AIX", le().pcap(magicMicro, 2, 2, 65535, 15).record("abc", 0, 1, 3, 3).b, 0, "damaged at offset 0: frames of FDDI as AIX writes them are not read"},
		{"record header cut", append(pcap().b, 1, 2), 1, "truncated at offset 43: a packet record's header needs 16 bytes, 2 are left"},
		{"record cut", pcap().record("abc", 0, 0, 44, 44).b, 1, "truncated at offset 43: a packet record needs 60 bytes, 19 are left"},
		{"absurd captured length", pcap().record("abc", 0, 0, 1e6, 1e6).b, 1,
			"damaged at offset 43: a captured length of 1000000 bytes, at most 262144 are possible"},
		{"block header cut", append(ng().b, 6, 0, 0), 1, "truncated at offset 84: a block header needs 12 bytes, 3 are left"},
		{"block cut", ng().b[:83], 0, "truncated at offset 48: an enhanced packet block needs 36 bytes, 35 are left"},
		{"length 0", edit(ng().enhanced(0, 1, 1, "x"), 88, 0), 1, "damaged at offset 84: an enhanced packet block with a length of 0 bytes"},
		{"length too small", edit(ng(), 52, 28), 0, "damaged at offset 48: an enhanced packet block with a length of 28 bytes"},
		{"length absurd", edit(ng(), 52, 1<<31), 0, "damaged at offset 48: an enhanced packet block with a length of 2147483648 bytes"},
		{"lengths differ", edit(ng(), 80, 40), 0, "damaged at offset 48: an enhanced packet block begins with a length of 36 and ends with 40"},
		{"captured length beyond the block", edit(ng(), 68, 5), 0,
			"damaged at offset 48: an enhanced packet block: a captured length of 5 bytes, 4 are left in the block"},
		{"captured length absurd", edit(ng(), 68, math.MaxUint32), 0,
			"damaged at offset 48: an enhanced packet block: a captured length of 4294967295 bytes, 4 are left in the block"},
		{"no such interface", ng().enhanced(1, 0, 1, "x").b, 1, "damaged at offset 84: an enhanced packet block: interface 1 has no description"},
		{"interface of the section before", ng().section().enhanced(0, 0, 1, "x").b, 1,
			"damaged at offset 112: an enhanced packet block: interface 0 has no description"},
		{"no interface for a simple packet", le().section().block(blockSimple, uint32(1), "x").b, 0,
			"damaged at offset 28: a simple packet block: interface 0 has no description"},
		{"simple packet too short", le().section().describe(1, 0).block(blockSimple, uint32(9), "x").b, 0,
			"damaged at offset 48: a simple packet block: a captured length of 9 bytes, 4 are left in the block"},
		{"option cut", le().section().block(blockInterface, uint16(1), uint16(0), uint32(0), uint16(2), uint16(99), "eth0").b, 0,
			"damaged at offset 28: an interface description block: option 2 needs 99 bytes, 4 are left in the block"},
		{"packet option cut", ng().block(blockEnhanced, uint32(0), uint64(0), uint32(0), uint32(0), uint16(2), uint16(5), "abcd").b, 1,
			"damaged at offset 84: an enhanced packet block: option 2 needs 5 bytes, 4 are left in the block"},
		{"section version", ng().block(blockSection, uint32(byteOrderMagic), uint16(2), uint16(0), uint64(0)).b, 1,
			"damaged at offset 84: a section header block: version 2.0 is not known"},
		{"byte order", ng().block(blockSection, uint32(7), uint16(1), uint16(0), uint64(0)).b, 1,
			"damaged at offset 84: a section header block with the byte order 07 00 00 00"},
		{"zeros at the end", append(ng().b, make([]byte, 64)...), 1, "damaged at offset 84: a block with a length of 0 bytes"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			frames, _, err := readAll(t, bytes.NewReader(c.file))
			if err.Error() != c.want || len(frames) != c.frames {
				t.Errorf("%d frames, then %q, want %d, then %q", len(frames), err, c.frames, c.want)
			}
		})
	}
}

func TestNoSavefile(t *testing.T) {
	cases := []struct{ file, want string }{
		{"", "the file is empty"},
		{"abc", "truncated at offset 0: a magic number needs 4 bytes, 3 are left"},
		{"\x7fELF", "neither pcap nor pcapng: the file begins with 7f 45 4c 46"},
	}
	for _, c := range cases {
		if _, err := NewReader(strings.NewReader(c.file)); err == nil || err.Error() != c.want {
			t.Errorf("NewReader(%q) = %v, want %s", c.file, err, c.want)
		}
	}
}

// TestEveryCut cuts savefiles at every byte: the whole frames before the cut come, then the offset of the first one that is not whole.
func TestEveryCut(t *testing.T) {
	ng := AppendInterface(AppendSection(nil, Section{Comment: "x"}), Interface{Name: "eth0", Link: 1})
	pcap := AppendPcapHeader(nil, 1, 0, true)
	for name, file := range map[string][]byte{"pcapng": ng, "pcap": pcap} {
		starts := []int{}
		for i := range 9 {
			starts = append(starts, len(file))
			data := strings.Repeat("x", i)
			if name == "pcap" {
				file = AppendPcapPacket(file, int64(i), []byte(data), 99, true)
			} else {
				file = AppendPacket(file, 0, int64(i), []byte(data), 99, packet.DirIn, AppendComment(nil, "comment"))
			}
		}
		starts = append(starts, len(file))
		for cut := starts[0]; cut <= len(file); cut++ {
			whole := 0
			for whole < 9 && starts[whole+1] <= cut {
				whole++
			}
			frames, _, err := readAll(t, bytes.NewReader(file[:cut]))
			if len(frames) != whole {
				t.Fatalf("%s cut at %d: %d frames, want %d", name, cut, len(frames), whole)
			}
			var damage *Error
			switch {
			case cut == starts[whole] && err != io.EOF:
				t.Fatalf("%s cut at %d: %v, want the end of the file", name, cut, err)
			case cut != starts[whole] && (!errors.As(err, &damage) || damage.Offset != int64(starts[whole])):
				t.Fatalf("%s cut at %d: %v, want offset %d", name, cut, err, starts[whole])
			}
		}
	}
}

func TestReadErrors(t *testing.T) {
	broken := errors.New("the disk is on fire")
	file := AppendPacket(AppendInterface(AppendSection(nil, Section{}), Interface{Link: 1}), 0, 1, []byte("abc"), 3, 0, nil)
	for _, c := range []struct {
		src  io.Reader
		is   error
		want string
	}{
		{io.MultiReader(bytes.NewReader(file), iotest.ErrReader(broken)), broken, "unreadable at offset "},
		{io.MultiReader(bytes.NewReader(file), iotest.ErrReader(io.ErrUnexpectedEOF)), io.ErrUnexpectedEOF, "truncated at offset "},
		{io.MultiReader(bytes.NewReader(file), idle{}), io.ErrNoProgress, "unreadable at offset "},
	} {
		frames, _, err := readAll(t, c.src)
		if len(frames) != 1 || !errors.Is(err, c.is) || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%d frames, then %v, want 1, then %s and %v", len(frames), err, c.want, c.is)
		}
	}
}

type idle struct{}

func (idle) Read([]byte) (int, error) { return 0, nil }

// TestLargeRecord has a record that is larger than the chunk between small ones.
func TestLargeRecord(t *testing.T) {
	large := bytes.Repeat([]byte("large"), ChunkBytes)
	file := AppendInterface(AppendSection(nil, Section{}), Interface{Link: 1})
	for _, data := range [][]byte{[]byte("a"), large, []byte("b")} {
		file = AppendPacket(file, 0, 0, data, uint32(len(data)), 0, nil)
	}
	wantFrames(t, file, frame{Data: "a", Len: 1}, frame{Data: string(large), Len: uint32(len(large))}, frame{Data: "b", Len: 1})
}

// TestLyingLength has a length of 256 MB and hardly any bytes: the Reader must not believe it.
func TestLyingLength(t *testing.T) {
	file := AppendSection(nil, Section{})
	file = le.AppendUint32(file, blockEnhanced)
	file = le.AppendUint32(file, MaxBlockBytes)
	file = append(file, make([]byte, 2*ChunkBytes)...)
	r, err := NewReader(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Read(make([]packet.Packet, 1)); err == nil || err == io.EOF {
		t.Errorf("error %v", err)
	}
	if cap(r.buf) > 4*len(file) {
		t.Errorf("%d bytes of memory for a savefile of %d bytes", cap(r.buf), len(file))
	}
}

// What tcpdump of AIX writes is told by version and interface type. tshark says of the same file what it is.
func TestAIX(t *testing.T) {
	ipv4 := "\x45\x00\x00\x1c\x00\x01\x00\x00\x40\x11\x00\x00\x0a\x00\x00\x01\x0a\x00\x00\x02\x00\x05\x00\x06\x00\x08\x00\x00"
	for _, c := range []struct {
		kind     uint32
		head     string // of the frame
		link     packet.LinkType
		protocol string
	}{
		{6, strings.Repeat("\x02", 12) + "\x08\x00", packet.LinkEthernet, "eth"},
		{9, "\x10\x40" + strings.Repeat("\x02", 12) + "\xaa\xaa\x03\x00\x00\x00\x08\x00", packet.LinkTokenRing, "tr"},
		{24, "\x00\x00\x00\x02", packet.LinkNull, "null"},
	} {
		both(t, func(t *testing.T, w *foreign) {
			data := c.head + ipv4
			wire := uint32(len(data)) + 100
			w.pcap(magicMicro, 2, 2, 65535, c.kind).record(data, 7, 500, wire, uint32(len(data)))
			ins := wantFrames(t, w.b, frame{data, wire, 0, 0, 7_000_000_500})
			if len(ins) != 1 || ins[0].Link != c.link {
				t.Errorf("type %d: interfaces %v, want link type %d", c.kind, ins, c.link)
			}
			if w.byteOrder == binary.BigEndian { // tshark takes a moment
				return
			}
			want := fmt.Sprintf("7.000000500|%d|%d|10.0.0.1", wire, len(data))
			args := []string{"-n", "-r", "-", "-T", "fields", "-E", "separator=|", "-e", "frame.time_epoch", "-e", "frame.len", "-e", "frame.cap_len", "-e", "ip.src", "-Y", c.protocol}
			if got := strings.TrimSpace(run(t, w.b, "tshark", args...)); got != want {
				t.Errorf("type %d: tshark says %s, want %s", c.kind, got, want)
			}
		})
	}
}

// A capture of the link type's largest frames is no damage.
func TestLargestFrames(t *testing.T) {
	for link, most := range map[uint32]int{1: 256 << 10, 189: 1 << 20, 279: 8 << 20} {
		w := &foreign{byteOrder: binary.LittleEndian}
		data := strings.Repeat("x", most)
		w.pcap(magicMicro, 2, 4, 65535, link).record(data, 7, 5, uint32(most), uint32(most))
		wantFrames(t, w.b, frame{data, uint32(most), 0, 0, 7_000_005_000})
	}
}

// What the last statistics of each interface say is missing, not the sum of all; and packets without a time are counted.
func TestRemarks(t *testing.T) {
	both(t, func(t *testing.T, w *foreign) {
		counts := func(id uint32, lost, dropped uint64) {
			w.block(blockStatistics, id, uint32(0), uint32(0), uint16(optLost), uint16(8), lost, uint16(optDropped), uint16(8), dropped, uint32(0))
		}
		w.section().describe(1, 0).describe(1, 0)
		w.enhanced(0, 0, 1, "x")
		counts(0, 10, 1)
		counts(1, 5, math.MaxUint64)
		counts(0, 20, 3)
		counts(7, 1000, 1000) // of no interface
		w.section().describe(1, 0)
		w.block(blockSimple, uint32(1), "x")
		counts(0, 100, 0)
		w.block(blockStatistics, uint32(0), uint32(0), uint32(0), uint16(optLost), uint16(80), uint32(0)) // beyond the block
		r, err := NewReader(bytes.NewReader(w.b))
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for dst := make([]packet.Packet, 8); err == nil; {
			var k int
			k, err = r.Read(dst)
			n += k
		}
		if want := (Remarks{Undated: 1, Missing: 23 + 5 + 100}); err != io.EOF || n != 2 || r.Remarks() != want {
			t.Errorf("%d packets, %v, %+v, want %+v", n, err, r.Remarks(), want)
		}
	})
}
