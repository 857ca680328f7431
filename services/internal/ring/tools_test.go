package ring

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/gopacket/pcapgo"

	"galvo/ci/need"
	"galvo/services/internal/packet"
	"galvo/services/internal/pcapng"
	"galvo/services/internal/ring/block"
	"galvo/services/internal/ring/files"
	"galvo/services/internal/ring/index"
)

// onDisk makes a ring in directories of the file system, and records frames in it: many blocks, the last of them nearly empty.
func onDisk(t testing.TB, devices int, perDevice int64, frames []packet.Frame) (Config, *Ring) {
	t.Helper()
	c := Config{Name: "tools", Bytes: perDevice, SegmentBytes: index.MinSegment, QueueBytes: 16 << 20}
	for i := range devices {
		c.Dirs = append(c.Dirs, filepath.Join(t.TempDir(), fmt.Sprint("device", i), "ring"))
	}
	if err := Create(context.Background(), c); err != nil {
		t.Fatal(err)
	}
	r, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	s := r.Stage(0, table)
	if len(frames) > 0 {
		play(t, s, &traffic{frames: frames[:len(frames)-1]})
		st := s.(*stage)
		st.inside.Lock()
		st.end()
		st.inside.Unlock()
		play(t, s, &traffic{frames: frames[len(frames)-1:]})
	}
	s.Finish()
	waitIdle(t, r)
	return c, r
}

// times reads the stamps of a savefile with our own reader.
func times(t *testing.T, savefile []byte) (list []int64) {
	t.Helper()
	r, err := pcapng.NewReader(bytes.NewReader(savefile))
	if err != nil {
		t.Fatal(err)
	}
	var p [256]packet.Packet
	for {
		n, err := r.Read(p[:])
		if err == io.EOF {
			return list
		}
		if err != nil {
			t.Fatal(err)
		}
		for i := range n {
			list = append(list, p[i].Time)
		}
	}
}

