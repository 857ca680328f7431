package filter

import (
	"bufio"
	"bytes"
	"cmp"
	"fmt"
	"hash/fnv"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"galvo/ci/need"
	"galvo/services/internal/flow"
	"galvo/services/internal/packet"
)

// A shown frame is what tshark shows of one: the values of its fields in the order of the frame, and the names of its protocols.
type shown struct {
	number    int
	protocols []string
	field     map[string][]string
	outer     string // ip or ipv6, what comes first; empty where that is within another frame, unless a pseudo-wire leads to it
	levels    int    // number of IP or Ethernet headers, whichever is more, quoted ones included
	malformed bool
	answers   map[*oracle][]string // what each oracle says, once asked
}

// values are what o says of the frame.
func (f *shown) values(o *oracle) []string {
	v, ok := f.answers[o]
	if !ok {
		if f.answers == nil {
			f.answers = make(map[*oracle][]string)
		}
		v = o.values(f)
		f.answers[o] = v
	}
	return v
}

func (f *shown) first(name string) string {
	if v := f.field[name]; len(v) > 0 {
		return v[0]
	}
	return ""
}

func (f *shown) is(protocol string) bool { return slices.Contains(f.protocols, protocol) }

// oracleFields is what tshark is asked for, in one pass.
var oracleFields = []string{
	"frame.number", "frame.protocols", "_ws.malformed", "frame.len", "frame.time_epoch", "frame.interface_id",
	"eth.src", "eth.dst", "eth.type", "sll.etype", "vlan.id", "vlan.priority", "vlan.etype", "ieee8021ad.id", "ieee8021ad.priority", "mpls.label", "mpls.exp",
	"ip.src", "ip.dst", "ip.id", "ip.proto", "ip.dsfield.dscp", "ip.ttl", "ip.flags.mf", "ip.flags.df", "ip.frag_offset",
	"ipv6.src", "ipv6.dst", "ipv6.nxt", "ipv6.tclass.dscp", "ipv6.hlim", "ipv6.fraghdr.ident", "ipv6.fraghdr.offset",
	"tcp.srcport", "tcp.dstport", "udp.srcport", "udp.dstport", "tcp.flags", "tcp.stream", "udp.stream",
	"icmp.type", "icmpv6.type", "arp.src.proto_ipv4", "arp.dst.proto_ipv4",
	"igmp.maddr", "icmpv6.mld.multicast_address", "icmpv6.mldr.mar.multicast_address",
	"rtp.p_type", "rtp.version", "slow.subtype", "ptp.v2.messagetype", "pn_rt.frame_id", "pn_io.opnum", "dcerpc.opnum", "dcerpc.dg_if_id",
	"ipv6.hopopts.nxt", "ipv6.routing.nxt", "ipv6.fraghdr.nxt", "ah.next_header", "ipv6.dstopts.nxt", "mip6.proto", "hip.proto", "shim6.nxt",
	"sip.Call-ID", "gre.key", "vxlan.vni", "geneve.vni",
}

var oracleOptions = []string{"-n", "-o", "ip.defragment:FALSE", "-o", "ipv6.defragment:FALSE", "-o", "tcp.desegment_tcp_streams:FALSE", "--enable-heuristic", "rtp_udp"}

// dissect asks tshark for all frames of a savefile.
func dissect(t testing.TB, name string) []*shown {
	t.Helper()
	args := append(slices.Clone(oracleOptions), "-r", name, "-T", "fields", "-E", "separator=/t", "-E", "occurrence=a", "-E", "aggregator=|")
	for _, f := range oracleFields {
		args = append(args, "-e", f)
	}
	out, err := exec.Command("tshark", args...).Output()
	if err != nil && len(out) == 0 {
		t.Fatalf("tshark %s: %v", name, err)
	}
	var frames []*shown
	lines := bufio.NewScanner(bytes.NewReader(out))
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		f := &shown{field: make(map[string][]string)}
		for i, column := range strings.Split(lines.Text(), "\t") {
			if column != "" {
				f.field[oracleFields[i]] = strings.Split(column, "|")
			}
		}
		if f.settle(); f.isPacket() {
			frames = append(frames, f)
		}
	}
	return frames
}

func (f *shown) settle() {
	f.number, _ = strconv.Atoi(f.first("frame.number"))
	f.protocols = strings.Split(f.first("frame.protocols"), ":")
	f.malformed = len(f.field["_ws.malformed"]) > 0
	frames, wires, packets := 0, 0, 0
	for _, p := range f.protocols {
		switch p {
		case "eth":
			frames++
		case "pwethheuristic":
			wires++
		case "ip", "ipv6":
			packets++
			if frames-wires < 2 {
				f.outer = cmp.Or(f.outer, p)
			}
		}
	}
	f.levels = max(frames, packets)
}

