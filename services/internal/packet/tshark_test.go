package packet_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"galvo/ci/need"
	"galvo/services/internal/packet"
	"galvo/services/internal/pcapng"
)

// A sample is a frame with its link type.
type sample struct {
	name string
	link packet.LinkType
	data []byte
	wire uint32
}

func (s *sample) decode() *packet.Packet {
	p := &packet.Packet{Frame: packet.Frame{Data: s.data, Len: s.wire}}
	p.Decode(s.link)
	return p
}

// readAll returns the frames of all savefiles that match; damaged ones up to the damage.
func readAll(t testing.TB, patterns ...string) []sample {
	t.Helper()
	var all []sample
	for _, pattern := range patterns {
		names, err := filepath.Glob(pattern)
		if err != nil || len(names) == 0 {
			t.Fatalf("no savefile matches %s", pattern)
		}
		for _, name := range names {
			all = append(all, readFile(t, name)...)
		}
	}
	return all
}

func readFile(t testing.TB, name string) []sample {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := pcapng.NewReader(f)
	if err != nil {
		return nil
	}
	var all []sample
	batch := make([]packet.Packet, 256)
	for {
		n, err := r.Read(batch)
		for i := range batch[:n] {
			p := &batch[i]
			all = append(all, sample{
				name: fmt.Sprintf("%s frame %d", filepath.Base(name), len(all)+1),
				link: r.Interfaces()[p.Iface].Link,
				data: bytes.Clone(p.Data),
				wire: p.Len,
			})
		}
		if damage := new(pcapng.Error); err == io.EOF || errors.As(err, &damage) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// kept are the protocols that tshark dissects here: what this package knows, and nothing above.
var kept = []string{
	"frame", "eth", "ethertype", "vlan", "ieee8021ad", "llc", "snap", "mpls", "pwethheuristic", "pwethcw", "pwethnocw", "pppoed", "pppoes", "pppoe", "ppp", "arp", "ip",
	"ipv6", "ipv6.hopopts", "ipv6.routing", "ipv6.dstopts", "ipv6.fraghdr", "ah", "mipv6", "hip", "shim6", "tcp", "udp", "sctp", "icmp", "icmpv6", "igmp", "gre",
	"erspan", "vxlan", "geneve", "gtp", "null", "raw", "sll", "chdlc", "pwach", "etherip", "l2tp", "teredo", "ppp_hdlc", "data", "_ws.malformed", "_ws.expert", "_ws.short", "_ws.string",
}

// fields are asked of tshark for every frame.
var fields = []string{
	"frame.protocols", "eth.src", "eth.dst", "vlan.id", "vlan.priority", "ieee8021ad.id", "ieee8021ad.priority", "mpls.label", "mpls.exp",
	"ip.src", "ip.dst", "ipv6.src", "ipv6.dst", "ip.proto", "ip.ttl", "ipv6.hlim", "ip.dsfield.dscp", "ipv6.tclass.dscp", "ip.flags.mf", "ip.flags.df", "ip.frag_offset",
	"ip.id", "tcp.srcport", "tcp.dstport", "tcp.flags", "udp.srcport", "udp.dstport", "sctp.srcport", "icmp.type", "icmpv6.type", "igmp.type",
	"arp.src.proto_ipv4", "arp.dst.proto_ipv4", "pppoe.session_id", "llc.dsap", "gre.proto", "gre.key", "vxlan.vni", "geneve.vni", "gtp.teid", "erspan.spanid",
	"ipv6.fraghdr.offset", "tcp.payload", "udp.payload", "ipv6.nxt", "_ws.malformed",
}

// A row holds what tshark says of a frame, by field; several values are separated by commas.
type row []string

func (r row) get(field string) string { return r[slices.Index(fields, field)] }

// first returns the first value of a field.
func (r row) first(field string) string {
	v, _, _ := strings.Cut(r.get(field), ",")
	return v
}

// dissect runs tshark once over all samples.
func dissect(t testing.TB, samples []sample) []row {
	t.Helper()
	tshark := need.Tool(t, "tshark")
	dir := t.TempDir()
	savefile := filepath.Join(dir, "samples.pcapng")
	if err := os.WriteFile(savefile, writeAll(samples), 0o600); err != nil {
		t.Fatal(err)
	}
	env := append(os.Environ(), "HOME="+dir, "XDG_CONFIG_HOME="+dir)
	disable(t, tshark, env, filepath.Join(dir, "wireshark"))
	args := []string{"-r", savefile, "-n", "-o", "ip.defragment:FALSE", "-o", "ipv6.defragment:FALSE", "-o", "tcp.desegment_tcp_streams:FALSE", "-T", "fields", "-E", "occurrence=a"}
	for _, f := range fields {
		args = append(args, "-e", f)
	}
	cmd := exec.Command(tshark, args...)
	cmd.Env = env
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("tshark: %v", err)
	}
	lines := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
	if len(lines) != len(samples) {
		t.Fatalf("tshark printed %d rows for %d frames", len(lines), len(samples))
	}
	rows := make([]row, len(lines))
	for i, line := range lines {
		rows[i] = strings.Split(line, "\t")
	}
	return rows
}

// disable turns every protocol off that is not kept, which makes tshark ten times as fast and keeps conversations of the merged files from
// mixing above layer 4.
func disable(t testing.TB, tshark string, env []string, profile string) {
	t.Helper()
	cmd := exec.Command(tshark, "-G", "protocols")
	cmd.Env = env
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("tshark -G protocols: %v", err)
	}
	var off strings.Builder
	for line := range strings.Lines(string(out)) {
		if f := strings.Split(strings.TrimSpace(line), "\t"); len(f) >= 3 && !slices.Contains(kept, f[2]) {
			fmt.Fprintln(&off, f[2])
		}
	}
	if err := os.MkdirAll(profile, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(profile, "disabled_protos"), []byte(off.String()), 0o600); err != nil {
		t.Fatal(err)
	}
}

