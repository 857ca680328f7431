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

// TestIndexSize measures what the indexes take of the ring: bloom filters and the exact index at most 0.8 % of the data, flow tables 1.5 % more.
func TestIndexSize(t *testing.T) {
	for name, frames := range map[string]func() []packet.Frame{
		"generator": func() []packet.Frame { return mix(31, 120_000) },
		"corpus":    func() []packet.Frame { return corpus(t, 1_000_000) },
	} {
		t.Run(name, func(t *testing.T) {
			frames := frames()
			set := newSetting(t, 1, 192<<20)
			set.cfg.SegmentBytes, set.cfg.QueueBytes = 24<<20, 64<<20
			set.create(t)
			r := set.open(t)
			s := r.Stage(0, table)
			play(t, s, &traffic{frames: frames})
			s.Finish()
			waitIdle(t, r)
			var data, trailers, flows, exact, entries, blocks, packets float64
			for _, g := range r.devices[0].segments {
				if g.state != segmentClosed {
					continue
				}
				g.index.mu.Lock()
				if err := g.index.load(r, g); err != nil {
					t.Fatal(err)
				}
				exact += float64(1+g.index.head.tablePages+g.index.head.dirPages+g.index.head.keyPages) * pageSize
				g.index.mu.Unlock()
				b := make([]byte, blockSize)
				for i := range g.slots {
					h, err := r.readBlock(g, i, b)
					if err != nil {
						t.Fatal(err)
					}
					data += float64(h.dataEnd)
					trailers += trailerSize
					flows += float64(h.flowsEnd - h.dataEnd)
					entries += float64(h.entries)
					packets += float64(h.packets)
					blocks++
				}
			}
			index, table := 100*(trailers+exact)/data, 100*flows/data
			t.Logf("%.0f blocks with %.0f packets and %.0f flows each: bloom filters %.3f %%, exact index %.3f %%, flow tables %.3f %%; used %.2f %%",
				blocks, packets/blocks, entries/blocks, 100*trailers/data, 100*exact/data, table, 100*(data+trailers+flows)/(blocks*blockSize))
			if blocks == 0 || index > 0.8 || table > 1.5 {
				t.Errorf("indexes take %.2f %% and flow tables %.2f %% of the data, want at most 0.8 and 1.5", index, table)
			}
			closeRing(t, r)
		})
	}
}
