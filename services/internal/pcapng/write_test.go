package pcapng

import (
	"bytes"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"galvo/services/internal/packet"
)

var update = flag.Bool("update", false, "write the golden savefiles anew")

// golden is a small savefile with everything that the Append functions can write.
func golden() []byte {
	b := AppendSection(nil, Section{Hardware: "lab box", OS: "Linux", Application: "galvo", Comment: "Straße 7"})
	b = AppendInterface(b, Interface{
		Name: "eth1", Description: "uplink", Filter: "ip == 10.0.0.1", Link: packet.LinkEthernet, SnapLen: 128, SpeedBits: 1e10,
		MAC: [6]byte{2, 0, 0, 0, 0, 1},
	})
	b = AppendInterface(b, Interface{Name: "eth2", Link: packet.LinkEthernet, SnapLen: 128, FCSLen: 4})
	ping := "\x02\x00\x00\x00\x00\x02\x02\x00\x00\x00\x00\x01\x08\x00" +
		"\x45\x00\x00\x1d\x00\x01\x00\x00\x40\x01\x66\xdd\x0a\x00\x00\x01\x0a\x00\x00\x02" +
		"\x08\x00\xf6\xfd\x00\x01\x00\x01\x00"
	b = AppendPacket(b, 0, 1_700_000_000_123_456_789, []byte(ping), 43, packet.DirIn, nil)
	b = AppendPacket(b, 1, 1_700_000_000_123_456_790, []byte(ping+"\xaa\xbb\xcc\xdd"), 47, packet.DirOut|packet.FCSBad, AppendComment(nil, "wrong FCS"))
	b = AppendPacket(b, 0, 1_700_000_001_000_000_000, []byte(ping[:40]), 1514, 0, nil)
	b = AppendStatistics(b, 0, Statistics{
		Time: 1_700_000_002e9, Start: 1_700_000_000e9, End: 1_700_000_001_999_999_999, Received: 20, Lost: 3, Accepted: 4, Dropped: 2,
		Delivered: 2, Comment: "13 ignored",
	})
	return AppendStatistics(b, 1, Statistics{Time: 1_700_000_002e9})
}

// goldenPcap is the same for pcap.
func goldenPcap(nanoseconds bool) []byte {
	b := AppendPcapHeader(nil, packet.LinkEthernet, 0, nanoseconds)
	b = AppendPcapPacket(b, 1_700_000_000_123_456_789, []byte("0123456789ab\x08\x00IP"), 60, nanoseconds)
	return AppendPcapPacket(b, 1<<62, nil, 0, nanoseconds)
}

func TestGolden(t *testing.T) {
	for name, file := range map[string][]byte{"golden.pcapng": golden(), "golden-us.pcap": goldenPcap(false), "golden-ns.pcap": goldenPcap(true)} {
		path := filepath.Join("testdata", name)
		if *update {
			if err := os.WriteFile(path, file, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(file, want) {
			t.Errorf("%s differs: the bytes that we write have changed; FORMAT.md has to say so\n%s", name, cmp.Diff(want, file))
		}
	}
}

// texts are what a user may type, without zero bytes, which end a text for many readers.
var texts = rapid.String().Filter(func(s string) bool { return !strings.Contains(s, "\x00") })

var directions = rapid.SampledFrom([]packet.Flags{0, packet.DirIn, packet.DirOut, packet.DirIn | packet.FCSBad, packet.FCSBad})

// TestRoundTrip writes random savefiles, reads them in pieces of random size, and gets the same back.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var file []byte
		var wantIns []Interface
		var want []frame
		for range rapid.IntRange(1, 3).Draw(t, "sections") {
			file = AppendSection(file, Section{Comment: texts.Draw(t, "comment")})
			first := len(wantIns)
			for range rapid.IntRange(1, 3).Draw(t, "interfaces") {
				in := Interface{
					Name: texts.Draw(t, "name"), Description: texts.Draw(t, "description"), Filter: texts.Draw(t, "filter"),
					Link: packet.LinkType(rapid.IntRange(100, 300).Draw(t, "link")), SnapLen: rapid.Uint32().Draw(t, "snap"),
					SpeedBits: rapid.Uint64().Draw(t, "speed"),
				}
				copy(in.MAC[:], rapid.SliceOfN(rapid.Byte(), 6, 6).Draw(t, "mac"))
				file = AppendInterface(file, in)
				wantIns = append(wantIns, in)
			}
			for range rapid.IntRange(0, 20).Draw(t, "packets") {
				iface := rapid.IntRange(0, len(wantIns)-first-1).Draw(t, "interface")
				data := rapid.SliceOfN(rapid.Byte(), 0, 200).Draw(t, "data")
				f := frame{
					Data: string(data), Len: uint32(len(data) + rapid.IntRange(0, 9000).Draw(t, "cut")), Iface: uint16(first + iface),
					Flags: directions.Draw(t, "flags"), Time: rapid.Int64Range(0, latest).Draw(t, "time"),
				}
				comment := texts.Draw(t, "packet comment")
				before := len(file)
				file = AppendPacket(file, uint32(iface), f.Time, data, f.Len, f.Flags, AppendComment(nil, comment))
				if n := len(file) - before; n != PacketSize(len(data), f.Flags, AppendComment(nil, comment)) {
					t.Fatalf("a packet of %d bytes, PacketSize says %d", n, PacketSize(len(data), f.Flags, AppendComment(nil, comment)))
				}
				want = append(want, f)
			}
			file = AppendStatistics(file, 0, Statistics{Comment: texts.Draw(t, "end")})
		}
		src := &pieces{file, rapid.IntRange(1, 300).Draw(t, "piece")}
		checkRead(t, src, want, wantIns)
	})
}

func TestPcapRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		nanoseconds := rapid.Bool().Draw(t, "nanoseconds")
		in := Interface{Link: packet.LinkEthernet, SnapLen: rapid.Uint32Min(1).Draw(t, "snap")}
		file := AppendPcapHeader(nil, in.Link, in.SnapLen, nanoseconds)
		var want []frame
		for range rapid.IntRange(0, 20).Draw(t, "packets") {
			data := rapid.SliceOfN(rapid.Byte(), 0, 200).Draw(t, "data")
			f := frame{Data: string(data), Len: uint32(len(data)), Time: rapid.Int64Range(0, 4_294_967_295_999_999_999).Draw(t, "time")}
			file = AppendPcapPacket(file, f.Time, data, f.Len, nanoseconds)
			if !nanoseconds {
				f.Time -= f.Time % 1000
			}
			want = append(want, f)
		}
		checkRead(t, &pieces{file, rapid.IntRange(1, 300).Draw(t, "piece")}, want, []Interface{in})
	})
}

func checkRead(t *rapid.T, src io.Reader, want []frame, wantIns []Interface) {
	r, err := NewReader(src)
	if err != nil {
		t.Fatal(err)
	}
	var got []frame
	batch := make([]packet.Packet, 5)
	for {
		n, err := r.Read(batch)
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range batch[:n] {
			got = append(got, frame{string(p.Data), p.Len, p.Iface, p.Flags, p.Time})
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("frames (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(wantIns, r.Interfaces()); diff != "" {
		t.Fatalf("interfaces (-want +got):\n%s", diff)
	}
}

// pieces hands out a savefile in pieces, as a pipe does.
type pieces struct {
	rest []byte
	size int
}

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(b, p.rest[:min(p.size, len(p.rest))])
	p.rest = p.rest[n:]
	return n, nil
}

func TestLongTexts(t *testing.T) {
	long := strings.Repeat("ü€𝄞", 10_000)
	for i := range 4 {
		text := strings.Repeat("x", i) + long
		if got := cut(text); len(got) > maxOption || len(got) <= maxOption-4 || !utf8.ValidString(got) || !strings.HasPrefix(text, got) {
			t.Errorf("cut: %d bytes", len(got))
		}
		file := AppendSection(nil, Section{Comment: text})
		file = AppendInterface(file, Interface{Link: 1, Description: text, Filter: text})
		file = AppendPacket(file, 0, 5, []byte("x"), 1, packet.DirIn, AppendComment(nil, text))
		file = AppendStatistics(file, 0, Statistics{Comment: text})
		file = AppendPacket(file, 0, 6, []byte("y"), 1, 0, AppendComment(nil, text))
		_, ins, err := readAll(t, iotest.HalfReader(bytes.NewReader(file)))
		if err != io.EOF || ins[0].Description != cut(text) || ins[0].Filter != cut("\x00" + text)[1:] {
			t.Errorf("the description has %d bytes, the filter %d, error %v", len(ins[0].Description), len(ins[0].Filter), err)
		}
	}
}

func TestSectionLength(t *testing.T) {
	b := AppendSection(nil, Section{Length: 1 << 20})
	if got := le.Uint64(b[16:]); got != 1<<20 {
		t.Errorf("section length %d", got)
	}
	b = AppendSection(nil, Section{})
	if got := int64(le.Uint64(b[16:])); got != -1 {
		t.Errorf("unknown section length %d", got)
	}
}

func TestTimesThatCannotBeWritten(t *testing.T) {
	b := AppendInterface(AppendSection(nil, Section{}), Interface{Link: 1})
	wantFrames(t, AppendPacket(b, 0, -5, []byte("x"), 1, 0, nil), frame{"x", 1, 0, 0, 0})
	b = AppendPcapHeader(nil, 1, 0, true)
	wantFrames(t, AppendPcapPacket(b, -5, []byte("x"), 1, true), frame{"x", 1, 0, 0, 0})
	wantFrames(t, AppendPcapPacket(b, 1<<63-1, []byte("x"), 1, true), frame{"x", 1, 0, 0, 4_294_967_295_999_999_999})
}

func TestAppendAllocatesNothing(t *testing.T) {
	b := make([]byte, 0, 1<<16)
	data, comment := make([]byte, 1514), AppendComment(nil, "comment")
	for name, appendAll := range map[string]func(){
		"packet":         func() { b = AppendPacket(b[:0], 0, 1e18, data, 1514, packet.DirIn, nil) },
		"comment":        func() { b = AppendPacket(b[:0], 0, 1e18, data, 1514, packet.DirIn, comment) },
		"pcap packet":    func() { b = AppendPcapPacket(b[:0], 1e18, data, 1514, false) },
		"statistics":     func() { b = AppendStatistics(b[:0], 0, Statistics{Comment: "comment"}) },
		"section header": func() { b = AppendSection(b[:0], Section{Comment: "comment"}) },
	} {
		if n := testing.AllocsPerRun(100, appendAll); n != 0 {
			t.Errorf("%s: %v allocations, want 0", name, n)
		}
	}
}

func BenchmarkAppendPacket(b *testing.B) {
	data := make([]byte, 334)
	block := make([]byte, 0, 1<<20)
	size := PacketSize(len(data), packet.DirIn, nil)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if len(block)+size > cap(block) {
			block = block[:0]
		}
		block = AppendPacket(block, 0, 1e18, data, 334, packet.DirIn, nil)
	}
}

func BenchmarkAppendPcapPacket(b *testing.B) {
	data := make([]byte, 334)
	block := make([]byte, 0, 1<<20)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if len(block)+PcapPacketSize(len(data)) > cap(block) {
			block = block[:0]
		}
		block = AppendPcapPacket(block, 1e18, data, 334, true)
	}
}
