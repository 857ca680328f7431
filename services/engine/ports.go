package engine

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"galvo/services/api"
	"galvo/services/internal/afpacket"
	"galvo/services/internal/filter"
	"galvo/services/internal/handover"
	"galvo/services/internal/packet"
	"galvo/services/internal/pipeline"
	"galvo/services/internal/transceiver"
)

// ports are the ports that the host handed over, with the accounts of their frames.
type ports struct {
	live     *afpacket.Ports
	accounts []*account // by worker
	journal  *journal
	dir      string // of the journal and the gaps
	instance uint64 // of the host service
	blocks   int    // of each worker's ring of each port
	own      atomic.Pointer[ownConnections]

	mu     sync.Mutex
	byID   map[int]*port
	left   [journalPorts]counts // what the last engine left
	gaps   map[int][]api.Gap    // likewise, by port id
	listen []netip.AddrPort
}

// A port is one of them. Its fields are guarded by ports.mu.
type port struct {
	info handover.Port
	live *afpacket.Port // nil while nothing is received
	ledger
	began      counts // frames and bytes when this engine's accounts began
	kernelSeen uint64 // of live's drops, already in the ledger
	read       int64  // when the last reading was, ns
	awaySince  int64  // when the last engine, or the link, was last there
	bitRate    uint64
	frameRate  uint64
	rateFrames uint64
	rateBytes  uint64
}

func newPorts(dir string, instance uint64, workers, blocks int) (*ports, error) {
	j, left, err := openJournal(dir, instance)
	if err != nil {
		return nil, err
	}
	ps := &ports{live: afpacket.NewPorts(workers), journal: j, dir: dir, instance: instance, blocks: blocks, byID: map[int]*port{},
		left: left, gaps: readGaps(dir, instance)}
	for w := range workers {
		ps.accounts = append(ps.accounts, &account{worker: w, journal: j, own: &ps.own, interfaces: ps.live.Source(w).Interfaces})
	}
	return ps, nil
}

// arrived takes a port that the host handed over: for the first time, changed, or back.
func (ps *ports) arrived(ctx context.Context, info handover.Port) error {
	if info.ID < 1 || info.ID > journalPorts {
		return fmt.Errorf("port %d: ids go from 1 to %d", info.ID, journalPorts)
	}
	if ps.keep(info) {
		return nil
	}
	ps.detach(ctx, info.ID, "")
	ps.mu.Lock()
	defer ps.mu.Unlock()
	now := time.Now().UnixNano()
	p, known := ps.byID[info.ID]
	if !known {
		p = &port{began: ps.left[info.ID-1], awaySince: now}
		if seen := p.began.Seen * 1000; seen != 0 && seen < now {
			p.awaySince = seen
		}
		p.counts, p.gaps = p.began, ps.gaps[info.ID]
		ps.byID[info.ID] = p
	}
	if info.Index == 0 {
		info.Index = p.info.Index
	}
	p.info, p.early = info, !known
	ps.setOwn()
	if len(info.Sockets) == 0 {
		if !known {
			iface := p.iface()
			iface.Link = packet.LinkEthernet
			ps.live.Describe(iface)
		}
		return nil
	}
	drops := info.Stats.NicDrops
	if info.Stats.State != "" {
		p.info.State, p.info.Reason = info.Stats.State, info.Stats.Reason
	}
	p.ledger.attach(newDevice(info.Index, info.Name), info.Stats.RxPackets, drops, p.awaySince/1000, now/1000)
	ps.journal.put(info.ID-1, ps.base(p))
	return ps.attach(p, now)
}

// keep goes on with the sockets of a port that came again because the host service was started anew, and reports whether it did. Nothing is lost so.
func (ps *ports) keep(info handover.Port) bool {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	p := ps.byID[info.ID]
	if p == nil || p.live == nil || p.live.Gone() || len(info.Sockets) == 0 || p.info.Index != info.Index || p.info.Direction != info.Direction || p.info.CanFCS != info.CanFCS {
		return false
	}
	for _, fd := range info.Sockets {
		unix.Close(fd)
	}
	info.Sockets, info.State, info.Reason = nil, info.Stats.State, info.Stats.Reason
	p.info = info
	ps.setOwn()
	return true
}

