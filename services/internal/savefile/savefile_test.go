package savefile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"pgregory.net/rapid"

	"galvo/ci/need"
	"galvo/services/internal/packet"
	"galvo/services/internal/pcapng"
	"galvo/services/internal/pipeline"
)

// A frame is a packet.Frame that owns its bytes.
type frame struct {
	Data  string
	Iface uint16
	Time  int64
}

// readAll copies a batch's frames only when all of it has been filled, so that a frame overwritten too early is seen.
func readAll(t testing.TB, s *Source) ([]frame, error) {
	t.Helper()
	var frames []frame
	var b pipeline.Batch
	for {
		err := s.Next(context.Background(), &b)
		if err != nil {
			return frames, err
		}
		for i := range b.Packets {
			f := &b.Packets[i].Frame
			frames = append(frames, frame{string(f.Data), f.Iface, f.Time})
		}
		if n := len(b.Packets); n > pipeline.BatchSize || n > 0 && b.Now != b.Packets[n-1].Time {
			t.Fatalf("a batch of %d packets, Now = %d", n, b.Now)
		}
	}
}

// section makes a pcapng savefile with one interface and a frame per time, whose data is the name and a letter.
func section(name string, times ...int64) []byte {
	b := pcapng.AppendSection(nil, pcapng.Section{})
	b = pcapng.AppendInterface(b, pcapng.Interface{Name: name, Link: packet.LinkEthernet})
	for i, at := range times {
		data := name + string(rune('a'+i%26))
		b = pcapng.AppendPacket(b, 0, at, []byte(data), uint32(len(data)), 0, nil)
	}
	return b
}

