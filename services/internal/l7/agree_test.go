package l7_test

import (
	"bufio"
	"bytes"
	"fmt"
	"hash/crc32"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"galvo/ci/need"
	"galvo/services/internal/l7"
	"galvo/services/internal/l7/protocol"
)

// evidence says when tshark knows a protocol by its payload and not by its port alone: it dissected the frame without finding it malformed, the
// layer is among the innermost, and it filled in a field that only a real message has. Streams of RTP, which tshark looks for with a weak
// heuristic, must besides have three packets of one source whose sequence numbers go on.
var evidence = []struct {
	layer string
	field string // "" = the layer is enough
	name  string
}{
	{"dns", "dns.flags", "DNS"},
	{"mdns", "dns.flags", "MDNS"},
	{"llmnr", "dns.flags", "LLMNR"},
	{"nbns", "", "NetBIOS"},
	{"dhcp", "dhcp.type", "DHCP"},
	{"dhcpv6", "dhcpv6.msgtype", "DHCPV6"},
	{"http", "http.request.method", "HTTP"},
	{"http", "http.response.code", "HTTP"},
	{"ssdp", "", "SSDP"},
	{"tls", "tls.record.content_type", "TLS"},
	{"tls", "tls.record.opaque_type", "TLS"},
	{"quic", "quic.version", "QUIC"},
	{"gquic", "gquic.version", "QUIC"},
	{"ssh", "ssh.protocol", "SSH"},
	{"sip", "sip.Method", "SIP"},
	{"sip", "sip.Status-Code", "SIP"},
	{"rtp", "rtp.seq", "RTP"},
	{"rtcp", "rtcp.pt", "RTCP"},
	{"stun", "stun.type", "STUN"},
	{"ntp", "ntp.flags", "NTP"},
	{"snmp", "snmp.version", "SNMP"},
	{"snmp", "snmp.msgVersion", "SNMP"},
	{"icmp", "", "ICMP"},
	{"icmpv6", "", "ICMPV6"},
	{"igmp", "", "IGMP"},
	{"ptp", "", "PTP"},
	{"enip", "", "EthernetIP"},
	{"cipio", "", "CIP"},
	{"mbtcp", "", "Modbus"},
	{"s7comm", "", "S7Comm"},
	{"mms", "", "ISO9506-1-MMS"},
	{"dnp3", "", "DNP3"},
	{"iec60870_104", "", "IEC60870"},
	{"bacnet", "", "BACnet"},
	{"opcua", "", "OPC-UA"},
	{"omron", "", "FINS"},
	{"synphasor", "", "IEEE-C37118"},
	{"hart_ip", "", "HART-IP"},
	{"coap", "", "COAP"},
	{"doip", "", "DoIP"},
	{"gtp", "gtp.message", "GTP"},
	{"gtpv2", "", "GTP"},
	{"pfcp", "", "PFCP"},
	{"m3ua", "", "M3UA"},
	{"m2ua", "", "M2UA"},
	{"sctp", "", "SCTP"},
	{"egd", "", "EthernetGlobalData"},
	{"c1222", "", "ANSI_C1222"},
	{"dcerpc", "pn_io.opnum", "PROFINET"},
	{"dcerpc", "dcerpc.ver", "DCERPC"},
}

// firstSet lists what is to agree with tshark.
var firstSet = []string{"DNS", "MDNS", "DHCP", "HTTP", "TLS", "QUIC", "SSH", "SIP", "RTP", "RTCP", "NTP", "SNMP", "ICMP", "ICMPV6", "IGMP", "PTP", "PROFINET",
	"EthernetIP", "CIP", "Modbus", "S7Comm", "ISO9506-1-MMS", "DNP3", "IEC60870", "BACnet", "OPC-UA", "FINS", "IEEE-C37118", "HART-IP", "COAP", "DoIP", "GTP", "PFCP", "M3UA", "M2UA", "SCTP", "EthernetGlobalData", "ANSI_C1222"}

// A frameView is what tshark says of a frame.
type frameView struct {
	names []string
	other string // innermost layer that is no name of the table above
	link  string // layer straight on the link
	ssrc  string
	seq   int
}

