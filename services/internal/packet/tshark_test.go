package packet_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
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
	"erspan", "vxlan", "geneve", "gtp", "null", "raw", "sll", "chdlc", "fr", "wlan", "radiotap", "wlan_radio", "ipnet", "nflog", "ipoib", "atm", "pwach", "etherip", "l2tp", "teredo", "ppp_hdlc", "hsr", "ieee8021cb", "etag", "vntag", "cmd", "nsh", "macsec", "ieee8021ah", "trill", "cfp", "batadv", "avsp", "ppi", "prism", "wlancap", "fddi", "tr", "pflog", "enc", "lane", "ipfc", "ap1394", "docsis", "erf", "fpp", "netanalyzer", "arcnet", "ax25", "ax25_kiss", "clip", "redback", "symantec", "pcap_pktdata", "user_dlt", "tzsp", "pktap", "epon", "vpp", "vpp-metadata", "vpp-opaque", "vpp-opaque2", "vpp-trace", "gfp", "fc", "fcsof", "juniper", "osi", "isl", "data", "_ws.malformed", "_ws.expert", "_ws.short", "_ws.string",
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
		out = pcapng.AppendPacket(out, links[s.link], 1, s.data, s.wire, 0, nil)
	}
	return out
}

// plain reports whether a frame has one network layer, so neither a tunnel nor a quoted header: there every fact must agree, also an absent one.
func plain(r row) bool {
	n := 0
	for layer := range strings.SplitSeq(r.get("frame.protocols"), ":") {
		if layer == "ip" || layer == "ipv6" {
			n++
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
		absent := got == "" && (!plain(r) || p.Layers&packet.Tunnel != 0) // the value belongs to inner or quoted headers
		if absent || got == want {
			continue
		}
		wrong = append(wrong, fmt.Sprintf("%s: %.80s, tshark %.80s", c.field, got, want))
	}
	return wrong
}

func TestCorpusAgainstTshark(t *testing.T) {
	corpus := need.Corpus(t)
	samples := readAll(t, filepath.Join(corpus, "protocols", "*.pcap*"), filepath.Join(corpus, "protocols", "*.dmp"))
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

// TestCutLinksAgainstTshark cuts the crafted frames of other link types than Ethernet at every byte; what tshark calls a damaged savefile is left out, and
// mPackets, of which it checks the sequence behind them.
func TestCutLinksAgainstTshark(t *testing.T) {
	least := map[packet.LinkType]int{123: 4, packet.LinkPPPDir: 1, 197: 16 + 16 + 4, 274: 1 << 16}
	var cut []sample
	for _, s := range crafted() {
		if s.link != packet.LinkEthernet && s.link < 0x600 {
			for n := least[s.link]; n < len(s.data); n++ {
				cut = append(cut, sample{fmt.Sprintf("%s cut to %d", s.name, n), s.link, s.data[:n], s.wire})
			}
		}
	}
	report(t, cut, dissect(t, cut))
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