func writeAll(samples []sample) []byte {
	links := map[packet.LinkType]uint32{}
	out := pcapng.AppendSection(nil, pcapng.Section{})
	for _, s := range samples {
		if _, ok := links[s.link]; !ok {
			links[s.link] = uint32(len(links))
			out = pcapng.AppendInterface(out, pcapng.Interface{Link: s.link})
		}
		out = pcapng.AppendPacket(out, links[s.link], 1, s.data, s.wire, 0, "")
	}
	return out
}

// A check compares one fact about the outermost headers. got returns the text that tshark prints, empty where the fact is absent.
type check struct {
	field string
	got   func(p *packet.Packet) string
}

// has makes the text of a value that is there if the layer is.
func has(layer packet.Layers, text func(p *packet.Packet) string) func(p *packet.Packet) string {
	return func(p *packet.Packet) string {
		if p.Layers&layer == 0 {
			return ""
		}
		return text(p)
	}
}

// have makes the text of a field that is there if so many bytes of the IP header are.
func have(layer packet.Layers, n uint8, text func(p *packet.Packet) string) func(p *packet.Packet) string {
	return func(p *packet.Packet) string {
		if p.Layers&layer == 0 || p.Have < n {
			return ""
		}
		return text(p)
	}
}

func num[T ~uint8 | ~uint16 | ~uint32 | ~int](v T) string { return fmt.Sprint(v) }

func tags(p *packet.Packet, text func(i int) string, tpids ...uint16) string {
	var all []string
	for i := range int(p.VLANs) {
		if slices.Contains(tpids, p.TPID(i)) {
			all = append(all, text(i))
		}
	}
	return strings.Join(all, ",")
}

func hexMAC(m uint64) string {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], m)
	return net.HardwareAddr(b[2:]).String()
}

func addr4(a uint32) string {
	return netip.AddrFrom4([4]byte{byte(a >> 24), byte(a >> 16), byte(a >> 8), byte(a)}).String()
}

func addr6(hi, lo uint64) string {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], hi)
	binary.BigEndian.PutUint64(b[8:], lo)
	return netip.AddrFrom16(b).String()
}

func bit(on bool) string {
	if on {
		return "1"
	}
	return "0"
}

const either4 = packet.IPv4 | packet.PartIPv4
const either6 = packet.IPv6 | packet.PartIPv6

