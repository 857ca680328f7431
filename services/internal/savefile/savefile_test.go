package savefile

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"pgregory.net/rapid"

	"galvo/ci/need"
	"galvo/services/internal/packet"
	"galvo/services/internal/pcapng"
	"galvo/services/internal/pipeline"
)

// A got is a frame as a Source delivered it.
type got struct {
	Data  string
	Iface uint16
	Time  int64
}

func readAll(t testing.TB, s *Source) ([]got, error) {
	t.Helper()
	var frames []got
	var b pipeline.Batch
	for {
		err := s.Next(context.Background(), &b)
		if err != nil {
			return frames, err
		}
		for i := range b.Packets {
			f := &b.Packets[i].Frame
			frames = append(frames, got{string(f.Data), f.Iface, f.Time})
		}
		if n := len(b.Packets); n > 0 && b.Now != b.Packets[n-1].Time {
			t.Fatalf("Now = %d after a frame of %d", b.Now, b.Packets[n-1].Time)
		}
	}
}

// ng makes a pcapng savefile with a frame per time; its data are the prefix and the frame's number.
func ng(prefix string, times ...int64) []byte {
	b := pcapng.AppendSection(nil, pcapng.Section{})
	b = pcapng.AppendInterface(b, pcapng.Interface{Name: prefix, Link: packet.LinkEthernet})
	for i, at := range times {
		data := prefix + string(rune('a'+i%26))
		b = pcapng.AppendPacket(b, 0, at, []byte(data), uint32(len(data)), 0, "")
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

func names(frames []got) string {
	var all []string
	for _, f := range frames {
		all = append(all, f.Data)
	}
	return strings.Join(all, " ")
}

func open1(t testing.TB, stdin io.Reader, files ...string) *Source {
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

func TestMergeOrder(t *testing.T) {
	x := write(t, "x", ng("x", 10, 20, 30))
	y := write(t, "y", ng("y", 10, 25, 15, 30)) // its second and third frames are not in order
	frames, err := readAll(t, open1(t, nil, x, y))
	if want := "xa ya xb yb yc xc yd"; err != io.EOF || names(frames) != want {
		t.Errorf("frames %s, error %v, want %s", names(frames), err, want)
	}
	frames, _ = readAll(t, open1(t, nil, y, x))
	if want := "ya xa xb yb yc yd xc"; names(frames) != want {
		t.Errorf("frames %s, want %s", names(frames), want)
	}
}

func TestDamagedFileInMerge(t *testing.T) {
	x := ng("x", 10, 20, 30)
	damaged := write(t, "damaged", x[:len(x)-6])
	whole := write(t, "whole", ng("y", 15, 40, 50))
	frames, err := readAll(t, open1(t, nil, damaged, whole))
	if want := "xa ya xb yb yc"; names(frames) != want {
		t.Errorf("frames %s, want %s", names(frames), want)
	}
	if err == nil || !strings.Contains(err.Error(), damaged) || !strings.Contains(err.Error(), "truncated at offset ") {
		t.Errorf("error %v, want the name, the offset and the reason", err)
	}
}

var (
	_ = bytes.NewReader
	_ = exec.Command
	_ = slices.Equal[[]int]
	_ = gzip.NewWriter
	_ = zstd.NewWriter
	_ = rapid.Check
	_ = need.Tool
)