// isPacket is false for blocks of pcapng that tshark lists as frames although they are none, such as custom blocks.
func (f *shown) isPacket() bool {
	return f.first("frame.protocols") != "data" || f.first("frame.time_epoch") != ""
}

// inherit gives later fragments the ports of the first one: (source, destination, protocol, id) name a datagram.
func inherit(frames []*shown) {
	type ports struct{ layer, src, dst string }
	known := make(map[string]ports)
	for _, f := range frames {
		datagram, later := "", false
		switch {
		case f.outer == "ip":
			datagram = strings.Join([]string{f.first("ip.src"), f.first("ip.dst"), f.first("ip.proto"), f.first("ip.id")}, " ")
			later = f.first("ip.frag_offset") != "0"
		case len(f.field["ipv6.fraghdr.ident"]) > 0:
			datagram = strings.Join([]string{f.first("ipv6.src"), f.first("ipv6.dst"), f.first("ipv6.fraghdr.ident")}, " ")
			later = f.first("ipv6.fraghdr.offset") != "0"
		default:
			continue
		}
		if later {
			if k, ok := known[datagram]; ok {
				f.field[k.layer+".srcport"], f.field[k.layer+".dstport"] = []string{k.src}, []string{k.dst}
			}
			continue
		}
		for _, layer := range []string{"tcp", "udp"} {
			if f.first(layer+".srcport") != "" && (f.outer == "ipv6" || isTrue(f.first("ip.flags.mf"))) {
				known[datagram] = ports{layer, f.first(layer + ".srcport"), f.first(layer + ".dstport")}
			}
		}
	}
}

// outerFirst returns the first values of an IPv4 and an IPv6 field, of the one that is the outer header.
func (f *shown) outerFirst(ip4, ip6 string) []string {
	switch f.outer {
	case "ip":
		return f.upto(ip4, 1)
	case "ipv6":
		return f.upto(ip6, 1)
	}
	return nil
}

func (f *shown) upto(name string, n int) []string {
	v := f.field[name]
	return v[:min(n, len(v))]
}

// mac returns the first value of a field of the Ethernet header, unless that is within a tunnel over another link layer.
func (f *shown) mac(name string) []string {
	if f.outer != "" && f.protocols[0] != "eth" {
		return nil
	}
	return slices.Clone(f.upto(name, 1))
}

func (f *shown) ports(which sides) (ports []string) {
	for _, layer := range []string{"tcp", "udp"} {
		if which&sourceSide != 0 {
			ports = append(ports, f.field[layer+".srcport"]...)
		}
		if which&destinationSide != 0 {
			ports = append(ports, f.field[layer+".dstport"]...)
		}
	}
	return ports
}

// serve notes the port of the server side of TCP streams of which tshark shows the handshake: where the first SYN goes to.
func serve(frames []*shown) {
	server := make(map[string]string)
	for _, f := range frames {
		stream := f.first("tcp.stream")
		if stream == "" || f.levels != 1 {
			continue
		}
		if _, met := server[stream]; !met {
			server[stream] = ""
			switch flags, _ := strconv.ParseUint(f.first("tcp.flags"), 0, 16); flags & 0x12 {
			case 0x02:
				server[stream] = f.first("tcp.dstport")
			case 0x12:
				server[stream] = f.first("tcp.srcport")
			}
		}
		if port := server[stream]; port != "" {
			f.field[serverField] = []string{port}
		}
	}
}

// serverField is where serve keeps the port.
const serverField = "server port"

// extensionNext maps extension headers of IPv6 to the field that tells what follows.
var extensionNext = map[string]string{
	"0": "ipv6.hopopts.nxt", "43": "ipv6.routing.nxt", "44": "ipv6.fraghdr.nxt", "51": "ah.next_header", "60": "ipv6.dstopts.nxt",
	"135": "mip6.proto", "139": "hip.proto", "140": "shim6.nxt",
}

// finalHeader follows the extension headers of the outer IPv6 header.
func (f *shown) finalHeader() []string {
	if f.outer != "ipv6" {
		return nil
	}
	proto := f.first("ipv6.nxt")
	met := make(map[string]int)
	for extensionNext[proto] != "" {
		next := from(f.field[extensionNext[proto]], met[proto])
		met[proto]++
		if len(next) == 0 {
			break
		}
		proto = next[0]
	}
	return []string{proto}
}

