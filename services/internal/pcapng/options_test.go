package pcapng

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"galvo/services/internal/packet"
)

// What a savefile of either byte order says of its packets is in one that is made of them.
func TestPacketOptions(t *testing.T) {
	both(t, func(t *testing.T, w *foreign) {
		w.section().describe(1, 0, optFCSLen, byte(4)).
			enhanced(0, 1e18, 60, "plain").
			enhanced(0, 1e18, 60, "all", optComment, "first", 3, "hash", optPacketID, uint64(77), optComment, "second\x00", optFlags, uint32(4<<epbFCSShift|3<<2|1<<25|1),
				optDropCount, uint64(5), optQueue, uint32(3), 7, "\x01verdict", 2988, "custom").
			enhanced(0, 1e18, 60, "flags that a frame has", optFlags, uint32(2)).
			enhanced(0, 1e18, 60, "wrong sizes", optPacketID, uint32(77), optDropCount, "", optQueue, uint64(1)).
			enhanced(0, 1e18, 60, "endless", optComment, strings.Repeat("x", 65535), optComment, strings.Repeat("y", 65535), optComment, strings.Repeat("z", 65535), optComment, "end")
		r, err := NewReader(bytes.NewReader(w.b))
		if err != nil {
			t.Fatal(err)
		}
		packets := make([]packet.Packet, 10)
		n, err := r.Read(packets)
		if n != 5 || err != nil || !r.HasOptions() {
			t.Fatalf("%d packets, %v, options: %v", n, err, r.HasOptions())
		}
		want := &foreign{byteOrder: binary.LittleEndian}
		want.section().describe(1, 0, optTimeUnit, byte(9), optFCSLen, byte(0))
		file := bytes.Clone(want.b)
		for i, p := range packets[:n] {
			size := PacketSize(len(p.Data), p.Flags, r.Options(i))
			before := len(file)
			if file = AppendPacket(file, 0, p.Time, p.Data, p.Len, p.Flags, r.Options(i)); len(file)-before != size {
				t.Errorf("packet %d takes %d bytes, PacketSize says %d", i, len(file)-before, size)
			}
		}
		at := packets[0].Time
		want.enhanced(0, uint64(at), int(packets[0].Len), string(packets[0].Data)).
			enhanced(0, uint64(at), int(packets[1].Len), string(packets[1].Data), optFlags, uint32(3<<2|1<<25|1), optComment, "first", optPacketID, uint64(77), optComment, "second\x00",
				optDropCount, uint64(5), optQueue, uint32(3)).
			enhanced(0, uint64(at), int(packets[2].Len), string(packets[2].Data), optFlags, uint32(2)).
			enhanced(0, uint64(at), int(packets[3].Len), string(packets[3].Data)).
			enhanced(0, uint64(at), int(packets[4].Len), string(packets[4].Data), optComment, strings.Repeat("x", 65535), optComment, "end")
		if !bytes.Equal(file, want.b) {
			t.Errorf("written:\n%.600q\nwant:\n%.600q", file, want.b)
		}
	})
}
