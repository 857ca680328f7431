package stats

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"galvo/ci/need"
	"galvo/services/api"
	"galvo/services/internal/filter"
	"galvo/services/internal/flow"
	"galvo/services/internal/l7"
	"galvo/services/internal/l7/header"
	"galvo/services/internal/l7/protocol"
	"galvo/services/internal/packet"
	"galvo/services/internal/pipeline"
	"galvo/services/internal/savefile"
)

// A naive counter evaluates filters packet by packet and counts what they take.
type naive struct {
	packets, bytes uint64
	sizes          [sizeClasses]uint64
	batches        []*pipeline.Batch
}

// Process keeps a copy of the batch: decoded packets and verdicts.
func (n *naive) Process(b *pipeline.Batch) {
	c := &pipeline.Batch{Packets: slices.Clone(b.Packets), Meta: slices.Clone(b.Meta)}
	for i := range c.Packets {
		p := &c.Packets[i]
		p.Data = bytes.Clone(p.Data)
		n.packets++
		n.bytes += uint64(p.Len)
		class := 0
		for _, limit := range []uint32{64, 128, 256, 512, 1024, 1518} {
			if p.Len > limit {
				class++
			}
		}
		n.sizes[class]++
	}
	n.batches = append(n.batches, c)
}

func (n *naive) count(t *testing.T, expression string) (c count) {
	f, err := filter.Compile(expression, nil)
	if err != nil {
		t.Fatalf("the filter %q: %v", expression, err)
	}
	for _, b := range n.batches {
		for i := range b.Packets {
			if f.Match(&b.Packets[i], &b.Meta[i].Ref, b.Meta[i].L7) == filter.Yes {
				c.packets++
				c.bytes += uint64(b.Packets[i].Len)
			}
		}
	}
	return c
}

func analyse(t *testing.T, file string) (*Stats, *naive) {
	t.Helper()
	source, err := savefile.Open([]string{file}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	s, n := New(1), &naive{}
	engine := l7.New(l7.Config{Bytes: 1 << 20})
	w := &pipeline.Worker{
		Source: source, Flows: flow.New(flow.Config{Flows: 1 << 14, OnEnd: engine.End}), L7: engine,
		Stages: []pipeline.Stage{s.Stage(0), n},
	}
	w.Run(t.Context()) // a damaged file is counted up to its damage
	return s, n
}

// Every row counts what its filter takes, in every capture of the corpus; the ports count every frame.
func TestRowsAreWhatTheirFiltersTake(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(need.Corpus(t), "protocols", "*.*cap*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no savefiles: %v", err)
	}
	rows := 0
	for _, file := range files {
		s, n := analyse(t, file)
		for _, row := range s.Protocols() {
			if row.Filter == "" {
				continue
			}
			rows++
			if got := n.count(t, row.Filter); got.packets != row.Packets || got.bytes != row.Bytes {
				t.Errorf("%s: %s %s counts %d packets, %d bytes; its filter takes %d, %d",
					filepath.Base(file), row.Layer, row.Name, row.Packets, row.Bytes, got.packets, got.bytes)
			}
		}
		var total count
		var sizes [sizeClasses]uint64
		for id := 1; id <= maxPorts; id++ {
			packets, bytes, _, _ := s.Traffic(id)
			total.packets += packets
			total.bytes += bytes
			for i, v := range s.Sizes(id) {
				sizes[i] += v
			}
		}
		if (total != count{n.packets, n.bytes}) || sizes != n.sizes {
			t.Errorf("%s: ports count %+v, %v; want %d packets, %d bytes, %v", filepath.Base(file), total, sizes, n.packets, n.bytes, n.sizes)
		}
	}
	t.Logf("%d rows of %d files", rows, len(files))
}

// The ports' sums are those of capinfos.
func TestSumsAreThoseOfCapinfos(t *testing.T) {
	capinfos := need.Tool(t, "capinfos")
	files, _ := filepath.Glob(filepath.Join(need.Corpus(t), "protocols", "*.*cap*"))
	compared := 0
	for _, file := range files {
		out, err := exec.Command(capinfos, "-TMrcd", file).Output() // frames, bytes
		if err != nil {
			continue // damaged
		}
		fields := strings.Split(strings.TrimSpace(string(out)), "\t")
		frames, _ := strconv.ParseUint(fields[1], 10, 64)
		size, _ := strconv.ParseUint(fields[len(fields)-1], 10, 64)
		s, _ := analyse(t, file)
		var total count
		for id := 1; id <= maxPorts; id++ {
			packets, bytes, _, _ := s.Traffic(id)
			total.packets += packets
			total.bytes += bytes
		}
		compared++
		if total.packets != frames || total.bytes != size {
			t.Errorf("%s: %+v, capinfos says %d frames, %d bytes", filepath.Base(file), total, frames, size)
		}
	}
	t.Logf("%d files", compared)
}

func ipPacket(iface uint16, size int) packet.Packet {
	b := make([]byte, size)
	copy(b[12:], []byte{8, 0, 0x45, 0, 0, byte(size - 14)})
	b[14+9] = 17
	b[16], b[17] = byte((size-14)>>8), byte(size-14)
	p := packet.Packet{Frame: packet.Frame{Data: b, Len: uint32(size), Iface: iface}}
	p.Decode(packet.LinkEthernet)
	return p
}

