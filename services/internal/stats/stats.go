// Package stats counts traffic by port and by protocol: frames, bytes, lengths, rates.
//
// Each worker counts for itself, in a stage that adds a batch to counters that only it writes; readers sum over the workers, and see whole
// batches. Memory is taken by New and does not grow. Rates are taken by Tick, which somebody calls about once a second.
//
// A frame counts under every name that the expert filter would find it by: an IPv4 frame with a tag is IPv4 and VLAN. So a row is what its
// filter captures, and the rows of a layer do not sum up to the frames. Protocols of layer 7 are counted from the packet that brought the
// verdict on. Bytes are those on the wire, without FCS. There is no history.
package stats

import (
	"cmp"
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"
	"unsafe"

	"galvo/services/api"
	"galvo/services/internal/l7"
	"galvo/services/internal/l7/protocol"
	"galvo/services/internal/packet"
	"galvo/services/internal/pipeline"
)

// sizeClasses are the lengths up to which api.Port.Sizes counts; the last class is above 1518.
const sizeClasses = 7

// maxPorts is the number of interfaces that are counted apart; the others share the last one.
const maxPorts = 256

// maxRows is the number of EtherTypes that are counted apart.
const maxRows = 512

// Stats is the counters of all workers.
type Stats struct {
	stages []*Stage

	mu sync.Mutex

	ticked  int64 // of the last Tick; guarded by mu, as everything below
	layers  [3]map[uint32]rated
	traffic map[int]rated // by port
}

type rated struct {
	count
	bitRate, packetRate uint64
}

// New returns counters for so many workers, all zero.
func New(workers int) *Stats {
	s := &Stats{traffic: map[int]rated{}}
	for range workers {
		s.stages = append(s.stages, newStage())
	}
	return s
}

// Stage returns the stage of a worker, from 0.
func (s *Stats) Stage(worker int) *Stage { return s.stages[worker] }

// Bytes returns the memory that the counters of all workers take. It may be called while they count: it looks at nothing that they change.
func (s *Stats) Bytes() (sum uint64) {
	for _, st := range s.stages {
		sum += uint64(unsafe.Sizeof(*st)) + uint64(len(st.kinds)) + uint64(len(st.masters))*uint64(unsafe.Sizeof(st.masters[0]))
		for _, t := range st.layers {
			sum += t.bytes()
		}
		for i := range st.ports {
			if p := st.ports[i].Load(); p != nil {
				sum += uint64(unsafe.Sizeof(*p))
			}
		}
	}
	return sum
}

// A Stage counts for one worker. It is a pipeline.Stage.
type Stage struct {
	layers  [3]*table
	kinds   [256]kind
	fresh   []uint8 // kinds with counts that are not in the layers yet
	ports   [maxPorts]atomic.Pointer[port]
	masters []protocol.ID // by id
	last    *port         // of the interface number lastIface
	iface   int
}

// The layers, in the order of Protocols.
const (
	layerMAC = iota
	layerL4
	layerL7
)

var layerNames = [3]string{"mac", "l4", "l7"}

func newStage() *Stage {
	s := &Stage{iface: -1, fresh: make([]uint8, 0, 256), masters: masters()}
	ids := len(s.masters)
	s.layers = [3]*table{newTable(linkKeys, maxRows), newTable(256, 256), newTable(ids, ids)}
	return s
}

// A port counts the frames of one interface.
type port struct {
	packets, bytes atomic.Uint64
	sizes          [sizeClasses]atomic.Uint64

	newBytes uint64 // of the batch
	newSizes [sizeClasses]uint64
}

// Process counts a batch.
func (s *Stage) Process(b *pipeline.Batch) {
	for i := range b.Packets {
		p := &b.Packets[i]
		if int(p.Iface) != s.iface {
			s.change(p.Iface)
		}
		s.last.newBytes += uint64(p.Len)
		s.last.newSizes[sizeClass(p.Len)]++
		s.add(p, &b.Meta[i].L7)
	}
	if len(b.Packets) == 0 {
		return
	}
	s.last.show()
	for _, k := range s.fresh {
		s.spread(&s.kinds[k])
	}
	s.fresh = s.fresh[:0]
	for _, t := range s.layers {
		t.show()
	}
}

