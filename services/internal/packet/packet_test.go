package packet_test

import (
	"bytes"
	"encoding/binary"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"

	"galvo/services/internal/packet"
	"galvo/services/internal/packet/packettest"
)

func TestPacketSize(t *testing.T) {
	if n := unsafe.Sizeof(packet.Packet{}); n > 96 {
		t.Errorf("a Packet has %d bytes, want at most 96", n)
	}
}

// BenchmarkDecode decodes the mix, once from the caches, in batches of a size as the pipeline has them, and once from memory.
func BenchmarkDecode(b *testing.B) {
	for _, c := range []struct {
		name string
		n    int
	}{{"cached", 256}, {"memory", 1 << 16}} {
		b.Run(c.name, func(b *testing.B) {
			packets := packettest.Packets(1, c.n, 1000)
			b.ReportAllocs()
			for i := range b.N {
				packets[i&(c.n-1)].Decode(packet.LinkEthernet)
			}
		})
	}
}

func BenchmarkInner(b *testing.B) {
	var packets []packet.Packet
	for _, p := range packettest.Packets(1, 8192, 1000) {
		p.Decode(packet.LinkEthernet)
		if p.Layers&packet.Tunnel != 0 {
			packets = append(packets, p)
		}
	}
	var q packet.Packet
	b.ReportAllocs()
	for i := range b.N {
		packets[i%len(packets)].Inner(&q)
	}
}

func TestDecodeDoesNotAllocate(t *testing.T) {
	packets := packettest.Packets(1, 512, 200)
	var q packet.Packet
	n := testing.AllocsPerRun(10, func() {
		for i := range packets {
			packets[i].Decode(packet.LinkEthernet)
			for ok := packets[i].Inner(&q); ok; ok = q.Inner(&q) {
			}
		}
	})
	if n != 0 {
		t.Errorf("decoding 512 packets allocates %v times, want 0", n)
	}
}

var update = flag.Bool("update", false, "write the golden file anew")

// TestCrafted compares what is found in the crafted frames, on all levels of tunnels, with what was checked against tshark once.
func TestCrafted(t *testing.T) {
	var b strings.Builder
	for _, s := range crafted() {
		fmt.Fprintf(&b, "# %s\n", s.name)
		p := s.decode()
		for ok := true; ok; ok = p.Inner(p) {
			fmt.Fprintf(&b, "layers %#x type %#04x end %d of %d\n%s", uint32(p.Layers), p.EtherType, p.End, p.Len, opinion(p))
			if p.MACAt != 0 {
				fmt.Fprintf(&b, "addresses at %d\n", p.MACAt)
			}
			if p.Shim != 0 {
				fmt.Fprintf(&b, "shim %#04x\n", p.Shim)
			}
			if p.Tunnel != packet.NoTunnel {
				fmt.Fprintf(&b, "tunnel %d\n", p.Tunnel)
			}
		}
	}
	const golden = "testdata/crafted.golden"
	if *update {
		if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(b.String(), "\n")); diff != "" {
		t.Errorf("the decoder finds other things (-golden +now); after a check against tshark run with -update:\n%s", diff)
	}
}

// use calls every accessor that the layers allow and checks that offsets lie within the data.
func use(t testing.TB, p *packet.Packet) {
	n := uint32(len(p.Data))
	for _, at := range []uint16{p.VLANAt, p.MPLSAt, p.LLCAt, p.PPPoEAt, p.L2End, p.L3, p.FragAt, p.MACAt, p.L4, p.Payload, p.InnerAt} {
		if uint32(at) > n {
			t.Fatalf("offset %d lies beyond %d bytes: %+v", at, n, p)
		}
	}
	if p.End > n {
		t.Fatalf("End %d lies beyond %d bytes", p.End, n)
	}
	has := func(l packet.Layers) bool { return p.Layers&l != 0 }
	if has(packet.Ethernet) {
		p.DstMAC()
		p.SrcMAC()
	}
	for i := range int(p.VLANs) {
		p.TCI(i)
		p.TPID(i)
	}
	for i := range int(p.Labels) {
		p.Label(i)
	}
	if has(packet.LLC) {
		p.DSAP()
		p.SSAP()
	}
	if has(packet.SNAP) {
		p.SNAP()
	}
	if has(packet.PPPoE) {
		p.PPPoE()
	}
	if has(packet.ARP) {
		p.ARPOp()
	}
	if has(packet.IPv4) {
		p.Src4()
		p.Dst4()
		p.DontFragment()
		p.ID()
	}
	if has(packet.IPv6) {
		p.Src6()
		p.Dst6()
	}
	if p.HasTrafficClass() {
		p.TrafficClass()
	}
	if p.HasTTL() {
		p.TTL()
	}
	if has(packet.Fragment) {
		p.MoreFragments()
		p.FragmentOffset()
	}
	if has(packet.Fragment) && has(packet.IP) {
		p.ID()
	}
	if has(packet.ICMP | packet.ICMPv6) {
		p.ICMPType()
	}
	if has(packet.IGMP) {
		p.IGMPType()
	}
	if has(packet.GRE) {
		p.GREProto()
	}
	p.ARPSender()
	p.ARPTarget()
	p.GREKey()
	p.VNI()
	p.TEID()
	p.ERSPAN()
	p.TCPFlags()
	p.L7()
	p.L2Payload()
}

// FuzzDecode feeds a link type in two bytes and a frame: nothing may panic, and the chain of tunnels must end.
func FuzzDecode(f *testing.F) {
	for _, s := range crafted() {
		f.Add(append(binary.BigEndian.AppendUint16(nil, uint16(s.link)), s.data...))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < 2 {
			return
		}
		p := packet.Packet{Frame: packet.Frame{Data: b[2:], Len: uint32(len(b))}}
		p.Decode(packet.LinkType(binary.BigEndian.Uint16(b)))
		for depth, left := 0, len(p.Data)+1; ; depth++ {
			use(t, &p)
			if len(p.Data) >= left {
				t.Fatalf("level %d has %d bytes, the one around it %d", depth, len(p.Data), left)
			}
			left = len(p.Data)
			if !p.Inner(&p) {
				return
			}
		}
	})
}

// TestTruncation cuts every crafted frame at every byte, in a buffer of its own so that a read beyond the end is caught.
func TestTruncation(t *testing.T) {
	for _, s := range crafted() {
		for n := range len(s.data) + 1 {
			p := packet.Packet{Frame: packet.Frame{Data: bytes.Clone(s.data[:n]), Len: s.wire}}
			p.Decode(s.link)
			use(t, &p)
			for p.Inner(&p) {
				use(t, &p)
			}
		}
	}
}