// tags returns the ids or priorities of the VLAN tags, outermost first: 88a8 tags come before 8100 tags.
func (f *shown) tags(what string) []string {
	return append(slices.Clone(f.field["ieee8021ad."+what]), f.field["vlan."+what]...)
}

// decimal rewrites numbers that tshark shows in hexadecimal.
func decimal(values []string) (out []string) {
	for _, v := range values {
		n, err := strconv.ParseUint(v, 0, 64)
		if err == nil {
			out = append(out, strconv.FormatUint(n, 10))
		}
	}
	return out
}

func hexValues(values []string) (out []string) {
	for _, v := range values {
		out = append(out, strings.ToLower(v))
	}
	return out
}

func from(list []string, n int) []string { return list[min(n, len(list)):] }

// orNone is the words for a list of tags or labels.
func orNone(list []string) []string {
	if len(list) == 0 {
		return []string{"none"}
	}
	return append([]string{"any"}, list...)
}

func truth(v bool) []string {
	if v {
		return []string{"1"}
	}
	return []string{"0"}
}

func isTrue(v string) bool { return v == "1" || v == "True" || v == "Set" }

// A question is an expression and the frames that it must select.
type question struct {
	oracle *oracle
	value  string
	filter *Filter
	wrong  []int // frames where we and tshark differ
	missed int   // of those, the ones that tshark selects
}

// harvest makes questions of the values that occur in a savefile: the most frequent, and some rare ones.
func harvest(t testing.TB, frames []*shown, perOperand int) (questions []*question) {
	for i := range oracles {
		o := &oracles[i]
		count := make(map[string]int)
		for _, f := range frames {
			if f.malformed || o.levels > 0 && f.levels > o.levels {
				continue
			}
			for _, v := range f.values(o) {
				count[v]++
			}
		}
		var values []string
		for v := range count {
			values = append(values, v)
		}
		slices.SortFunc(values, func(a, b string) int { return cmp.Or(cmp.Compare(count[b], count[a]), cmp.Compare(a, b)) })
		if len(values) > perOperand {
			half := perOperand / 2
			values = append(values[:half], values[len(values)-(perOperand-half):]...)
		}
		for _, v := range values {
			text := v
			if o.operand == "callId" {
				text = Quote(v)
			}
			f, err := Compile(o.operand+" == "+text, nil)
			if err != nil {
				t.Errorf("%s == %s: %v", o.operand, text, err)
				continue
			}
			questions = append(questions, &question{oracle: o, value: v, filter: f})
		}
	}
	return questions
}

// A difference is known and has its reason in the specification.
type difference struct {
	file, operand string
	frames        int
	reason        string
}

func knownDifferences(t testing.TB) map[string]difference {
	data, err := os.ReadFile("testdata/differences.tsv")
	if err != nil {
		t.Fatal(err)
	}
	known := make(map[string]difference)
	for i, line := range strings.Split(strings.TrimSpace(string(data)), "\n") {
		column := strings.Split(line, "\t")
		if strings.HasPrefix(line, "#") || line == "" {
			continue
		}
		if len(column) != 4 {
			t.Fatalf("differences.tsv:%d: want 4 columns", i+1)
		}
		n, _ := strconv.Atoi(column[2])
		known[column[0]+" "+column[1]] = difference{column[0], column[1], n, column[3]}
	}
	return known
}

// TestOracle compares every operand with tshark, frame by frame, with values that occur in the savefile.
func TestOracle(t *testing.T) {
	corpus := need.Corpus(t)
	need.Tool(t, "tshark")
	names := savefiles(filepath.Join(corpus, "protocols"))
	for _, name := range []string{"FAX-Call-t38-CA-TDM-SIP-FB-1.pcap", "rtp.pcapng", "sip.pcap", "4in6tunnel.pcap", "6in4tunnel.pcap", "dns_fragmented.pcap"} { // what has RTP and more fragments
		names = append(names, filepath.Join(corpus, "l7", "pcap", name))
	}
	names = slices.DeleteFunc(names, func(name string) bool { return !sampled(filepath.Base(name)) })
	asked := sweep(t, append(names, zooFile(t)), 8)
	for i := range oracles {
		if asked[oracles[i].operand] == 0 {
			t.Errorf("no value of %s occurs in the savefiles", oracles[i].operand)
		}
	}
}

