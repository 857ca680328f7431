package pcapng

import (
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"galvo/services/internal/packet"
)

// traffic writes a savefile of about size bytes with the sizes of real traffic: 334 bytes on average, a fifth of at most 64 bytes
// and a sixth above 1024. It returns the number of its bytes and frames.
func traffic(w io.Writer, size int, pcap bool) (written, frames int) {
	rng := rand.New(rand.NewPCG(1, 2))
	data := make([]byte, 1514)
	for i := range data {
		data[i] = byte(rng.Uint32())
	}
	var b []byte
	if pcap {
		b = AppendPcapHeader(b, packet.LinkEthernet, 0, true)
	} else {
		b = AppendSection(b, Section{})
		b = AppendInterface(b, Interface{Link: packet.LinkEthernet})
	}
	shares := []struct{ percent, from, to int }{{21, 60, 64}, {38, 65, 128}, {14, 129, 256}, {8, 257, 512}, {3, 513, 1024}, {16, 1025, 1514}}
	for now := int64(1e18); written < size; now += 1000 {
		p, n := rng.IntN(100), 0
		for _, s := range shares {
			if p < s.percent {
				n = s.from + rng.IntN(s.to-s.from+1)
				break
			}
			p -= s.percent
		}
		if pcap {
			b = AppendPcapPacket(b, now, data[:n], uint32(n), true)
		} else {
			b = AppendPacket(b, 0, now, data[:n], uint32(n), packet.DirIn, nil)
		}
		frames++
		if len(b) > 1<<20 || written+len(b) >= size {
			n, err := w.Write(b)
			if err != nil {
				panic(err)
			}
			written, b = written+n, b[:0]
		}
	}
	return written, frames
}

// BenchmarkRead walks the frames of a savefile that lies in the page cache, without looking into them.
func BenchmarkRead(b *testing.B) {
	for _, format := range []string{"pcap", "pcapng"} {
		b.Run(format, func(b *testing.B) {
			disk, err := os.Create(filepath.Join(b.TempDir(), "traffic"))
			if err != nil {
				b.Fatal(err)
			}
			defer disk.Close()
			size, frames := traffic(disk, 600<<20, format == "pcap")
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := disk.Seek(0, io.SeekStart); err != nil {
					b.Fatal(err)
				}
				n, err := count(disk)
				if n != frames || err != io.EOF {
					b.Fatalf("%d frames, error %v, want %d", n, err, frames)
				}
			}
			b.ReportMetric(float64(frames)*float64(b.N)/b.Elapsed().Seconds()/1e6, "Mframes/s")
		})
	}
}
