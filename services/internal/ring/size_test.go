package ring

import (
	"errors"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"galvo/ci/need"
	"galvo/services/internal/packet"
	"galvo/services/internal/pipeline"
	"galvo/services/internal/ring/block"
	"galvo/services/internal/ring/files"
	"galvo/services/internal/ring/index"
	"galvo/services/internal/ring/state"
	"galvo/services/internal/savefile"
)

// corpus reads the Ethernet savefiles beside the checkout, and interleaves them, since on a wire they would not come one after the other.
func corpus(t testing.TB, most int) []packet.Frame {
	t.Helper()
	var files [][]packet.Frame
	err := filepath.WalkDir(need.Corpus(t), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.Contains(path, "cap") {
			return err
		}
		s, err := savefile.Open([]string{path}, nil)
		if err != nil {
			return nil //nolint:nilerr // other files lie there, too
		}
		defer s.Close()
		var frames []packet.Frame
		var b pipeline.Batch
		for s.Next(t.Context(), &b) == nil {
			for i := range b.Packets {
				f := b.Packets[i].Frame
				if s.Interfaces()[f.Iface].Link != packet.LinkEthernet {
					continue
				}
				f.Data = append([]byte(nil), f.Data...)
				f.Iface = 0
				frames = append(frames, f)
			}
		}
		files = append(files, frames)
		return nil
	})
	if err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	var all []packet.Frame
	for len(files) > 0 && len(all) < most {
		kept := files[:0]
		for i, f := range files {
			n := min(len(f), 20)
			if i < 200 { // sessions at a time
				all = append(all, f[:n]...)
				f = f[n:]
			}
			if len(f) > 0 {
				kept = append(kept, f)
			}
		}
		files = kept
	}
	for i := range all {
		all[i].Time = epoch + int64(i)*10_000
	}
	return all
}

// measured is the traffic whose indexes are measured.
var measured = []struct {
	name   string
	frames func(testing.TB) []packet.Frame
}{
	{"generator", func(testing.TB) []packet.Frame { return mix(31, 120_000) }},
	{"corpus", func(t testing.TB) []packet.Frame { return corpus(t, 1_000_000) }},
}

// sizes are bytes in the closed segments of a ring.
type sizes struct{ data, trailers, flows, exact, entries, blocks, packets float64 }

// index is what bloom filters and exact indexes take, in percent of the data.
func (s sizes) index() float64 { return 100 * (s.trailers + s.exact) / s.data }

// table is what flow tables take.
func (s sizes) table() float64 { return 100 * s.flows / s.data }

// indexSizes records frames and measures what came of them.
func indexSizes(t testing.TB, frames []packet.Frame) (s sizes) {
	t.Helper()
	set := newSetting(t, 1, 192<<20)
	set.cfg.SegmentBytes, set.cfg.QueueBytes = 24<<20, 64<<20
	set.create(t)
	r := set.open(t)
	defer closeRing(t, r)
	st := r.Stage(0, table)
	play(t, st, &traffic{frames: frames})
	st.Finish()
	waitIdle(t, r)
	b := make([]byte, block.Size)
	for _, g := range r.devices[0].segments {
		if g.State != state.Closed {
			continue
		}
		if _, err := g.file.ReadAt(b[:2*files.PageSize], int64(index.DataBlocks(r.d.SegmentBytes))*block.Size); err != nil {
			t.Fatal(err)
		}
		head := b[files.PageSize+12:] // its number of pages, in three parts
		s.exact += float64(1+le.Uint32(head[32:])+le.Uint32(head[36:])+le.Uint32(head[40:])) * files.PageSize
		for i := range g.slots {
			h, err := r.readBlock(g, i, b)
			if err != nil {
				t.Fatal(err)
			}
			s.data += float64(h.DataEnd)
			s.trailers += block.Size - theTrailer
			s.flows += float64(h.FlowsEnd - h.DataEnd)
			s.entries += float64(h.Entries)
			s.packets += float64(h.Packets)
			s.blocks++
		}
	}
	return s
}

// TestIndexSize measures what the indexes take of the ring: bloom filters and the exact index at most 0.8 % of the data, flow tables 1.5 % more.
func TestIndexSize(t *testing.T) {
	for _, from := range measured {
		t.Run(from.name, func(t *testing.T) {
			s := indexSizes(t, from.frames(t))
			t.Logf("%.0f blocks with %.0f packets and %.0f flows each: bloom filters %.3f %%, exact index %.3f %%, flow tables %.3f %%; used %.2f %%",
				s.blocks, s.packets/s.blocks, s.entries/s.blocks, 100*s.trailers/s.data, 100*s.exact/s.data, s.table(), 100*(s.data+s.trailers+s.flows)/(s.blocks*block.Size))
			if s.blocks == 0 || s.index() > 0.8 || s.table() > 1.5 {
				t.Errorf("indexes take %.2f %% and flow tables %.2f %% of the data, want at most 0.8 and 1.5", s.index(), s.table())
			}
		})
	}
}