// attach makes p receive. It needs ps.mu.
func (ps *ports) attach(p *port, now int64) error {
	direction := afpacket.In
	if p.info.Direction == "both" {
		direction = afpacket.Both
	}
	live, err := ps.live.Add(p.iface(), p.info.Sockets, afpacket.Options{Direction: direction, FCS: p.info.CanFCS, Blocks: ps.blocks})
	p.info.Sockets = nil
	if err != nil {
		p.info.State, p.info.Reason = "failed", err.Error()
		return err
	}
	p.live, p.kernelSeen, p.read = live, 0, now
	return nil
}

// iface describes the port for captures.
func (p *port) iface() pipeline.Interface {
	return pipeline.Interface{Port: p.info.ID, Name: p.info.Name, Description: p.info.Driver, SpeedBits: uint64(p.info.SpeedMbps) * 1e6}
}

// gone takes note that a port receives nothing any more.
func (ps *ports) gone(ctx context.Context, g handover.Gone) {
	ps.detach(ctx, g.ID, g.Reason)
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if p := ps.byID[g.ID]; p != nil {
		p.info.State, p.info.Reason = "absent", g.Reason
	}
}

// detach stops a port after its rings are drained.
func (ps *ports) detach(ctx context.Context, id int, reason string) {
	ps.mu.Lock()
	p := ps.byID[id]
	if p == nil || p.live == nil {
		ps.mu.Unlock()
		return
	}
	live := p.live
	ps.mu.Unlock()
	// The workers need their turn while the rings drain, and lists are read meanwhile, so the lock is not held.
	if err := ps.live.Remove(ctx, live); err != nil {
		slog.Warn("stop a port", "port", id, "reason", reason, "error", err)
	}
	ps.mu.Lock()
	defer ps.mu.Unlock()
	now := time.Now().UnixNano()
	ps.refresh(p, now)
	p.live, p.awaySince = nil, now
}

// reading takes the counters of a port's NIC, once a second.
func (ps *ports) reading(s handover.Stats) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	p := ps.byID[s.ID]
	if p == nil || p.live == nil {
		return
	}
	p.info.State, p.info.Reason, p.info.SpeedMbps = s.State, s.Reason, s.SpeedMbps
	p.info.Duplex, p.info.MTU, p.info.Mode, p.info.Module = s.Duplex, s.MTU, s.Mode, s.Module
	now, last := s.Time, p.read
	ps.refresh(p, now)
	st := p.live.Stats()
	p.ledger.read(s.RxPackets, s.NicDrops, st.Received-min(st.Received, st.Frames), last/1000, now/1000)
	ps.rate(p, now-last)
	p.read = now
	ps.journal.put(p.info.ID-1, ps.base(p))
	if p.changed {
		ps.saveGaps()
	}
}

// saveGaps writes down the intervals of loss, for an engine that comes after this one is killed. It needs ps.mu.
func (ps *ports) saveGaps() {
	saved := savedGaps{Instance: ps.instance, Gaps: map[int][]api.Gap{}}
	for id, p := range ps.byID {
		saved.Gaps[id], p.changed = p.gaps, false
	}
	if err := writeGaps(ps.dir, saved); err != nil {
		slog.Warn("gaps", "error", err)
	}
}

// refresh brings the ledger of p up to date with the workers and the kernel. It needs ps.mu.
func (ps *ports) refresh(p *port, now int64) {
	p.Frames, p.Bytes = p.began.Frames, p.began.Bytes
	for _, a := range ps.accounts {
		p.Frames += a.ports[p.info.ID-1].frames.Load()
		p.Bytes += a.ports[p.info.ID-1].bytes.Load()
	}
	if p.live == nil {
		return
	}
	lost := p.live.Stats().LostKernel
	p.dropped(lost-p.kernelSeen, p.read/1000, now/1000)
	p.kernelSeen = lost
}

