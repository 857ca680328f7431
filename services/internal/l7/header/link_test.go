package header

import (
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"galvo/ci/need"
	"galvo/services/internal/l7/protocol"
	"galvo/services/internal/packet"
)

// frameOf builds a frame in which the field of a numbering has the number that types spells so.
func frameOf(spelled string) []byte {
	kind, text, _ := strings.Cut(spelled, ":")
	n := numberings[kind]
	x, _ := strconv.ParseUint(text, n.base, n.bits)
	ether := func(et uint64, head string) []byte {
		f := append([]byte("\x02\x00\x00\x00\x00\x02\x02\x00\x00\x00\x00\x01"), byte(et>>8), byte(et))
		return append(append(f, head...), make([]byte, 60)...)
	}
	llc := func(head string) []byte { return ether(uint64(len(head)+60), head) }
	switch n.Field {
	case LLC:
		return llc(string([]byte{byte(x), byte(x), 3}))
	case SNAP:
		return llc("\xaa\xaa\x03" + string(binary.BigEndian.AppendUint64(nil, x)[3:]))
	case NLPID:
		return llc("\xfe\xfe\x03" + string([]byte{byte(x)}))
	case Slow:
		return ether(0x8809, string([]byte{byte(x)}))
	case PPP:
		return ether(0x8864, "\x11\x00\x00\x01\x00\x10"+string([]byte{byte(x >> 8), byte(x)}))
	case IPProtocol:
		return ether(0x0800, "\x45\x00\x00\x50\x00\x00\x00\x00\x40"+string([]byte{byte(x)})+"\x00\x00\x0a\x00\x00\x01\x0a\x00\x00\x02"+ipSamples[byte(x)][0])
	}
	return ether(x, "")
}

func decoded(frame []byte) *packet.Packet {
	p := &packet.Packet{Frame: packet.Frame{Data: frame, Len: uint32(len(frame))}}
	p.Decode(packet.LinkEthernet)
	return p
}

// nameOf names a frame: by its link layer, or by its IP protocol if it has the header of that.
func nameOf(frame []byte) (proto, app protocol.ID) {
	p := decoded(frame)
	if p.Layers&packet.IP == 0 {
		return Frame(p)
	}
	if Holds(p, p.Proto) {
		proto = IP(p.Proto)
	}
	return proto, 0
}

// TestLinkTypes: testdata/link.tsv has every number that names a protocol, the name, and the layer that tshark finds there; "-" if it has none.
func TestLinkTypes(t *testing.T) {
	data, err := os.ReadFile("testdata/link.tsv")
	if err != nil {
		t.Fatal(err)
	}
	var rows [][]string
	listed := make(map[uint64]bool)
	var frames [][]byte
	for line := range strings.Lines(string(data)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		row := strings.Split(strings.TrimSpace(line), "\t")
		rows, frames = append(rows, row), append(frames, frameOf(row[0]))
		kind, text, _ := strings.Cut(row[0], ":")
		n := numberings[kind]
		x, _ := strconv.ParseUint(text, n.base, n.bits)
		listed[typeKey(n.Field, x)] = true
		proto, app := nameOf(frames[len(frames)-1])
		if id, _ := protocol.Lookup(row[1]); !protocol.Belongs(proto, id) && !protocol.Belongs(app, id) {
			t.Errorf("%s is %s/%s, want %s", row[0], protocol.Name(proto), protocol.Name(app), row[1])
		}
	}
	for key, id := range typesByNumber() {
		if Field(key>>56) != PPID && !listed[key] {
			t.Errorf("%s: number %d:%x is not in link.tsv", protocol.Name(id), key>>56, key<<8>>8)
		}
	}
	tshark := need.Tool(t, "tshark")
	for i, layers := range layersOf(t, tshark, frames) {
		if want := rows[i][2]; want != "-" && !slices.Contains(layers, want) {
			t.Errorf("%s: tshark shows %v, want %s", rows[i][0], layers, want)
		}
	}
}

// layersOf returns the protocols that tshark finds in Ethernet frames.
func layersOf(t *testing.T, tshark string, frames [][]byte) (layers [][]string) {
	file := binary.LittleEndian.AppendUint32(nil, 0xa1b2c3d4)
	file = append(file, "\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x04\x00\x01\x00\x00\x00"...)
	for i, f := range frames {
		for _, x := range []int{i, 0, len(f), len(f)} {
			file = binary.LittleEndian.AppendUint32(file, uint32(x))
		}
		file = append(file, f...)
	}
	name := filepath.Join(t.TempDir(), "frames.pcap")
	if err := os.WriteFile(name, file, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(tshark, "-n", "-r", name, "-T", "fields", "-e", "frame.protocols").Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		layers = append(layers, strings.Split(strings.TrimSpace(line), ":"))
	}
	if len(layers) != len(frames) {
		t.Fatalf("tshark shows %d of %d frames", len(layers), len(frames))
	}
	return layers
}

