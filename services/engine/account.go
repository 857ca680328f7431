package engine

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"sync/atomic"

	"galvo/services/internal/packet"
	"galvo/services/internal/pipeline"
)

// An account is the first stage of a worker. It counts what the worker received from each port, and takes out the frames of the device's own
// TCP connections, which would otherwise feed a download back into itself.
type account struct {
	worker     int
	journal    *journal
	interfaces func() []pipeline.Interface
	own        *atomic.Pointer[ownConnections]

	ports [journalPorts]portAccount // by port id - 1
}

// A portAccount is what one worker received from one port. The worker writes it, anybody reads it.
type portAccount struct {
	frames, bytes, own atomic.Uint64
}

// Process counts the frames of b and takes out the device's own.
func (a *account) Process(b *pipeline.Batch) {
	if len(b.Packets) == 0 {
		return
	}
	interfaces, own := a.interfaces(), a.own.Load()
	var sum received // of the packets of one port in a row: what others read is written as rarely as that allows
	kept := 0
	for i := range b.Packets {
		p := &b.Packets[i]
		if id := interfaces[p.Iface].Port - 1; id != sum.port {
			a.add(&sum)
			sum = received{port: id}
		}
		if p.Flags&packet.DirMask != packet.DirOut {
			sum.frames++
			sum.bytes += uint64(p.Len)
		}
		if own.has(p) {
			sum.own++
			continue
		}
		if kept != i {
			b.Packets[kept], b.Meta[kept] = *p, b.Meta[i]
		}
		kept++
	}
	a.add(&sum)
	b.Packets, b.Meta = b.Packets[:kept], b.Meta[:kept]
}

// received is what came from a port, by id - 1.
type received struct {
	port               int
	frames, bytes, own uint64
}

// add shows what came from a port.
func (a *account) add(r *received) {
	p := &a.ports[r.port]
	if r.own != 0 {
		p.own.Store(p.own.Load() + r.own)
	}
	if r.frames != 0 {
		p.frames.Store(p.frames.Load() + r.frames)
		p.bytes.Store(p.bytes.Load() + r.bytes)
		a.journal.count(r.port, a.worker, p.frames.Load(), p.bytes.Load())
	}
}

// ownConnections are the addresses and ports at which the device's own services listen.
type ownConnections struct {
	ports []uint16 // few, and looked at first: a packet of other ports costs a comparison or two
	v4    map[own4]bool
	v6    map[own6]bool
}

type own4 struct {
	addr uint32
	port uint16
}

type own6 struct {
	hi, lo uint64
	port   uint16
}

// newOwn returns what stands for listen; an unspecified address there stands for all of addresses.
func newOwn(listen []netip.AddrPort, addresses []netip.Addr) *ownConnections {
	o := &ownConnections{v4: map[own4]bool{}, v6: map[own6]bool{}}
	for _, l := range listen {
		o.ports = append(o.ports, l.Port())
		at := []netip.Addr{l.Addr()}
		if l.Addr().IsUnspecified() {
			at = addresses
		}
		for _, a := range at {
			o.add(a.Unmap(), l.Port())
		}
	}
	return o
}

func (o *ownConnections) add(a netip.Addr, port uint16) {
	if a.Is4() {
		b := a.As4()
		o.v4[own4{binary.BigEndian.Uint32(b[:]), port}] = true
		return
	}
	b := a.As16()
	o.v6[own6{binary.BigEndian.Uint64(b[:]), binary.BigEndian.Uint64(b[8:]), port}] = true
}

// has reports whether p belongs to one of the connections.
func (o *ownConnections) has(p *packet.Packet) bool {
	if o == nil || p.Layers&packet.TCP == 0 || !slices.Contains(o.ports, p.SrcPort) && !slices.Contains(o.ports, p.DstPort) {
		return false
	}
	if p.Layers&packet.IPv4 != 0 {
		return o.v4[own4{p.Src4(), p.SrcPort}] || o.v4[own4{p.Dst4(), p.DstPort}]
	}
	hi, lo := p.Src6()
	if o.v6[own6{hi, lo, p.SrcPort}] {
		return true
	}
	hi, lo = p.Dst6()
	return o.v6[own6{hi, lo, p.DstPort}]
}