// A kind is all packets that count under the same names. There are few of them in a batch, so names are looked up once for each. What
// names depend on is packed into two words: comparing fields one by one costs twice as much as all the rest.
type kind struct {
	headers uint64 // layers, EtherType, IP protocol, and whether it is a bridge protocol data unit
	verdict uint64 // carrier, application, state; EtherType of the shim
	count
}

func (k *kind) layers() packet.Layers { return packet.Layers(k.headers) }
func (k *kind) etherType() uint16     { return uint16(k.headers >> 32) }
func (k *kind) shim() uint16          { return uint16(k.verdict >> 40) }
func (k *kind) proto() uint8          { return uint8(k.headers >> 48) }
func (k *kind) stp() bool             { return k.headers>>56 != 0 }
func (k *kind) l7() l7.Verdict {
	return l7.Verdict{Proto: protocol.ID(k.verdict), App: protocol.ID(k.verdict >> 16), State: l7.State(k.verdict >> 32)}
}

// kindLayers are the layers that names depend on.
const kindLayers = packet.VLAN | packet.MPLS | packet.PPPoE | packet.LLC | packet.SNAP | packet.HasProto |
	packet.IPv4 | packet.PartIPv4 | packet.IPv6 | packet.PartIPv6

// add counts a packet among its kind. Where two kinds meet in one place the older one is spread early.
func (s *Stage) add(p *packet.Packet, v *l7.Verdict) {
	headers := uint64(p.Layers&kindLayers) | uint64(p.EtherType)<<32
	if p.Layers&packet.HasProto != 0 {
		headers |= uint64(p.Proto) << 48
	}
	if p.Layers&packet.LLC != 0 && isSTP(p) {
		headers |= 1 << 56
	}
	verdict := uint64(v.Proto) | uint64(v.App)<<16 | uint64(v.State)<<32 | uint64(p.Shim)<<40
	at := uint8((headers*0x9e3779b97f4a7c15 ^ verdict*0xd6e8feb86659fd93) >> 56)
	k := &s.kinds[at]
	if k.headers != headers || k.verdict != verdict {
		s.spread(k)
		k.headers, k.verdict = headers, verdict
	}
	if k.packets == 0 {
		s.fresh = append(s.fresh, at)
	}
	k.packets++
	k.bytes += uint64(p.Len)
}

// spread counts a kind under its names.
func (s *Stage) spread(k *kind) {
	if k.packets == 0 {
		return
	}
	addLink(s.layers[layerMAC], k)
	if k.layers()&packet.HasProto != 0 {
		s.layers[layerL4].add(uint32(k.proto()), k.count)
	}
	s.addVerdict(k.l7(), k.count)
	k.count = count{}
}

// change shows the counts of the last interface and goes on with another one.
func (s *Stage) change(iface uint16) {
	if s.last != nil {
		s.last.show()
	}
	at := &s.ports[min(int(iface), maxPorts-1)]
	if at.Load() == nil {
		at.Store(new(port))
	}
	s.last, s.iface = at.Load(), int(iface)
}

// show adds the counts of the batch to those that others read.
func (p *port) show() {
	for i, n := range p.newSizes {
		if n != 0 {
			p.sizes[i].Store(p.sizes[i].Load() + n)
			p.packets.Store(p.packets.Load() + n)
		}
	}
	p.bytes.Store(p.bytes.Load() + p.newBytes)
	p.newBytes, p.newSizes = 0, [sizeClasses]uint64{}
}

// sizeClass returns the class of a length: up to 64, 128, 256, 512, 1024, 1518 bytes, and above.
func sizeClass(n uint32) int {
	if n <= 1024 {
		return bits.Len32((max(n, 1) - 1) >> 6)
	}
	if n <= 1518 {
		return 5
	}
	return 6
}

// Sizes returns the number of frames of a port (an interface, counted from 1) by length, as api.Port.Sizes has them.
func (s *Stats) Sizes(id int) []uint64 {
	sizes := make([]uint64, sizeClasses)
	s.each(id, func(p *port) {
		for i := range p.sizes {
			sizes[i] += p.sizes[i].Load()
		}
	})
	return sizes
}