var checks = []check{
	{"eth.dst", has(packet.Ethernet, func(p *packet.Packet) string { return hexMAC(p.DstMAC()) })},
	{"eth.src", has(packet.Ethernet, func(p *packet.Packet) string { return hexMAC(p.SrcMAC()) })},
	{"vlan.id", func(p *packet.Packet) string {
		return tags(p, func(i int) string { return num(p.TCI(i) & 0xfff) }, 0x8100, 0x9100)
	}},
	{"vlan.priority", func(p *packet.Packet) string {
		return tags(p, func(i int) string { return num(p.TCI(i) >> 13) }, 0x8100, 0x9100)
	}},
	{"ieee8021ad.id", func(p *packet.Packet) string {
		return tags(p, func(i int) string { return num(p.TCI(i) & 0xfff) }, 0x88a8)
	}},
	{"ieee8021ad.priority", func(p *packet.Packet) string {
		return tags(p, func(i int) string { return num(p.TCI(i) >> 13) }, 0x88a8)
	}},
	{"mpls.label", has(packet.MPLS, func(p *packet.Packet) string {
		var all []string
		for i := range int(p.Labels) {
			all = append(all, num(p.Label(i)>>12))
		}
		return strings.Join(all, ",")
	})},
	{"mpls.exp", has(packet.MPLS, func(p *packet.Packet) string {
		var all []string
		for i := range int(p.Labels) {
			all = append(all, num(p.Label(i)>>9&7))
		}
		return strings.Join(all, ",")
	})},
	{"pppoe.session_id", has(packet.PPPoE, func(p *packet.Packet) string {
		_, session := p.PPPoE()
		return fmt.Sprintf("0x%04x", session)
	})},
	{"llc.dsap", has(packet.LLC, func(p *packet.Packet) string { return fmt.Sprintf("0x%02x", p.DSAP()) })},
	{"arp.src.proto_ipv4", func(p *packet.Packet) string {
		if a, ok := p.ARPSender(); ok {
			return addr4(a)
		}
		return ""
	}},
	{"arp.dst.proto_ipv4", func(p *packet.Packet) string {
		if a, ok := p.ARPTarget(); ok {
			return addr4(a)
		}
		return ""
	}},
	{"ip.src", have(either4, 16, func(p *packet.Packet) string { return addr4(p.Src4()) })},
	{"ip.dst", has(packet.IPv4, func(p *packet.Packet) string { return addr4(p.Dst4()) })},
	{"ip.id", have(either4, 6, func(p *packet.Packet) string { return fmt.Sprintf("0x%04x", p.ID()) })},
	{"ip.flags.df", have(either4, 8, func(p *packet.Packet) string { return bit(p.DontFragment()) })},
	{"ip.flags.mf", have(either4, 8, func(p *packet.Packet) string { return bit(p.Layers&packet.Fragment != 0 && p.MoreFragments()) })},
	{"ip.frag_offset", have(either4, 8, func(p *packet.Packet) string {
		if p.Layers&packet.Fragment == 0 {
			return "0"
		}
		return num(p.FragmentOffset() / 8)
	})},
	{"ip.proto", has(either4, func(p *packet.Packet) string {
		if p.Layers&packet.HasProto == 0 {
			return ""
		}
		return num(p.Proto)
	})},
	{"ip.ttl", has(either4, func(p *packet.Packet) string {
		if !p.HasTTL() {
			return ""
		}
		return num(p.TTL())
	})},
	{"ip.dsfield.dscp", has(either4, func(p *packet.Packet) string {
		if !p.HasTrafficClass() {
			return ""
		}
		return num(p.TrafficClass() >> 2)
	})},
	{"ipv6.src", have(either6, 24, func(p *packet.Packet) string { return addr6(p.Src6()) })},
	{"ipv6.dst", has(packet.IPv6, func(p *packet.Packet) string { return addr6(p.Dst6()) })},
	{"ipv6.hlim", has(either6, func(p *packet.Packet) string {
		if !p.HasTTL() {
			return ""
		}
		return num(p.TTL())
	})},
	{"ipv6.tclass.dscp", has(either6, func(p *packet.Packet) string {
		if !p.HasTrafficClass() {
			return ""
		}
		return num(p.TrafficClass() >> 2)
	})},
	{"ipv6.fraghdr.offset", has(either6, func(p *packet.Packet) string {
		if p.FragAt == 0 {
			return ""
		}
		return num(p.FragmentOffset() / 8)
	})},
	{"tcp.srcport", has(packet.TCP, func(p *packet.Packet) string { return num(p.SrcPort) })},
	{"tcp.dstport", has(packet.TCP, func(p *packet.Packet) string { return num(p.DstPort) })},
	{"tcp.flags", func(p *packet.Packet) string {
		if f, ok := p.TCPFlags(); ok {
			return fmt.Sprintf("0x%04x", uint16(p.Data[p.L4+12]&15)<<8|uint16(f))
		}
		return ""
	}},
	{"udp.srcport", has(packet.UDP, func(p *packet.Packet) string { return num(p.SrcPort) })},
	{"udp.dstport", has(packet.UDP, func(p *packet.Packet) string { return num(p.DstPort) })},
	{"sctp.srcport", has(packet.SCTP, func(p *packet.Packet) string { return num(p.SrcPort) })},
	{"icmp.type", has(packet.ICMP, func(p *packet.Packet) string { return num(p.ICMPType()) })},
	{"icmpv6.type", has(packet.ICMPv6, func(p *packet.Packet) string { return num(p.ICMPType()) })},
	{"igmp.type", has(packet.IGMP, func(p *packet.Packet) string { return fmt.Sprintf("0x%02x", p.IGMPType()) })},
	{"gre.proto", has(packet.GRE, func(p *packet.Packet) string { return fmt.Sprintf("0x%04x", p.GREProto()) })},
	{"gre.key", func(p *packet.Packet) string {
		if k, ok := p.GREKey(); ok {
			return fmt.Sprintf("0x%08x", k)
		}
		return ""
	}},
	{"vxlan.vni", func(p *packet.Packet) string {
		if v, ok := p.VNI(); ok && p.Tunnel == packet.VXLAN {
			return num(v)
		}
		return ""
	}},
	{"geneve.vni", func(p *packet.Packet) string {
		if v, ok := p.VNI(); ok && p.Tunnel == packet.Geneve {
			return fmt.Sprintf("0x%06x", v)
		}
		return ""
	}},
	{"gtp.teid", func(p *packet.Packet) string {
		if v, ok := p.TEID(); ok {
			return fmt.Sprintf("0x%08x", v)
		}
		return ""
	}},
	{"erspan.spanid", func(p *packet.Packet) string {
		if v, _, ok := p.ERSPAN(); ok {
			return num(v)
		}
		return ""
	}},
	{"tcp.payload", has(packet.TCP, func(p *packet.Packet) string { return hex.EncodeToString(p.L7()) })},
	{"udp.payload", has(packet.UDP, func(p *packet.Packet) string { return hex.EncodeToString(p.L7()) })},
}