// TestTags: a tag is a protocol, and carries what it stands before.
func TestTags(t *testing.T) {
	head := "\x02\x00\x00\x00\x00\x02\x02\x00\x00\x00\x00\x01"
	for _, c := range []struct{ what, frame, proto, app string }{
		{"GOOSE behind HSR", "\x89\x2f\x00\x30\x00\x01\x88\xb8\x00\x01\x00\x08\x00\x00\x00\x00", "HSR", "GOOSE"},
		{"a VLAN tag between them", "\x89\x2f\x00\x30\x00\x01\x81\x00\x00\x05\x88\xba\x40\x00\x00\x08", "HSR", "SV"},
		{"PTP behind FRER", "\xf1\xc1\x00\x00\x00\x01\x88\xf7\x00\x02\x00\x2c", "FRER", "PTPv2"},
		{"PROFINET DCP behind HSR behind FRER", "\xf1\xc1\x00\x00\x00\x01\x89\x2f\x00\x30\x00\x01\x88\x92\xfe\xfe", "FRER", "PROFINET_DCP"},
		{"IP behind HSR", "\x89\x2f\x00\x30\x00\x01\x08\x00\x45", "HSR", ""},
		{"LLDP behind FabricPath, which has no name", "\x89\x03\x0d\x60\x01\x80\xc2\x00\x00\x0e\x0a\x00\x00\x00\x00\x02\x88\xcc\x02\x07\x04", "LLDP", ""},
		{"cut off", "\x89\x2f\x00\x30\x00\x01\x88", "HSR", ""},
		{"cyclic PROFINET", "\x88\x92\x80\x01", "PROFINET_RT", ""},
		{"isochronous PROFINET", "\x88\x92\x01\x00", "PROFINET_RT", ""},
		{"PROFINET alarm", "\x88\x92\xfc\x01", "PROFINET_ALARM", ""},
		{"PROFINET clock", "\x88\x92\xff\x40", "PROFINET_PTCP", ""},
		{"PROFINET of an id without use", "\x88\x92\xff\x80", "PROFINET", ""},
		{"without frame id", "\x88\x92\x80", "PROFINET", ""},
		{"another slow protocol", "\x88\x09\x07", "SLOW", ""},
	} {
		proto, app := nameOf([]byte(head + c.frame))
		if protocol.Name(proto) != c.proto || protocol.Name(app) != c.app {
			t.Errorf("%s: %s/%s", c.what, protocol.Name(proto), protocol.Name(app))
		}
		if strings.HasPrefix(c.proto, "PROFINET") && !protocol.Belongs(proto, protocol.PROFINET) {
			t.Errorf("%s is no PROFINET", c.what)
		}
	}
	var p packet.Packet
	for n := range 40 { // tags within tags come to an end
		p.Data = append(p.Data, "\x89\x2f\x00\x30\x00\x01"...)
		if n == 0 {
			p.Data = append([]byte(head), p.Data...)
		}
	}
	p.Decode(packet.LinkEthernet)
	if proto, _ := Frame(&p); protocol.Name(proto) != "HSR" {
		t.Errorf("HSR without end is %s", protocol.Name(proto))
	}
}

// TestCiscoHDLC: CDP is named on the link layer that it was made for, by the number that it has in SNAP.
func TestCiscoHDLC(t *testing.T) {
	frame := []byte("\x8f\x00\x20\x00\x02\xb4\x00\x00\x00\x01\x00\x08rout")
	p := &packet.Packet{Frame: packet.Frame{Data: frame, Len: uint32(len(frame))}}
	p.Decode(packet.LinkCHDLC)
	if id, _ := Frame(p); protocol.Name(id) != "CDP" {
		t.Errorf("CDP over Cisco HDLC is %q", protocol.Name(id))
	}
}

// FuzzLink names any frame without IP.
func FuzzLink(f *testing.F) {
	f.Add([]byte("\x02\x00\x00\x00\x00\x02\x02\x00\x00\x00\x00\x01\x88\xf7\x0b\x02\x00\x40"))
	f.Add([]byte("\x02\x00\x00\x00\x00\x02\x02\x00\x00\x00\x00\x01\x00\x26\xaa\xaa\x03\x00\x00\x0c\x01\x0b"))
	f.Fuzz(func(t *testing.T, data []byte) {
		p := decoded(data)
		Frame(p)
		SCTP(p)
		for number := range 256 {
			Holds(p, uint8(number))
		}
	})
}
