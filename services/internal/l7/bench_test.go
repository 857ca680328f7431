package l7_test

import (
	"context"
	"path/filepath"
	"testing"

	"galvo/ci/need"
	"galvo/services/internal/flow"
	"galvo/services/internal/l7"
	"galvo/services/internal/packet"
	"galvo/services/internal/pipeline"
	"galvo/services/internal/savefile"
)

// load reads the frames of savefiles into memory, and decodes them once.
func load(b *testing.B, pattern string) (frames []packet.Packet) {
	names, _ := filepath.Glob(filepath.Join(need.Corpus(b), pattern))
	for _, name := range names {
		source, err := savefile.Open([]string{name}, nil)
		if err != nil {
			continue
		}
		batch := pipeline.Batch{Packets: make([]packet.Packet, 0, pipeline.BatchSize)}
		for source.Next(context.Background(), &batch) == nil {
			for _, p := range batch.Packets {
				p.Data = append([]byte(nil), p.Data...)
				p.Link = source.Interfaces()[p.Iface].Link
				frames = append(frames, p)
			}
		}
		source.Close()
	}
	return frames
}

// BenchmarkCorpus takes real traffic of many short flows through decoding, flows and the engine, and through decoding and flows alone.
func BenchmarkCorpus(b *testing.B) {
	for _, set := range []struct{ name, pattern string }{{"l7", "l7/pcap/*"}, {"protocols", "protocols/*.pcap*"}} {
		frames := load(b, set.pattern)
		for _, with := range []bool{false, true} {
			name := set.name + "/flows"
			if with {
				name = set.name + "/flows+l7"
			}
			b.Run(name, func(b *testing.B) {
				engine := l7.New(l7.Config{})
				table := flow.New(flow.Config{OnEnd: engine.End})
				b.ReportAllocs()
				b.ResetTimer()
				for i := 0; i < b.N; {
					for at := range frames {
						if at%pipeline.BatchSize == 0 {
							table.Begin()
							engine.Begin()
						}
						p := &frames[at]
						p.Decode(p.Link)
						ref := table.Find(p)
						if with {
							engine.Inspect(p, table.Innermost(p), &ref)
						}
						if i++; i == b.N {
							return
						}
					}
					for r := range table.All() {
						engine.End(r)
						r.L7 = [20]byte{} // the next round meets its flows anew
					}
				}
			})
		}
	}
}
