package pcapng

import (
	"bytes"
	"testing"

	"galvo/services/internal/packet"
)

// FuzzReader holds that no input panics, that frames lie within their limits, and that the pieces in which a savefile comes make
// no difference.
func FuzzReader(f *testing.F) {
	f.Add(golden(), 1)
	f.Add(goldenPcap(false), 5)
	f.Add(goldenPcap(true), 24)
	for _, order := range orders {
		w := &foreign{byteOrder: order}
		w.section().describe(1, 96, optName, "eth0", optMAC, "\x02\x00\x00\x00\x00\x01", optSpeed, uint64(1e9), optTimeUnit, byte(0x8a),
			optTimeOffset, uint64(7), optFCSLen, byte(4)).
			enhanced(0, 1e18, 60, "abcdefgh", optComment, "comment", optFlags, uint32(0x81)).
			block(blockObsolete, uint16(0), uint16(9), uint64(77), uint32(4), uint32(4), "abcd").
			block(blockSimple, uint32(200), "simple").
			block(0x80000001, "local use").
			section().describe(113, 0).enhanced(0, 3, 1, "x")
		f.Add(w.b, 9)
		w = &foreign{byteOrder: order}
		w.pcap(magicModified, 2, 3, 65535, 2<<28|1<<26|1).record("abcdefgh", 7, 5, 8, 8, 1, 4<<24)
		f.Add(w.b, 3)
	}
	f.Fuzz(func(t *testing.T, file []byte, size int) {
		whole, ins, wholeErr := readAll(t, bytes.NewReader(file))
		for i, fr := range whole {
			if uint64(len(fr.Data)) > uint64(fr.Len) || int(fr.Iface) >= len(ins) || len(fr.Data) > len(file) {
				t.Fatalf("frame %d: %d of %d bytes, interface %d of %d", i, len(fr.Data), fr.Len, fr.Iface, len(ins))
			}
		}
		parts, _, partsErr := readAll(t, &pieces{file, max(size, 1)})
		if len(whole) != len(parts) || wholeErr.Error() != partsErr.Error() {
			t.Fatalf("%d frames and %v at once, %d frames and %v in pieces of %d bytes", len(whole), wholeErr, len(parts), partsErr, size)
		}
		for i := range whole {
			if whole[i] != parts[i] {
				t.Fatalf("frame %d: %v at once, %v in pieces of %d bytes", i, whole[i], parts[i], size)
			}
		}
	})
}

// TestReadAllocatesNothing reads past the end of several chunks.
func TestReadAllocatesNothing(t *testing.T) {
	for _, format := range []string{"pcap", "pcapng"} {
		var file bytes.Buffer
		traffic(&file, 60*ChunkBytes, format == "pcap")
		r, err := NewReader(&file)
		if err != nil {
			t.Fatal(err)
		}
		batch := make([]packet.Packet, 256)
		if n := testing.AllocsPerRun(100, func() {
			if n, err := r.Read(batch); n == 0 || err != nil {
				t.Fatalf("%d frames, error %v", n, err)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations per batch, want 0", format, n)
		}
	}
}