// TestToolsReadSegments gives segments copied off the disk, and ranges of their blocks, to the programs that people have.
func TestToolsReadSegments(t *testing.T) {
	tools := make(map[string]string)
	for _, name := range []string{"tshark", "tcpdump", "capinfos", "editcap", "mergecap", "dumpcap"} {
		tools[name] = need.Tool(t, name)
	}
	frames := mix(21, 15_000)
	recorded := make(map[int64][]byte)
	for i := range frames {
		if i > 0 && frames[i].Time <= frames[i-1].Time {
			frames[i].Time = frames[i-1].Time + 1
		}
		recorded[frames[i].Time] = frames[i].Data
	}
	c, r := onDisk(t, 1, 16<<20, frames)
	closeRing(t, r)
	read := func(n int) []byte {
		b, err := os.ReadFile(filepath.Join(c.Dirs[0], files.SegmentName(n)))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	first, second, empty := read(0), read(1), read(3)
	var nearlyEmpty []byte
	for all := append(append(bytes.Clone(first), second...), read(2)...); len(all) > 0; all = all[block.Size:] {
		if h, err := block.ParseHeader(all[:block.Size]); err == nil && h.Packets == 1 {
			nearlyEmpty = all[:block.Size]
		}
	}
	for name, b := range map[string][]byte{
		"closed segment": first, "open segment": second, "segment never written": empty,
		"the index block":           first[3*block.Size:],
		"a range over two segments": append(append([]byte(nil), first[2*block.Size:]...), second[:2*block.Size]...),
		"backwards":                 append(append([]byte(nil), second[block.Size:2*block.Size]...), first[:block.Size]...),
		"a nearly empty block":      nearlyEmpty,
	} {
		t.Run(name, func(t *testing.T) {
			want := times(t, b)
			if name == "a nearly empty block" && len(want) != 1 {
				t.Fatalf("it has %d packets", len(want))
			}
			path := filepath.Join(t.TempDir(), "range.pcapng")
			if err := os.WriteFile(path, b, 0o644); err != nil {
				t.Fatal(err)
			}
			run := func(name string, stdin []byte, args ...string) string {
				t.Helper()
				cmd := exec.Command(tools[name], args...)
				cmd.Stdin = bytes.NewReader(stdin)
				var stderr bytes.Buffer
				cmd.Stderr = &stderr
				out, err := cmd.Output()
				if err != nil {
					t.Fatalf("%s %v: %v: %s", name, args, err, stderr.String())
				}
				return string(out)
			}
			var rows strings.Builder
			for i, at := range want {
				fmt.Fprintf(&rows, "%d\t%d.%09d\n", i+1, at/1e9, at%1e9)
			}
			for _, at := range want { // what our reader finds was recorded
				if recorded[at] == nil {
					t.Fatalf("no frame of %d was recorded", at)
				}
			}
			if got := run("tshark", nil, "-n", "-r", path, "-T", "fields", "-e", "frame.number", "-e", "frame.time_epoch"); got != rows.String() {
				t.Errorf("tshark sees other frames: %.200s..., want %.200s...", got, rows.String())
			}
			// The bytes, as another program writes them.
			if len(want) > 0 {
				plain := filepath.Join(t.TempDir(), "plain.pcap")
				run("editcap", nil, "-F", "nsecpcap", path, plain)
				if got := sameRecorded(t, plain, recorded); got != len(want) {
					t.Errorf("editcap writes %d packets, want %d", got, len(want))
				}
			}
			if got := strings.Count(run("tcpdump", nil, "-n", "-q", "-tt", "-r", path), "\n"); got < len(want) {
				t.Errorf("tcpdump prints %d lines for %d packets", got, len(want))
			}
			count := func(path string) int {
				for line := range strings.Lines(run("capinfos", nil, "-M", "-c", path)) {
					if _, n, ok := strings.Cut(line, "Number of packets:"); ok {
						n, err := strconv.Atoi(strings.TrimSpace(n))
						if err != nil {
							t.Fatal(err)
						}
						return n
					}
				}
				return -1
			}
			out := filepath.Join(t.TempDir(), "out.pcapng")
			for tool, n := range map[string]func() int{
				"capinfos": func() int { return count(path) },
				"editcap":  func() int { run("editcap", nil, path, out); return count(out) },
				"mergecap": func() int { run("mergecap", nil, "-w", out, path, path); return count(out) / 2 },
				"dumpcap": func() int {
					os.Remove(out)
					run("dumpcap", b, "-q", "-i", "-", "-w", out)
					return count(out)
				},
			} {
				if len(want) == 0 && tool == "dumpcap" {
					continue // writes no file without a packet
				}
				if got := n(); got != len(want) {
					t.Errorf("%s finds %d packets, want %d", tool, got, len(want))
				}
			}
		})
	}
}

// sameRecorded compares the packets of a savefile with what was recorded, by time, and counts them.
func sameRecorded(t *testing.T, savefile string, recorded map[int64][]byte) (n int) {
	t.Helper()
	f, err := os.Open(savefile)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := pcapgo.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	for {
		data, info, err := r.ReadPacketData()
		if err == io.EOF {
			return n
		}
		if err != nil {
			t.Fatal(err)
		}
		if string(data) != string(recorded[info.Timestamp.UnixNano()]) {
			t.Fatalf("the frame of %s has other bytes", info.Timestamp)
		}
		n++
	}
}

// TestExportAndVerify copies blocks out of a ring on two devices, and has the ring checked, whole and damaged.
func TestExportAndVerify(t *testing.T) {
	frames := mix(22, 60_000)
	c, r := onDisk(t, 2, 16<<20, frames)
	v, err := r.Verify(context.Background(), nil)
	if err != nil || v.Found != 0 || v.Packets == 0 {
		t.Fatalf("%+v, %v", v, err)
	}
	if _, err := Open(c); err == nil || !strings.Contains(err.Error(), "open for writing already") {
		t.Errorf("opening a ring twice: %v", err)
	}
	have, _ := collect(t, r, everything)
	var out bytes.Buffer
	blocks, gaps, err := r.Export(context.Background(), math.MinInt64, math.MaxInt64, &out)
	if err != nil || len(gaps) != 0 || blocks*block.Size != out.Len() || len(times(t, out.Bytes())) != len(have) {
		t.Errorf("%d blocks, %d bytes, gaps %v, %v", blocks, out.Len(), gaps, err)
	}
	closeRing(t, r)

	c.ReadOnly = true
	r, err = Open(c)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(c.Dirs[1], files.SegmentName(0))
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for at, want := range map[int]string{
		block.Size + 5000:                       "its checksum is wrong",
		block.Size + theTrailer + theBloom + 99: "its checksum is wrong",
		3*block.Size + files.PageSize + 100:     "its index is damaged",
		3*block.Size + 5*files.PageSize + 100:   "its index is damaged",
		2*block.Size + theTrailer - 4:           "padding",
	} {
		broken := bytes.Clone(b)
		broken[at] ^= 0x10
		if err := os.WriteFile(path, broken, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, d := range r.devices {
			for _, s := range d.segments {
				s.index.Drop()
			}
		}
		v, err := r.Verify(context.Background(), nil)
		if err != nil || v.Found == 0 || !strings.Contains(strings.Join(v.Problems, "\n"), want) {
			t.Errorf("byte %d: %d problems %q, want %q (%v)", at, v.Found, v.Problems, want, err)
		}
	}
	if got := r.Inspect(); len(got) != 8 {
		t.Errorf("%d segments", len(got))
	}
	closeRing(t, r)

	// One device alone, and one named twice.
	c.Dirs = append(c.Dirs, c.Dirs[0])
	if _, err := Open(c); err == nil || !strings.Contains(err.Error(), "the same device") {
		t.Errorf("a device named twice: %v", err)
	}
	c.Dirs = c.Dirs[:1]
	if r, err = Open(c); err != nil {
		t.Fatal(err)
	}
	if have, _ := collect(t, r, everything); len(have) == 0 || !strings.Contains(fmt.Sprint(r.State().Problems), "it has 2 devices, and 1 are named") {
		t.Errorf("%d packets, %v", len(have), r.State().Problems)
	}
	closeRing(t, r)
	c.ReadOnly = false
	if _, err := Open(c); err == nil {
		t.Error("a ring can be written with a device left out")
	}
}

// A full writer takes so many bytes and then nothing.
type full int

func (f *full) Write(b []byte) (int, error) {
	if *f -= full(len(b)); *f < 0 {
		return 0, io.ErrShortWrite
	}
	return len(b), nil
}

func TestExportToFullDisk(t *testing.T) {
	set := newSetting(t, 1, 16<<20).create(t)
	r := set.open(t)
	s := r.Stage(0, table)
	play(t, s, &traffic{frames: mix(23, 10_000)})
	s.Finish()
	room := full(2*block.Size + 100)
	if n, _, err := r.Export(context.Background(), math.MinInt64, math.MaxInt64, &room); n != 2 || err == nil {
		t.Errorf("%d blocks, %v", n, err)
	}
	closeRing(t, r)
}

// TestSegmentOfTwoOpenings fills a segment before and after the ring was closed: its index knows the blocks of both.
func TestSegmentOfTwoOpenings(t *testing.T) {
	set := newSetting(t, 1, 48<<20)
	set.cfg.SegmentBytes = 16 << 20
	set.create(t)
	frames := mix(24, 60_000)
	r := set.open(t)
	for _, part := range [][]packet.Frame{frames[:20_000], frames[20_000:]} {
		s := r.Stage(0, table)
		play(t, s, &traffic{frames: part})
		s.Finish()
		closeRing(t, r)
		r = set.open(t)
	}
	first := r.devices[0].segments[0]
	all, none, err := first.index.All(r.indexed(first))
	if err != nil || len(all) == 0 {
		t.Fatal(err)
	}
	for i := range index.DataBlocks(r.d.SegmentBytes) {
		if none.Has(i) {
			t.Errorf("the index does not know block %d", i)
		}
	}
	if v, err := r.Verify(context.Background(), nil); err != nil || v.Found != 0 {
		t.Errorf("%+v, %v", v, err)
	}
	q := Query{From: math.MinInt64, To: math.MaxInt64, Filter: mustFilter(t, "port == 22")}
	have, scan := collect(t, r, q)
	q.everything = true
	want, full := collect(t, r, q)
	if len(have) == 0 || len(have) != len(want) || scan.Blocks != full.Blocks {
		t.Errorf("%d packets of %d blocks, want %d of %d", len(have), scan.Blocks, len(want), full.Blocks)
	}
	closeRing(t, r)
}