// plain reports whether a frame has one network layer and quotes no header: there every fact must agree, also an absent one.
func plain(r row) bool {
	n := 0
	for _, layer := range strings.Split(r.get("frame.protocols"), ":") {
		switch layer {
		case "ip", "ipv6":
			n++
		case "icmp", "icmpv6", "mpls", "gre":
			n += 0
		}
	}
	return n <= 1
}

// lists are fields of which all values count, not only the first.
var lists = []string{"vlan.id", "vlan.priority", "mpls.label", "mpls.exp"}

func compare(p *packet.Packet, r row) []string {
	var wrong []string
	for _, c := range checks {
		got, want := c.got(p), r.first(c.field)
		if a, err := netip.ParseAddr(want); err == nil {
			want = a.String()
		}
		if slices.Contains(lists, c.field) {
			want = r.get(c.field)
		}
		if c.field == "ipv6.fraghdr.offset" && p.Layers&packet.IPv4 != 0 || got == "" && (!plain(r) || p.Layers&packet.Tunnel != 0) || got == want {
			continue
		}
		wrong = append(wrong, fmt.Sprintf("%s: %.80s, tshark %.80s", c.field, got, want))
	}
	return wrong
}

func TestCorpusAgainstTshark(t *testing.T) {
	corpus := need.Corpus(t)
	samples := readAll(t, filepath.Join(corpus, "protocols", "*.pcap*"), filepath.Join(corpus, "protocols", "*.dmp"), filepath.Join(corpus, "l7", "pcap", "*"))
	report(t, samples, dissect(t, samples))
}

// shapes returns one sample of each kind: frames with the same protocols in one savefile count as one.
func shapes(samples []sample, rows []row) []sample {
	seen := map[string]bool{}
	var some []sample
	for i, s := range samples {
		file, _, _ := strings.Cut(s.name, " ")
		if k := file + rows[i].get("frame.protocols"); !seen[k] {
			seen[k] = true
			some = append(some, s)
		}
	}
	return some
}

