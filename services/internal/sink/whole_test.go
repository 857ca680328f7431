package sink

import (
	"bytes"
	"testing"

	"galvo/services/internal/packet"
	"galvo/services/internal/pcapng"
)

// files returns a pcapng and a pcap savefile, and the offsets at which their packets and blocks end.
func files() map[string]struct {
	file []byte
	ends []int
} {
	type row = struct {
		file []byte
		ends []int
	}
	var ng, old row
	add := func(r *row, b []byte) { r.file, r.ends = b, append(r.ends, len(b)) }
	add(&ng, pcapng.AppendSection(nil, pcapng.Section{Application: "Galvo test"}))
	add(&ng, pcapng.AppendInterface(ng.file, pcapng.Interface{Name: "eth1", Link: packet.LinkEthernet}))
	add(&old, pcapng.AppendPcapHeader(nil, packet.LinkEthernet, 0, true))
	for i := range 5 {
		data := bytes.Repeat([]byte{byte(i)}, 60+i)
		add(&ng, pcapng.AppendPacket(ng.file, 0, int64(i), data, uint32(len(data)), 0, nil))
		add(&old, pcapng.AppendPcapPacket(old.file, int64(i), data, uint32(len(data)), true))
	}
	return map[string]row{"pcapng": ng, "pcap": old}
}

// Wherever a file was torn, it is cut behind its last whole packet, from wherever it is known to be whole.
func TestWhole(t *testing.T) {
	for name, c := range files() {
		for size := range len(c.file) + 1 {
			want := 0
			for _, e := range c.ends {
				if e <= size {
					want = e
				}
			}
			for _, good := range append([]int{0}, c.ends...) {
				if good > size {
					continue
				}
				got, err := whole(bytes.NewReader(c.file[:size]), int64(size), int64(good))
				if err != nil || got != int64(want) {
					t.Fatalf("%s: torn at %d, whole up to %d: %d, %v, want %d", name, size, good, got, err, want)
				}
			}
		}
	}
	if n, err := whole(bytes.NewReader([]byte("hello")), 5, 0); err == nil || n != 5 {
		t.Errorf("a text: %d, %v: it must stay as it is", n, err)
	}
}

func FuzzWhole(f *testing.F) {
	for _, c := range files() {
		f.Add(c.file, uint16(0))
		f.Add(c.file[:len(c.file)-3], uint16(c.ends[1]))
	}
	f.Fuzz(func(t *testing.T, file []byte, good uint16) {
		from := min(int64(good), int64(len(file)))
		n, err := whole(bytes.NewReader(file), int64(len(file)), from)
		if n < 0 || n > int64(len(file)) {
			t.Errorf("%d of %d bytes are whole, %v", n, len(file), err)
		}
	})
}
