package packet_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"galvo/services/internal/packet"
	"galvo/services/internal/packet/packettest"
)

// gopacketLinks are the link types that gopacket begins with as tshark does.
var gopacketLinks = map[packet.LinkType]gopacket.Decoder{
	packet.LinkEthernet: layers.LinkTypeEthernet,
	packet.LinkSLL:      layers.LinkTypeLinuxSLL,
	packet.LinkIPv4:     layers.LayerTypeIPv4,
	packet.LinkIPv6:     layers.LayerTypeIPv6,
}

// gopacketWrong are crafted frames that gopacket reads otherwise, and tshark as we do.
var gopacketWrong = []string{"isl", "snap oui 080007", "snap oui 00000c", "snap oui 1", "pppoe ff03", "arp atm", "sll 824 netlink"}

// secondOpinion returns what gopacket finds up to the first layer-4 header, one line per layer; ok is false where it gives up or panics.
func secondOpinion(s sample) (text string, ok bool) {
	defer func() {
		if recover() != nil {
			ok = false
		}
	}()
	decoder, known := gopacketLinks[s.link]
	if !known {
		return "", false
	}
	p := gopacket.NewPacket(s.data, decoder, gopacket.NoCopy)
	var b strings.Builder
	for _, l := range p.Layers() {
		switch l := l.(type) {
		case *layers.Dot1Q:
			fmt.Fprintf(&b, "tag %d priority %d\n", l.VLANIdentifier, l.Priority)
		case *layers.MPLS:
			fmt.Fprintf(&b, "label %d\n", l.Label)
		case *layers.ARP:
			fmt.Fprintf(&b, "arp %d %x\n", l.Operation, l.SourceProtAddress)
			return b.String(), true
		case *layers.IPv4:
			if l.Version != 4 { // gopacket does not look at it
				return "", false
			}
			fmt.Fprintf(&b, "ip %x %x protocol %d ttl %d id %d\n", []byte(l.SrcIP.To4()), []byte(l.DstIP.To4()), l.Protocol, l.TTL, l.Id)
			if l.Protocol != layers.IPProtocolTCP && l.Protocol != layers.IPProtocolUDP {
				return b.String(), true
			}
		case *layers.IPv6:
			if l.Version != 6 {
				return "", false
			}
			fmt.Fprintf(&b, "ip %x %x ttl %d\n", []byte(l.SrcIP.To16()), []byte(l.DstIP.To16()), l.HopLimit)
			if l.NextHeader != layers.IPProtocolTCP && l.NextHeader != layers.IPProtocolUDP {
				return b.String(), true
			}
		case *layers.TCP:
			fmt.Fprintf(&b, "tcp %d %d flags %#02x payload %x\n", l.SrcPort, l.DstPort, l.Contents[13], l.Payload)
			return b.String(), true
		case *layers.UDP:
			fmt.Fprintf(&b, "udp %d %d payload %x\n", l.SrcPort, l.DstPort, l.Payload)
			return b.String(), true
		case *gopacket.DecodeFailure:
			return b.String(), false
		}
	}
	return b.String(), false
}

// opinion is ours in the same words.
func opinion(p *packet.Packet) string {
	var b strings.Builder
	for i := range int(p.VLANs) {
		fmt.Fprintf(&b, "tag %d priority %d\n", p.TCI(i)&0xfff, p.TCI(i)>>13)
	}
	for i := range int(p.Labels) {
		fmt.Fprintf(&b, "label %d\n", p.Label(i)>>12)
	}
	switch {
	case p.Layers&packet.ARP != 0:
		sender, _ := p.ARPSender()
		fmt.Fprintf(&b, "arp %d %08x\n", p.ARPOp(), sender)
	case p.Layers&packet.IPv4 != 0:
		fmt.Fprintf(&b, "ip %08x %08x protocol %d ttl %d id %d\n", p.Src4(), p.Dst4(), p.Proto, p.TTL(), p.ID())
	case p.Layers&packet.IPv6 != 0:
		hi, lo := p.Src6()
		fmt.Fprintf(&b, "ip %016x%016x ", hi, lo)
		hi, lo = p.Dst6()
		fmt.Fprintf(&b, "%016x%016x ttl %d\n", hi, lo, p.TTL())
		if p.Data[p.L3+6] != p.Proto {
			return b.String()
		}
	}
	switch {
	case p.Layers&packet.IPv4 != 0 && p.Proto != p.Data[p.L3+9], p.Layers&packet.LaterFragment != 0:
	case p.Layers&packet.TCP != 0 && (p.Proto == 6):
		flags, _ := p.TCPFlags()
		fmt.Fprintf(&b, "tcp %d %d flags %#02x payload %x\n", p.SrcPort, p.DstPort, flags, p.L7())
	case p.Layers&packet.UDP != 0:
		fmt.Fprintf(&b, "udp %d %d payload %x\n", p.SrcPort, p.DstPort, p.L7())
	}
	return b.String()
}

// TestSecondOpinion compares the crafted frames and the mix with gopacket, where gopacket has an opinion.
func TestSecondOpinion(t *testing.T) {
	samples := crafted()
	for i, f := range packettest.Mix(3, 3000, 500) {
		samples = append(samples, sample{fmt.Sprintf("mix %d", i), packet.LinkEthernet, f, uint32(len(f))})
	}
	compared := 0
	for _, s := range samples {
		want, ok := secondOpinion(s)
		if !ok || slices.Contains(gopacketWrong, s.name) {
			continue
		}
		compared++
		if got := opinion(s.decode()); got != want {
			t.Errorf("%s %x:\n%sgopacket:\n%s", s.name, s.data, got, want)
		}
	}
	t.Logf("%d of %d frames compared", compared, len(samples))
	if compared < 2500 {
		t.Error("gopacket had too few opinions")
	}
}