// damage cuts a sample short at every byte, as a snap length does, and changes bytes of its headers.
func damage(s sample, random *rand.Rand) []sample {
	var all []sample
	for n := range min(len(s.data), 130) {
		all = append(all, sample{fmt.Sprintf("%s cut to %d", s.name, n), s.link, s.data[:n], s.wire})
	}
	for range 100 {
		data := bytes.Clone(s.data[:min(len(s.data), 400)])
		if len(data) < 14 {
			break
		}
		name := s.name
		for range 1 + random.IntN(2) {
			at, v := 12+random.IntN(min(len(data), 120)-12), byte(random.Uint32())
			if random.IntN(2) == 0 {
				v = data[at] ^ 1<<random.IntN(8)
			}
			data[at] = v
			name += fmt.Sprintf(", byte %d is %#02x", at, v)
		}
		all = append(all, sample{name, s.link, data, max(uint32(len(data)), s.wire)})
	}
	return all
}

func TestCraftedAgainstTshark(t *testing.T) {
	samples := crafted()
	rows := dissect(t, samples)
	report(t, samples, rows)
	reportInner(t, samples, rows)
}

// TestInnerAgainstTshark compares the addresses of all levels of tunnels.
func TestInnerAgainstTshark(t *testing.T) {
	corpus := need.Corpus(t)
	samples := readAll(t, filepath.Join(corpus, "protocols", "*.pcap*"), filepath.Join(corpus, "l7", "pcap", "*tun*"), filepath.Join(corpus, "l7", "pcap", "g*"))
	samples = slices.DeleteFunc(samples, func(s sample) bool { return s.decode().Layers&packet.Tunnel == 0 })
	reportInner(t, samples, dissect(t, samples))
}

func reportInner(t *testing.T, samples []sample, rows []row) {
	t.Helper()
	e := excuses{}
	wrong := 0
	for i, s := range samples {
		p, r := s.decode(), rows[i]
		var src4, src6 []string
		for ok := true; ok; ok = p.Inner(p) {
			if p.Layers&packet.IPv4 != 0 {
				src4 = append(src4, addr4(p.Src4()))
			}
			if p.Layers&packet.IPv6 != 0 {
				src6 = append(src6, addr6(p.Src6()))
			}
		}
		got4, got6 := strings.Join(src4, ","), strings.Join(src6, ",")
		if p.Layers&(packet.ICMP|packet.ICMPv6) != 0 || got4 == r.get("ip.src") && got6 == r.get("ipv6.src") {
			continue
		}
		if e.explain(s, s.decode(), r, "inner") {
			continue
		}
		if wrong++; wrong < 50 {
			t.Errorf("%s (%s): sources %s %s, tshark %s %s", s.name, r.get("frame.protocols"), got4, got6, r.get("ip.src"), r.get("ipv6.src"))
		}
	}
	t.Logf("%d frames compared, %d differ inside", len(samples), wrong)
	e.check(t, len(samples))
}

func TestDamageAgainstTshark(t *testing.T) {
	corpus := need.Corpus(t)
	samples := readAll(t, filepath.Join(corpus, "protocols", "*.pcap*"))
	samples = shapes(samples, dissect(t, samples))
	random := rand.New(rand.NewPCG(1, 2))
	var damaged []sample
	for _, s := range samples {
		damaged = append(damaged, damage(s, random)...)
	}
	report(t, damaged, dissect(t, damaged))
}

// A difference is one that is meant to be: why we say something else than tshark 4.0.
type difference struct {
	field  string // "" is any
	reason string
	is     func(s sample, p *packet.Packet, r row) bool
}