func TestRates(t *testing.T) {
	s := New(2)
	b := &pipeline.Batch{Packets: []packet.Packet{ipPacket(1, 100), ipPacket(1, 200)}, Meta: make([]pipeline.Meta, 2)}
	b.Meta[0].L7 = l7.Verdict{Proto: protocol.DNS, State: l7.Final}
	s.Tick(1e9)
	for w := range 2 {
		s.Stage(w).Process(b)
	}
	s.Tick(3e9)
	if packets, bytes, packetRate, bitRate := s.Traffic(2); packets != 4 || bytes != 600 || packetRate != 2 || bitRate != 2400 {
		t.Errorf("Traffic = %d, %d, %d, %d", packets, bytes, packetRate, bitRate)
	}
	want := []api.ProtocolCount{
		{Layer: "mac", Name: "IPv4", Packets: 4, Bytes: 600, BitRate: 2400, PacketRate: 2, Filter: "macProtocol == IPv4"},
		{Layer: "l4", Name: "UDP", Packets: 4, Bytes: 600, BitRate: 2400, PacketRate: 2, Filter: "l4Protocol == UDP"},
		{Layer: "l7", Name: "DNS", Packets: 2, Bytes: 200, BitRate: 800, PacketRate: 1, Filter: "l7Protocol == DNS", Category: "Network"},
	}
	if got := s.Protocols(); !reflect.DeepEqual(got, want) {
		t.Errorf("Protocols = %+v, want %+v", got, want)
	}
	s.Tick(4e9)
	if got := s.Protocols()[0].BitRate; got != 0 {
		t.Errorf("an idle protocol has the rate %d", got)
	}
}

func TestManyEtherTypes(t *testing.T) {
	s := New(1)
	b := &pipeline.Batch{Packets: make([]packet.Packet, 1), Meta: make([]pipeline.Meta, 1)}
	for et := range 2000 {
		d := make([]byte, 60)
		d[12], d[13] = byte(0xa0+et>>8), byte(et)
		b.Packets[0] = packet.Packet{Frame: packet.Frame{Data: d, Len: 60}}
		b.Packets[0].Decode(packet.LinkEthernet)
		s.Stage(0).Process(b)
	}
	var sum uint64
	for _, row := range s.Protocols() {
		sum += row.Packets
	}
	if sum != 2000 {
		t.Errorf("the rows sum up to %d, want 2000", sum)
	}
}

func TestEveryNameIsOneOfTheFilter(t *testing.T) {
	var filters []string
	for key := range linkNames {
		_, f := linkName(key)
		filters = append(filters, f)
	}
	for et := range header.EtherTypes() {
		name, f := linkName(uint32(et))
		if filters = append(filters, f); strings.HasPrefix(name, "0x") {
			t.Errorf("EtherType %s has no name", name)
		}
	}
	for key := range uint32(256) {
		_, f := protocolName(key)
		filters = append(filters, f)
	}
	for _, p := range protocol.Protocols() {
		_, f := verdictName(uint32(p.ID))
		filters = append(filters, f)
	}
	for _, f := range filters {
		if _, err := filter.Compile(f, nil); err != nil {
			t.Errorf("%s: %v", f, err)
		}
	}
}

func traffic() *pipeline.Batch {
	b := &pipeline.Batch{}
	for i := range pipeline.BatchSize {
		b.Packets = append(b.Packets, ipPacket(uint16(i/64%2), 60+i*5))
		v := l7.Verdict{Proto: protocol.ID(1 + i%20), State: l7.Final}
		b.Meta = append(b.Meta, pipeline.Meta{L7: v})
	}
	return b
}

func TestProcessAllocatesNothing(t *testing.T) {
	s, b := New(1).Stage(0), traffic()
	if n := testing.AllocsPerRun(100, func() { s.Process(b) }); n != 0 {
		t.Errorf("a batch costs %v allocations", n)
	}
}

func BenchmarkProcess(b *testing.B) {
	s, batch := New(1).Stage(0), traffic()
	b.ReportAllocs()
	for b.Loop() {
		s.Process(batch)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/pipeline.BatchSize, "ns/packet")
}

// TestWithUnseen lists every name of the table once, and says of each how it is recognised.
func TestWithUnseen(t *testing.T) {
	s := New(1)
	b := &pipeline.Batch{Packets: traffic().Packets[:1], Meta: make([]pipeline.Meta, 1)}
	b.Meta[0].L7 = l7.Verdict{Proto: protocol.DNS, State: l7.Final}
	s.Stage(0).Process(b)
	s.Stage(0).Process(&pipeline.Batch{Now: 1 << 62})
	rows := make(map[string]int)
	for _, row := range WithUnseen(s.Protocols()) {
		if row.Layer != "l7" {
			continue
		}
		rows[row.Name]++
		if row.Name != "unknown" && (len(row.By) == 0 || row.Category == "") {
			t.Errorf("%+v", row)
		}
		if (row.Name == "DNS") != (row.Packets == 1) {
			t.Errorf("%s was seen %d times", row.Name, row.Packets)
		}
	}
	for _, p := range protocol.Protocols() {
		if rows[p.Name] != 1 {
			t.Errorf("%s is there %d times", p.Name, rows[p.Name])
		}
	}
}

// TestBytes: the counters say what they take of the memory.
func TestBytes(t *testing.T) {
	const workers = 4
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	s := New(workers)
	for w := range workers {
		s.Stage(w).change(0)
	}
	runtime.ReadMemStats(&after)
	if took, says := after.TotalAlloc-before.TotalAlloc, s.Bytes(); says < took*8/10 || says > took {
		t.Errorf("the counters took %d bytes and say %d", took, says)
	}
}

// TestAsked asks for everything that others may ask for while a worker counts: the race detector has the last word.
func TestAsked(t *testing.T) {
	s := New(1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 200 {
			s.Stage(0).Process(traffic())
		}
	}()
	for asking := true; asking; {
		select {
		case <-done:
			asking = false
		default:
		}
		s.Protocols()
		s.Sizes(1)
		s.Traffic(1)
		if s.Bytes() == 0 {
			t.Error("the counters take no memory")
		}
	}
}