func write(t testing.TB, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func mustOpen(t testing.TB, stdin io.Reader, files ...string) *Source {
	t.Helper()
	s, err := Open(files, stdin)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// wantData reads to the end and compares the frames' data.
func wantData(t *testing.T, s *Source, want string) {
	t.Helper()
	frames, err := readAll(t, s)
	if err != io.EOF {
		t.Errorf("error %v, want the end", err)
	}
	if got := data(frames); got != want {
		t.Errorf("frames %s, want %s", got, want)
	}
}

func data(frames []frame) string {
	var all []string
	for _, f := range frames {
		all = append(all, f.Data)
	}
	return strings.Join(all, " ")
}

func gzipped(t testing.TB, data []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write(data)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func zstandard(t testing.TB, data []byte) []byte {
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return w.EncodeAll(data, nil)
}

func TestCompression(t *testing.T) {
	pcap := pcapng.AppendPcapPacket(pcapng.AppendPcapHeader(nil, packet.LinkEthernet, 0, true), 5, []byte("xa"), 2, true)
	for format, file := range map[string][]byte{"pcapng": section("x", 5), "pcap": pcap} {
		for name, packed := range map[string][]byte{"plain": file, "gzip": gzipped(t, file), "zstd": zstandard(t, file), "zstd behind an index": append([]byte("\x5a\x2a\x4d\x18\x04\x00\x00\x00abcd"), zstandard(t, file)...)} {
			t.Run(format+" "+name, func(t *testing.T) {
				wantData(t, mustOpen(t, nil, write(t, "no-suffix", packed)), "xa")
				wantData(t, mustOpen(t, bytes.NewReader(packed), "-"), "xa")
			})
		}
	}
}

func TestSeveralGzipMembers(t *testing.T) {
	file := section("x", 1, 2, 3)
	packed := append(gzipped(t, file[:100]), gzipped(t, file[100:])...)
	wantData(t, mustOpen(t, nil, write(t, "x", packed)), "xa xb xc")
}

func TestMergeOrder(t *testing.T) {
	x := write(t, "x", section("x", 10, 20, 30))
	y := write(t, "y", section("y", 10, 25, 15, 30)) // its second and third frames are not in order
	wantData(t, mustOpen(t, nil, x, y), "xa ya xb yb yc xc yd")
	wantData(t, mustOpen(t, nil, y, x), "ya xa xb yb yc yd xc")
	wantData(t, mustOpen(t, bytes.NewReader(section("z", 12, 30)), x, "-", y), "xa ya za xb yb yc xc zb yd")
}

// TestMergeIsStable compares the merge of random savefiles, some of more than one chunk, with sorting.
func TestMergeIsStable(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var files []string
		var want []frame
		for i := range rapid.IntRange(1, 5).Draw(rt, "files") {
			file := pcapng.AppendInterface(pcapng.AppendSection(nil, pcapng.Section{}), pcapng.Interface{Link: packet.LinkEthernet})
			size := rapid.SampledFrom([]int{2, 100, 3000}).Draw(rt, "size")
			now := int64(0)
			for n := range rapid.IntRange(0, 700).Draw(rt, "frames") {
				now += int64(n * 7919 % 5)
				data := strings.Repeat(fmt.Sprintf("%d.%d ", i, n), size/4+1)
				file = pcapng.AppendPacket(file, 0, now, []byte(data), uint32(len(data)), 0, nil)
				want = append(want, frame{data, uint16(i), now})
			}
			files = append(files, write(t, "x", file))
		}
		slices.SortStableFunc(want, func(a, b frame) int { return int(a.Time - b.Time) })
		s, err := Open(files, nil)
		if err != nil {
			rt.Fatal(err)
		}
		got, err := readAll(t, s)
		if err != io.EOF || s.Close() != nil {
			rt.Fatal(err)
		}
		if !slices.Equal(want, got) {
			for i := range min(len(want), len(got)) {
				if want[i] != got[i] {
					rt.Fatalf("frame %d of %d: %.40v, want %.40v", i, len(got), got[i], want[i])
				}
			}
			rt.Fatalf("%d frames, want %d", len(got), len(want))
		}
	})
}

func TestInterfaces(t *testing.T) {
	// One file: the index is that of the interface description, also in later sections.
	x := write(t, "x", append(section("x", 10), section("late", 20)...))
	y := write(t, "y", append(section("y", 15), section("later", 16)...))
	for _, c := range []struct {
		files  []string
		names  string
		frames string
	}{
		{[]string{x}, "1 x, 2 late", "0 1"},
		{[]string{x, y}, "1 x, 2 y, 3 later, 4 late", "0 1 2 3"},
		{[]string{y, x}, "1 y, 2 x, 3 later, 4 late", "1 0 2 3"},
	} {
		s := mustOpen(t, nil, c.files...)
		if n := len(s.Interfaces()); n != len(c.files) {
			t.Errorf("%d interfaces before the first frame, want %d", n, len(c.files))
		}
		frames, err := readAll(t, s)
		var names, indices []string
		for _, in := range s.Interfaces() {
			names = append(names, fmt.Sprintf("%d %s", in.Port, in.Name))
		}
		for _, f := range frames {
			indices = append(indices, fmt.Sprint(f.Iface))
		}
		if got := strings.Join(names, ", "); err != io.EOF || got != c.names || strings.Join(indices, " ") != c.frames {
			t.Errorf("interfaces %s, frames of %v, error %v, want %s, frames of %s", got, indices, err, c.names, c.frames)
		}
	}
}

func TestInterfaceFields(t *testing.T) {
	b := pcapng.AppendSection(nil, pcapng.Section{})
	b = pcapng.AppendInterface(b, pcapng.Interface{
		Name: "eth1", Description: "uplink", Filter: "tcp", Link: 113, SnapLen: 96, SpeedBits: 1e9, MAC: [6]byte{2, 1}, FCSLen: 4,
	})
	want := []pipeline.Interface{{
		Port: 1, Name: "eth1", Description: "uplink", Link: 113, SnapLen: 96, SpeedBits: 1e9, MAC: [6]byte{2, 1}, FCSLen: 4,
	}}
	if diff := cmp.Diff(want, mustOpen(t, bytes.NewReader(b), "-").Interfaces()); diff != "" {
		t.Error(diff)
	}
}

// TestSection opens files whose section headers say something.
func TestSection(t *testing.T) {
	file := func(s pcapng.Section) string {
		return write(t, "s", pcapng.AppendInterface(pcapng.AppendSection(nil, s), pcapng.Interface{Link: packet.LinkEthernet}))
	}
	one := file(pcapng.Section{Hardware: "box", OS: "Linux", Application: "dumpcap", Comment: "branch office"})
	if diff := cmp.Diff(pcapng.Section{Hardware: "box", OS: "Linux", Comment: "branch office"}, mustOpen(t, nil, one).Section()); diff != "" {
		t.Error(diff)
	}
	two := file(pcapng.Section{OS: "FreeBSD", Comment: "head office"})
	if diff := cmp.Diff(pcapng.Section{Comment: "branch office\nhead office"}, mustOpen(t, nil, one, two, write(t, "x", section("x", 1))).Section()); diff != "" {
		t.Error(diff)
	}
}

func TestDamage(t *testing.T) {
	x := section("x", 10, 20, 30)
	packed := gzipped(t, section("z", 40, 50))
	zstd1 := zstandard(t, section("z", 40, 50))
	offset := len(x) - 36
	cases := []struct {
		name string
		file []byte
		want string // data of its own frames
		err  string
	}{
		{"cut", x[:len(x)-6], "xa xb", fmt.Sprintf("truncated at offset %d: an enhanced packet block needs 36 bytes, 30 are left", offset)},
		{"cut in the header", x[:34], "", "truncated at offset 32: a block header needs 12 bytes, 2 are left"},
		{"gzip without its end", packed[:len(packed)-8], "za zb", "needs 12 bytes, 0 are left: gzip: unexpected EOF"},
		{"gzip with a wrong sum", append(packed[:len(packed)-8:len(packed)-8], make([]byte, 8)...), "za zb", ", uncompressed: unreadable at offset "},
		{"gzip, cut before", gzipped(t, x[:len(x)-6]), "xa xb", fmt.Sprintf(", uncompressed: truncated at offset %d: ", offset)},
		{"zstd, cut in the first block", zstd1[:len(zstd1)-2], "", ", uncompressed: truncated at offset 0: a magic number needs 4 bytes"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			damaged := write(t, "damaged", c.file)
			check := func(frames []frame, err error, want string) {
				t.Helper()
				if data(frames) != want {
					t.Errorf("frames %s, want %s", data(frames), want)
				}
				if err == nil || !strings.HasPrefix(err.Error(), "savefile "+damaged) || !strings.Contains(err.Error(), c.err) {
					t.Errorf("error %v, want the name and %s", err, c.err)
				}
				if damage := new(pcapng.Error); !errors.As(err, &damage) {
					t.Errorf("error %T wraps no *pcapng.Error", err)
				}
			}
			frames, err := readAll(t, mustOpen(t, nil, damaged))
			check(frames, err, c.want)
			frames, err = readAll(t, mustOpen(t, nil, damaged, write(t, "whole", section("y", 90, 95))))
			check(frames, err, strings.TrimSpace(c.want+" ya yb"))
		})
	}
}