var differences = []difference{
	{"ip.dst", "tshark looks for a source route in the options before it shows the destination, and shows the route's end",
		func(_ sample, p *packet.Packet, _ row) bool { return p.Layers&packet.IPv4 != 0 && p.Data[p.L3]&15 > 5 }},
	{"icmp.type", "tshark shows the type only with the 6 bytes up to the checksum and identifier",
		func(_ sample, p *packet.Packet, _ row) bool { return int(p.L4)+6 > int(p.End) }},
	{"igmp.type", "tshark shows the type only with the byte behind it",
		func(_ sample, p *packet.Packet, _ row) bool { return int(p.L4)+2 > int(p.End) }},
	{"llc.dsap", "an LLC header that is cut off is none here",
		func(_ sample, p *packet.Packet, r row) bool { return p.Layers&packet.LLC == 0 && p.Tunnel == 0 }},
	{"tcp.payload", "tshark calls the payload of a reset its cause",
		func(_ sample, p *packet.Packet, _ row) bool { f, _ := p.TCPFlags(); return f&4 != 0 }},
	{"ieee8021ad.", "tshark has other fields for the second of two 802.1ad tags, and shows none that is cut off",
		func(_ sample, p *packet.Packet, r row) bool {
			return p.VLANs > 1 && p.TPID(1) == 0x88a8 || int(p.VLANAt)+4*int(p.VLANs) > len(p.Data)
		}},
	{"", "tshark gives up at an extension header whose options make no sense, we skip it by its length",
		func(_ sample, _ *packet.Packet, r row) bool {
			return strings.HasSuffix(r.get("frame.protocols"), "ipv6.hopopts") || strings.HasSuffix(r.get("frame.protocols"), "ipv6.dstopts")
		}},
	{"", "IPv6 extension headers other than AH are not looked for in IPv4",
		func(_ sample, p *packet.Packet, r row) bool {
			return p.Layers&packet.IPv4 != 0 && strings.Contains(r.get("frame.protocols"), "ip:ipv6.")
		}},
	{"", "the guess what an MPLS stack carries is a guess",
		func(_ sample, _ *packet.Packet, r row) bool {
			return strings.Contains(r.get("frame.protocols"), "pwethheuristic")
		}},
	{"", "ISL, known by its destination address, is not decoded",
		func(_ sample, p *packet.Packet, r row) bool {
			return strings.HasPrefix(r.get("frame.protocols"), "eth:eth:")
		}},
	{"", "PPP in BSD loopback frames and Ethernet in cooked frames are not decoded",
		func(_ sample, _ *packet.Packet, r row) bool {
			return strings.HasPrefix(r.get("frame.protocols"), "null:ppp") || strings.HasPrefix(r.get("frame.protocols"), "sll:eth:")
		}},
	{"tcp.payload", "tshark gives up at TCP options that make no sense",
		func(_ sample, _ *packet.Packet, r row) bool { return r.get("_ws.malformed") != "" }},
	{"vxlan.vni", "VXLAN without the flag that says so has no network identifier",
		func(_ sample, p *packet.Packet, r row) bool { return p.Data[p.Payload]&8 == 0 }},
	{"geneve.vni", "Geneve of a version other than 0 is none",
		func(_ sample, p *packet.Packet, r row) bool { return p.Data[p.Payload]>>6 != 0 }},
	{"gtp.teid", "messages that are not of GTP-U are none, even where tshark finds GTP in them",
		func(_ sample, p *packet.Packet, r row) bool { return p.Tunnel == 0 }},
	{"erspan.spanid", "tshark gives up at the routing entries of GRE",
		func(_ sample, _ *packet.Packet, r row) bool {
			return strings.HasSuffix(r.get("frame.protocols"), "gre")
		}},
	{"inner", "VXLAN without the flag that says so is no tunnel",
		func(_ sample, p *packet.Packet, r row) bool { return p.DstPort == 4789 && p.Tunnel == 0 }},
	{"", "EtherIP of a version other than 3 is none",
		func(_ sample, p *packet.Packet, r row) bool {
			return strings.Contains(r.get("frame.protocols"), "etherip") && p.Layers&packet.Tunnel == 0
		}},
}

// excuses count how often each difference was needed.
type excuses map[string]int

func (e excuses) explain(s sample, p *packet.Packet, r row, field string) bool {
	for _, d := range differences {
		if strings.HasPrefix(field, d.field) && d.is(s, p, r) {
			e[d.reason]++
			return true
		}
	}
	return false
}

// check fails the test if a reason excuses so much that it hides more than it explains.
func (e excuses) check(t *testing.T, frames int) {
	t.Helper()
	for reason, n := range e {
		t.Logf("%5d times: %s", n, reason)
		if n > 20+frames/50 {
			t.Errorf("%d of %d facts are excused: %s", n, frames, reason)
		}
	}
}

func report(t *testing.T, samples []sample, rows []row) {
	t.Helper()
	e := excuses{}
	wrong := 0
	for i, s := range samples {
		p := s.decode()
		for _, w := range compare(p, rows[i]) {
			field, _, _ := strings.Cut(w, ":")
			if e.explain(s, p, rows[i], field) {
				continue
			}
			if wrong++; wrong <= 50 {
				t.Errorf("%s (link %d, %s): %s", s.name, s.link, rows[i].get("frame.protocols"), w)
			}
		}
	}
	t.Logf("%d frames compared, %d facts differ", len(samples), wrong)
	e.check(t, len(samples))
}