// base is what the journal's row holds: the counts without what the workers' slots hold.
func (ps *ports) base(p *port) *counts {
	c := p.counts
	c.Frames, c.Bytes = p.began.Frames, p.began.Bytes
	return &c
}

func (ps *ports) rate(p *port, passed int64) {
	if passed <= 0 {
		return
	}
	seconds := float64(passed) / 1e9
	p.bitRate = uint64(float64(p.Bytes-p.rateBytes) * 8 / seconds)
	p.frameRate = uint64(float64(p.Frames-p.rateFrames) / seconds)
	p.rateBytes, p.rateFrames = p.Bytes, p.Frames
}

// lostByInterface returns the frames that each port lost, by Frame.Iface.
func (ps *ports) lostByInterface() []uint64 {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	now := time.Now().UnixNano()
	lost := make([]uint64, len(ps.live.Source(0).Interfaces()))
	for id, p := range ps.byID {
		if id <= len(lost) {
			ps.refresh(p, now)
			lost[id-1] = p.ledger.lost()
		}
	}
	return lost
}

// count returns the number of ports that the configuration names, present or not.
func (ps *ports) count() int {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return len(ps.byID)
}

// env returns the ports as filters see them, in the order of their ids.
func (ps *ports) env() []filter.Port {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	var list []filter.Port
	for id, p := range ps.byID {
		list = append(list, filter.Port{ID: id, Name: p.info.Name, Link: p.info.Link, CanFCS: p.info.CanFCS})
	}
	slices.SortFunc(list, func(a, b filter.Port) int { return a.ID - b.ID })
	return list
}

// setListen takes over where the device's own services listen.
func (ps *ports) setListen(listen []netip.AddrPort) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.listen = listen
	ps.setOwn()
}

// setOwn works out which connections are the device's own. It needs ps.mu.
func (ps *ports) setOwn() {
	var addresses []netip.Addr
	for _, p := range ps.byID {
		addresses = append(addresses, p.info.Addresses...)
	}
	ps.own.Store(newOwn(ps.listen, addresses))
}

// list returns the ports in the order of their ids. sizes gives the size classes of a port.
func (ps *ports) list(sizes func(id int) []uint64) []api.Port {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	now := time.Now().UnixNano()
	list := make([]api.Port, 0, len(ps.byID))
	for id, p := range ps.byID {
		ps.refresh(p, now)
		var own uint64
		for _, a := range ps.accounts {
			own += a.ports[id-1].own.Load()
		}
		list = append(list, api.Port{
			ID: id, Name: p.info.Name, Driver: p.info.Driver, MAC: p.info.MAC, Link: p.info.Link, Mode: cmp.Or(p.info.Mode, "sink"), Direction: p.info.Direction,
			State: p.info.State, Reason: p.info.Reason, SpeedMbps: p.info.SpeedMbps, Duplex: p.info.Duplex, MTU: p.info.MTU, FCS: p.info.CanFCS,
			Module:    module(p.info.Module),
			RxPackets: p.Frames, RxBytes: p.Bytes, LostNic: p.NIC, LostKernel: p.Kernel + p.Engine, OwnPackets: own,
			BitRate: p.bitRate, PacketRate: p.frameRate, Gaps: append([]api.Gap{}, p.gaps...), Sizes: sizes(id),
		})
	}
	slices.SortFunc(list, func(a, b api.Port) int { return a.ID - b.ID })
	return list
}

func module(m *transceiver.Module) *api.Module {
	if m == nil {
		return nil
	}
	out := api.Module(*m)
	return &out
}

// close gives the ports back. The workers must have stopped.
func (ps *ports) close() {
	ps.live.Close()
	ps.journal.close()
}