var linkLayers = map[string]string{"arp": "ARP", "lldp": "LLDP", "ptp": "PTP", "pn_rt": "PROFINET", "pn_dcp": "PROFINET", "lacp": "LACP", "stp": "STP", "goose": "GOOSE", "ecat": "EtherCAT"}

// dissect runs tshark over a savefile; element 0 is not used.
func dissect(tb testing.TB, tshark, name string) []frameView {
	args := []string{"-n", "-r", name, "--enable-heuristic", "rtp_udp", "-T", "fields", "-E", "occurrence=f", "-e", "frame.protocols", "-e", "_ws.malformed", "-e", "rtp.ssrc", "-e", "rtp.seq"}
	column := map[string]int{"": 0, "rtp.seq": 3}
	for _, e := range evidence {
		if _, ok := column[e.field]; !ok {
			column[e.field] = 4 + len(column) - 2
			args = append(args, "-e", e.field)
		}
	}
	out, _ := exec.Command(tshark, args...).Output() // an error with damaged files; what came before it counts
	frames := []frameView{{}}
	lines := bufio.NewScanner(bytes.NewReader(out))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		f := strings.Split(lines.Text(), "\t")
		frames = append(frames, viewOf(f, column))
	}
	return frames
}

func viewOf(f []string, column map[string]int) frameView {
	var v frameView
	layers := strings.Split(f[0], ":")
	for i, l := range layers {
		if l == "icmp" || l == "icmpv6" {
			layers = layers[:i+1] // what is quoted there belongs to another flow
			break
		}
	}
	inner := 0
	for i, l := range layers {
		if l == "ip" || l == "ipv6" {
			inner = i
		}
	}
	if inner == 0 {
		for _, l := range layers {
			if n := linkLayers[l]; n != "" {
				v.link = n
				break
			}
		}
		return v
	}
	v.ssrc = f[2]
	v.seq, _ = strconv.Atoi(f[3])
	for _, l := range layers[inner+1:] {
		known := false
		for _, e := range evidence {
			if e.layer != l {
				continue
			}
			known = true
			if (e.field == "" || f[column[e.field]] != "") && f[1] == "" && !slices.Contains(v.names, e.name) {
				v.names = append(v.names, e.name)
			}
		}
		if !known && !slices.Contains(transport, l) && v.other == "" {
			v.other = l
		}
	}
	return v
}

var transport = []string{"tcp", "udp", "data", "ipv6.hopopts", "ipv6.fraghdr", "ipv6.dstopts", "ipv6.routing", "tcp.segments", "_ws.malformed", "_ws.short", "_ws.unreassembled"}

// namesOf joins what tshark says of a flow's frames.
func namesOf(frames []frameView) (names []string, other string) {
	count := make(map[string]int)
	last := make(map[string]int)
	streams := 0
	for _, f := range frames {
		for _, n := range f.names {
			count[n]++
		}
		if f.ssrc != "" {
			if d := f.seq - last[f.ssrc]; d > 0 && d < 64 {
				if count["ssrc"+f.ssrc]++; count["ssrc"+f.ssrc] == 2 {
					streams++
				}
			}
			last[f.ssrc] = f.seq
		}
		if other == "" {
			other = f.other
		}
	}
	for _, e := range evidence {
		if count[e.name] > 0 && (e.name != "RTP" || streams > 0) && !slices.Contains(names, e.name) {
			names = append(names, e.name)
		}
	}
	return names, other
}

// A tally counts agreement for one protocol.
type tally struct {
	said, agreed           int // flows that tshark names so, and of them those that we name as tshark does
	named, same, different int // flows that we name so, and of them those with the same or another name in tshark
}