func TestSeveralDamaged(t *testing.T) {
	x := section("x", 10, 20)
	one, two := write(t, "one", x[:len(x)-1]), write(t, "two", x[:len(x)-2])
	frames, err := readAll(t, mustOpen(t, nil, one, two))
	if data(frames) != "xa xa" || !strings.Contains(err.Error(), one) || !strings.Contains(err.Error(), two) {
		t.Errorf("frames %s, error %v", data(frames), err)
	}
}

func TestOpenErrors(t *testing.T) {
	good := write(t, "good", section("x", 1))
	cases := []struct {
		name string
		file string
		want string
	}{
		{"missing", filepath.Join(t.TempDir(), "missing"), "no such file or directory"},
		{"directory", t.TempDir(), "it is a directory"},
		{"empty", write(t, "empty", nil), "the file is empty"},
		{"empty gzip", write(t, "empty.gz", gzipped(t, nil)), "the file is empty"},
		{"gzip cut in its header", write(t, "header.gz", []byte{0x1f, 0x8b}), "gzip: unexpected EOF"},
		{"no savefile", write(t, "text", []byte("hello")), "neither pcap nor pcapng: the file begins with 68 65 6c 6c"},
		{"short", write(t, "short", []byte("ab")), "truncated at offset 0: a magic number needs 4 bytes, 2 are left"},
		{"bzip2", write(t, "bzip2", []byte("BZh91AY")), "it is compressed with bzip2: only gzip and zstd are read, so unpack it first"},
		{"stdin twice", "-", "standard input can be read once only"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := Open([]string{good, "-", c.file}, bytes.NewReader(section("x", 1)))
			if want := "open savefile " + c.file + ": " + c.want; err == nil || err.Error() != want {
				t.Errorf("error %v, want %s", err, want)
			}
		})
	}
	if _, err := Open(nil, nil); err == nil {
		t.Error("no file is no error")
	}
	_, err := Open([]string{cases[0].file, good, cases[2].file}, nil)
	if err == nil || !strings.Contains(err.Error(), cases[0].file) || !strings.Contains(err.Error(), cases[2].file) {
		t.Errorf("error %v, want both names", err)
	}
}