// Traffic returns the frames and bytes of a port (an interface, counted from 1), and its rates at the last Tick.
func (s *Stats) Traffic(id int) (packets, bytes, packetRate, bitRate uint64) {
	c := s.traffics(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	return c.packets, c.bytes, s.traffic[id].packetRate, s.traffic[id].bitRate
}

func (s *Stats) traffics(id int) (c count) {
	s.each(id, func(p *port) {
		c.packets += p.packets.Load()
		c.bytes += p.bytes.Load()
	})
	return c
}

func (s *Stats) each(id int, f func(*port)) {
	if id < 1 || id > maxPorts {
		return
	}
	for _, stage := range s.stages {
		if p := stage.ports[id-1].Load(); p != nil {
			f(p)
		}
	}
}

// Tick takes the rates since the last Tick. now is in ns since the epoch.
func (s *Stats) Tick(now int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	seconds := float64(now-s.ticked) / 1e9
	if s.ticked == 0 {
		seconds = 0
	}
	s.ticked = now
	for i := range s.layers {
		next := make(map[uint32]rated)
		for key, c := range s.sum(i) {
			next[key] = c.since(s.layers[i][key].count, seconds)
		}
		s.layers[i] = next
	}
	for id := 1; id <= maxPorts; id++ {
		if c := s.traffics(id); c.packets != 0 {
			s.traffic[id] = c.since(s.traffic[id].count, seconds)
		}
	}
}

// since returns c with its rates since it was old.
func (c count) since(old count, seconds float64) rated {
	if seconds <= 0 {
		return rated{count: c}
	}
	return rated{c, uint64(float64(c.bytes-old.bytes) * 8 / seconds), uint64(float64(c.packets-old.packets) / seconds)}
}

func (s *Stats) sum(layer int) map[uint32]count {
	m := make(map[uint32]count)
	for _, stage := range s.stages {
		stage.layers[layer].sum(m)
	}
	return m
}

// Protocols returns the protocols that were seen: by layer, those with most bytes first. Rates are those of the last Tick.
func (s *Stats) Protocols() []api.ProtocolCount {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := []api.ProtocolCount{}
	for i, name := range []func(uint32) (string, string){linkName, protocolName, verdictName} {
		first := len(list)
		for key, c := range s.sum(i) {
			row := api.ProtocolCount{Layer: layerNames[i], Packets: c.packets, Bytes: c.bytes, BitRate: s.layers[i][key].bitRate, PacketRate: s.layers[i][key].packetRate}
			row.Name, row.Filter = name(key)
			if i == layerL7 {
				row.Category = protocol.Category(protocol.ID(key))
			}
			list = append(list, row)
		}
		slices.SortFunc(list[first:], func(a, b api.ProtocolCount) int {
			return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(a.Name, b.Name))
		})
	}
	return list
}

// WithUnseen appends to what Protocols returned the protocols of layer 7 that were not seen, by name, and says of each of layer 7 how it is recognised.
func WithUnseen(list []api.ProtocolCount) []api.ProtocolCount {
	seen := make(map[string]bool)
	for i := range list {
		if row := &list[i]; row.Layer == layerNames[layerL7] {
			seen[row.Name] = true
			if id, ok := protocol.Lookup(row.Name); ok {
				row.By, row.OSILayer = l7.Ways(id).Strings(), int(protocol.LayerOf(id))
			}
		}
	}
	first := len(list)
	for _, p := range protocol.Protocols() {
		if seen[p.Name] {
			continue
		}
		row := api.ProtocolCount{Layer: layerNames[layerL7], Category: p.Category, By: l7.Ways(p.ID).Strings(), OSILayer: int(p.Layer)}
		row.Name, row.Filter = verdictName(uint32(p.ID))
		list = append(list, row)
	}
	slices.SortFunc(list[first:], func(a, b api.ProtocolCount) int { return cmp.Compare(a.Name, b.Name) })
	return list
}