// TestAgreesWithTshark compares the names of flows, and of frames without IP, with tshark's on real traffic.
func TestAgreesWithTshark(t *testing.T) {
	tshark, files := need.Tool(t, "tshark"), sample(t)
	sums := make(map[string]*tally)
	for _, n := range firstSet {
		sums[n] = &tally{}
	}
	var mu sync.Mutex
	var wait sync.WaitGroup
	slots := make(chan struct{}, 2)
	var frames, sameFrames int
	for _, name := range files {
		wait.Add(1)
		slots <- struct{}{}
		go func() {
			defer func() { <-slots; wait.Done() }()
			views, got := dissect(t, tshark, name), classify(t, l7.Config{}, name)
			mu.Lock()
			defer mu.Unlock()
			compare(t, filepath.Base(name), views, got, sums)
			a, b := compareFrames(t, filepath.Base(name), views, got)
			frames, sameFrames = frames+a, sameFrames+b
		}()
	}
	wait.Wait()
	var said, agreed, different int
	for _, n := range slices.Sorted(maps.Keys(sums)) {
		s := sums[n]
		t.Logf("%-9s tshark says %4d, agreed %4d %s; we say %4d, same %4d, different %4d", n, s.said, s.agreed, percent(s.agreed, s.said), s.named, s.same, s.different)
		said, agreed, different = said+s.said, agreed+s.agreed, different+s.different
	}
	t.Logf("all: %d of %d agreed %s, %d named differently; frames without IP: %d of %d", agreed, said, percent(agreed, said), different, sameFrames, frames)
	if said == 0 || agreed*100 < said*95 {
		t.Errorf("%d of %d flows agree with tshark; want 95 %%", agreed, said)
	}
	if different*20 > said {
		t.Errorf("%d flows have a name here and another one in tshark; want at most 5 %% of %d", different, said)
	}
	if sameFrames*100 < frames*95 {
		t.Errorf("%d of %d frames without IP agree with tshark", sameFrames, frames)
	}
}

func percent(a, b int) string {
	if b == 0 {
		return "(-)"
	}
	return fmt.Sprintf("(%.1f %%)", 100*float64(a)/float64(b))
}

// sample returns the savefiles to compare: one in sixteen by the checksum of their names, or all of them.
func sample(t *testing.T) []string {
	var out []string
	for _, dir := range []string{"protocols/*.pcap*", "protocols/*.dmp", "l7/pcap/*"} {
		all, _ := filepath.Glob(filepath.Join(need.Corpus(t), dir))
		for _, name := range all {
			if everyFile || crc32.ChecksumIEEE([]byte(filepath.Base(name)))%16 == 0 {
				out = append(out, name)
			}
		}
	}
	return out
}

func compare(t *testing.T, file string, views []frameView, got *run, sums map[string]*tally) {
	byFlow := make(map[uint64][]frameView)
	for i, id := range got.frames {
		if id != 0 && i < len(views) {
			byFlow[id] = append(byFlow[id], views[i])
		}
	}
	for i := range got.flows {
		r := &got.flows[i]
		names, other := namesOf(byFlow[r.id])
		agree := slices.ContainsFunc(names, func(n string) bool { id, _ := protocol.Lookup(n); return r.verdict.Is(id) })
		for _, n := range names {
			s := sums[n]
			if s == nil {
				continue
			}
			s.said++
			if agree {
				s.agreed++
			} else {
				t.Logf("missed: %s %v (frame %d): tshark %q", file, r, r.first, names)
			}
		}
		for n, s := range sums {
			if id, _ := protocol.Lookup(n); !r.verdict.Is(id) {
				continue
			}
			s.named++
			switch {
			case agree:
				s.same++
			case len(names) > 0 || other != "":
				s.different++
				t.Logf("differs: %s %v (frame %d): tshark %q %s", file, r, r.first, names, other)
			default:
				t.Logf("alone: %s %v (frame %d)", file, r, r.first)
			}
		}
	}
}

// compareFrames compares the frames that have no IP.
func compareFrames(t *testing.T, file string, views []frameView, got *run) (frames, same int) {
	for i, v := range views {
		if v.link == "" || i >= len(got.links) {
			continue
		}
		frames++
		if id, _ := protocol.Lookup(v.link); got.links[i].Is(id) {
			same++
		} else if frames-same < 5 {
			t.Logf("frame: %s %d: tshark %s, here %q", file, i, v.link, protocol.Name(got.links[i].Proto))
		}
	}
	return frames, same
}