// sampled reports whether a test takes a row of this name.
func sampled(name string) bool {
	h := fnv.New32a()
	h.Write([]byte(name))
	return h.Sum32()%oneIn == 0
}

func savefiles(dir string) (names []string) {
	for _, pattern := range []string{"*.*cap*", "*.dmp"} {
		found, _ := filepath.Glob(filepath.Join(dir, pattern))
		names = append(names, found...)
	}
	return names
}

// sweep compares savefiles with so many values per operand and returns how many expressions it made of each operand.
func sweep(t *testing.T, names []string, values int) (asked map[string]int) {
	known := knownDifferences(t)
	var (
		mu       sync.Mutex
		total    tally
		parallel sync.WaitGroup
		turn     = make(chan struct{}, 2)
	)
	asked = make(map[string]int)
	for _, name := range names {
		parallel.Add(1)
		turn <- struct{}{}
		go func() {
			defer func() { <-turn; parallel.Done() }()
			report, questions, n := ask(t, name, values)
			mu.Lock()
			defer mu.Unlock()
			total.add(n)
			for _, q := range questions {
				asked[q.oracle.operand]++
			}
			for key, d := range report {
				if k, ok := known[key]; !ok || k.frames != d.frames {
					t.Errorf("%s\t%s\t%d\t%s", d.file, d.operand, d.frames, d.reason)
				}
			}
			for key, d := range known {
				if d.file == filepath.Base(name) && report[key].frames == 0 {
					t.Errorf("differences.tsv: %s of %s is no difference any more", d.operand, d.file)
				}
			}
		}()
	}
	parallel.Wait()
	t.Logf("%d savefiles, %s", len(names), total)
	return asked
}

// A tally is what a comparison looked at.
type tally struct{ frames, questions, compared, malformed, nested, selected int }

func (n *tally) add(m tally) {
	n.frames += m.frames
	n.questions += m.questions
	n.compared += m.compared
	n.malformed += m.malformed
	n.nested += m.nested
	n.selected += m.selected
}

func (n tally) String() string {
	return fmt.Sprintf("%d frames, %d expressions, %d comparisons, %d selected; skipped: %d in malformed frames, %d in frames with several IP headers", n.frames, n.questions, n.compared, n.selected, n.malformed, n.nested)
}

// ask asks every question of a savefile and returns the differences.
func ask(t *testing.T, name string, values int) (map[string]difference, []*question, tally) {
	frames := dissect(t, name)
	inherit(frames)
	serve(frames)
	questions := harvest(t, frames, values)
	var sets []*Set
	for some := range slices.Chunk(questions, MaxSet) {
		var filters []*Filter
		for _, q := range some {
			filters = append(filters, q.filter)
		}
		sets = append(sets, NewSet(filters))
	}
	n := tally{frames: len(frames), questions: len(questions)}
	replay(t, name, func(i int, p *packet.Packet, ref *flow.Ref) {
		if i >= len(frames) {
			return
		}
		for s, set := range sets {
			yes, unknown := set.Match(p, ref, pending)
			for k, q := range questions[s*MaxSet : min((s+1)*MaxSet, len(questions))] {
				together, alone := result(yes, unknown, k), q.filter.Match(p, ref, pending)
				if alone != together {
					t.Errorf("%s frame %d: %s is %d alone, %d in a set", filepath.Base(name), i+1, q.filter, alone, together)
				}
				q.judge(frames[i], alone, &n)
			}
		}
	})
	report := make(map[string]difference)
	for _, q := range questions {
		if len(q.wrong) == 0 {
			continue
		}
		key := filepath.Base(name) + " " + q.oracle.operand
		d := report[key]
		d.file, d.operand = filepath.Base(name), q.oracle.operand
		d.frames += len(q.wrong)
		d.reason += fmt.Sprintf("%s: frames %v, %d missed; ", q.value, q.wrong[:min(6, len(q.wrong))], q.missed)
		report[key] = d
	}
	return report, questions, n
}

// judge compares one answer with what tshark shows of the frame.
func (q *question) judge(f *shown, got Result, n *tally) {
	switch {
	case f.malformed:
		n.malformed++
		return
	case q.oracle.levels > 0 && f.levels > q.oracle.levels:
		n.nested++
		return
	case q.oracle.only != "" && f.first(q.oracle.only) == "":
		return
	}
	n.compared++
	want := No
	if slices.Contains(f.values(q.oracle), q.value) {
		want = Yes
		n.selected++
	}
	if got != want {
		q.wrong = append(q.wrong, f.number)
		if want == Yes {
			q.missed++
		}
	}
}