func TestProgress(t *testing.T) {
	file := write(t, "x", section("x", 1, 2, 3))
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	s := mustOpen(t, nil, file)
	if _, err := readAll(t, s); err != io.EOF {
		t.Fatal(err)
	}
	if got, want := s.Progress(), (Progress{Bytes: info.Size(), Total: info.Size(), Packets: 3}); got != want {
		t.Errorf("progress %v, want %v", got, want)
	}
	s = mustOpen(t, bytes.NewReader(section("x", 1)), file, "-")
	if got := s.Progress(); got.Total != 0 || got.Packets != 0 {
		t.Errorf("progress %v with standard input, want no total", got)
	}
}

func TestCancel(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	s := mustOpen(t, bytes.NewReader(section("x", 1)), "-")
	if err := s.Next(ctx, &pipeline.Batch{}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

// TestPipe has a writer that stops after one frame: it is delivered at once.
func TestPipe(t *testing.T) {
	r, w := io.Pipe()
	defer w.Close()
	go w.Write(section("x", 1))
	var b pipeline.Batch
	if err := mustOpen(t, r, "-").Next(context.Background(), &b); err != nil || len(b.Packets) != 1 {
		t.Errorf("%d packets, error %v", len(b.Packets), err)
	}
}

// TestMergecap merges real savefiles as mergecap does, which orders them by time, too.
func TestMergecap(t *testing.T) {
	mergecap := need.Tool(t, "mergecap")
	protocols := filepath.Join(need.Corpus(t), "protocols")
	files := []string{
		filepath.Join(protocols, "zeek__dnp3.pcap"), filepath.Join(protocols, "zeek__pcapng-multi-interface.pcapng"),
		filepath.Join(protocols, "arkime__v6-http.pcap"), filepath.Join(protocols, "gopacket__test008.pcapng"),
	}
	out, err := exec.Command(mergecap, append([]string{"-F", "pcapng", "-w", "-"}, files...)...).Output()
	if err != nil {
		t.Fatal(err)
	}
	want, err := readAll(t, mustOpen(t, bytes.NewReader(out), "-"))
	if err != io.EOF {
		t.Fatal(err)
	}
	got, err := readAll(t, mustOpen(t, nil, files...))
	if err != io.EOF {
		t.Fatal(err)
	}
	for _, frames := range [][]frame{want, got} {
		for i := range frames {
			frames[i].Iface = 0 // mergecap makes one of equal interfaces
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("frames (-mergecap +ours):\n%.2000s", diff)
	}
}

func TestNextAllocatesNothing(t *testing.T) {
	var times []int64
	for i := range int64(50_000) {
		times = append(times, i*10)
	}
	x, y := write(t, "x", section("x", times...)), write(t, "y", section("y", times...))
	for _, files := range [][]string{{x}, {x, y}} {
		s := mustOpen(t, nil, files...)
		var b pipeline.Batch
		ctx := context.Background()
		if err := s.Next(ctx, &b); err != nil {
			t.Fatal(err)
		}
		if n := testing.AllocsPerRun(100, func() {
			if err := s.Next(ctx, &b); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%d files: %v allocations per batch, want 0", len(files), n)
		}
	}
}

// BenchmarkNext reads savefiles of 100 MB in all with frames of 334 bytes.
func BenchmarkNext(b *testing.B) {
	for _, files := range []int{1, 2, 16} {
		b.Run(fmt.Sprint(files), func(b *testing.B) {
			var names []string
			frames, size := 0, 0
			data := make([]byte, 334)
			for i := range files {
				file := pcapng.AppendPcapHeader(nil, packet.LinkEthernet, 0, true)
				for now := int64(1e18); len(file) < 100_000_000/files; now += 1000 {
					file = pcapng.AppendPcapPacket(file, now, data, 334, true)
					frames++
				}
				size += len(file)
				names = append(names, write(b, fmt.Sprint(i), file))
			}
			b.SetBytes(int64(size))
			b.ReportAllocs()
			var batch pipeline.Batch
			for b.Loop() {
				s := mustOpen(b, nil, names...)
				n := 0
				for s.Next(context.Background(), &batch) == nil {
					n += len(batch.Packets)
				}
				if n != frames {
					b.Fatalf("%d frames, want %d", n, frames)
				}
			}
			b.ReportMetric(float64(frames)*float64(b.N)/b.Elapsed().Seconds()/1e6, "Mframes/s")
		})
	}
}

// The options of packets stay with them where several files are merged, and in batches that end with a chunk.
func TestOptionsStayWithTheirPackets(t *testing.T) {
	comment := func(data string) []byte { return pcapng.AppendComment(nil, "about "+data) }
	for files := 1; files <= 3; files++ {
		var names []string
		for i := range files {
			file := pcapng.AppendInterface(pcapng.AppendSection(nil, pcapng.Section{}), pcapng.Interface{Link: packet.LinkEthernet})
			for n := range 2000 {
				data := strings.Repeat(fmt.Sprintf("%d.%d ", i, n), 50)
				var options []byte
				if n%(3*i+2) == 0 && n > 300 { // so that there are batches without any
					options = comment(data)
				}
				file = pcapng.AppendPacket(file, 0, int64(n*(i+1)), []byte(data), uint32(len(data)), 0, options)
			}
			names = append(names, write(t, "x", file))
		}
		s, err := Open(names, nil)
		if err != nil {
			t.Fatal(err)
		}
		seen, with := 0, 0
		for b := new(pipeline.Batch); ; {
			if err = s.Next(context.Background(), b); err != nil {
				break
			}
			for k := range b.Packets {
				data := string(b.Packets[k].Data)
				var i, n int
				fmt.Sscanf(data, "%d.%d", &i, &n)
				want := ""
				if n%(3*i+2) == 0 && n > 300 {
					want = string(comment(data))
					with++
				}
				if got := string(b.OptionsOf(k)); got != want {
					t.Fatalf("%d files: packet %d of file %d has options %.40q, want %.40q", files, n, i, got, want)
				}
				seen++
			}
		}
		if err != io.EOF || seen != 2000*files || with < 500 {
			t.Errorf("%d files: %v after %d packets, %d with options", files, err, seen, with)
		}
		s.Close()
	}
}

// Of the files in a directory the savefiles are told by what they begin with, and a damaged one is one.
func TestIs(t *testing.T) {
	dir := t.TempDir()
	zipped := func(b string) string {
		var out bytes.Buffer
		z := gzip.NewWriter(&out)
		z.Write([]byte(b))
		z.Close()
		return out.String()
	}
	section := string(pcapng.AppendSection(nil, pcapng.Section{}))
	for content, want := range map[string]bool{
		section: true, section[:20]: true, zipped(section): true, zipped(section)[:40]: true,
		"": false, "hello, world": false, zipped("hello, world"): false, "PK\x03\x04 and so on": false, "\xfd7zXZ": false, "\x1f\x8b": false,
	} {
		name := filepath.Join(dir, "file")
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		if got := Is(f); got != want {
			t.Errorf("%q: %v", content, got)
		}
		if err := f.Close(); !errors.Is(err, os.ErrClosed) {
			t.Errorf("%q: the file is left open: %v", content, err)
		}
	}
}
