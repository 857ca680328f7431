package host

import (
	"errors"
	"log/slog"
	"os"
	"slices"
	"strings"

	"galvo/services/config"
	"galvo/services/internal/afpacket"
	"galvo/services/internal/handover"
)

// A port is a port of the configuration as it was last seen.
type port struct {
	want     config.Port
	info     handover.Port // without sockets
	prepared int           // index of the link whose NIC was prepared
	use      use           // what for
	owned    int           // index of the link that nobody else uses: it was switched off, or had a gate, when it was first seen
	handed   int           // index of the link whose sockets the engine has; 0 is none
	told     bool          // the engine knows info
	failed   string        // why the last try to open sockets failed; empty if it did not
}

// keep brings one port and what the engine knows of it up to date.
func (k *keeper) keep(p *port, links []link) {
	before := p.info
	l := k.find(p.want, links)
	if p.handed != 0 && (l == nil || l.index != p.handed) {
		k.send(handover.Message{Gone: &handover.Gone{ID: p.info.ID, Reason: "the link was removed"}})
		p.handed = 0
	}
	if l == nil {
		p.prepared = 0
		p.info = handover.Port{ID: before.ID, Name: wording(p.want), MAC: before.MAC, Driver: before.Driver, Link: p.want.Link, Direction: direction(p.want, nil),
			State: "absent", Reason: "the machine has no such link now: see `ip link` for the names"}
		k.tell(p, before)
		return
	}
	k.describe(p, l, links)
	if p.handed == 0 || p.info.Direction != before.Direction {
		k.handOver(p)
	}
}

// describe fills in what is known of a port's link, and prepares its NIC when it is new, or used in another way.
func (k *keeper) describe(p *port, l *link, links []link) {
	info := &p.info
	use, trouble := k.useOf(p, l, links)
	if p.prepared != l.index || p.use != use {
		k.prepare(p, l, use)
	}
	info.Name, info.MTU, info.Addresses, info.Mode = l.name, l.mtu, l.addresses, config.ModeSink
	if use.peer != 0 {
		info.Mode = config.ModeBridge
	}
	state, why := l.state()
	if info.State != state {
		info.SpeedMbps, info.Duplex, info.Module = k.nics.medium(l.name)
		p.told = p.told && (p.handed != 0 || p.failed != "")
	}
	info.State = state
	info.Stats = l.stats
	info.Stats.ID, info.Stats.State, info.Stats.SpeedMbps, info.Stats.Duplex = info.ID, state, info.SpeedMbps, info.Duplex
	info.Stats.MTU, info.Stats.Mode, info.Stats.Module = info.MTU, info.Mode, info.Module
	info.Stats.Reason = join(why, info.Reason, trouble)
}

// prepare makes the NIC of a port fit for its use.
func (k *keeper) prepare(p *port, l *link, u use) {
	info := &p.info
	fresh := p.prepared != l.index || info.Direction != direction(p.want, l)
	if fresh {
		*info = handover.Port{ID: info.ID, Name: l.name, Index: l.index, MAC: l.mac, MTU: l.mtu, Link: p.want.Link}
		info.Direction = direction(p.want, l)
		p.told = false
	}
	could := info.CanFCS
	reasons := k.nics.prepare(l, u, info)
	info.Reason = strings.Join(reasons, "; ")
	p.prepared, p.use = l.index, u
	if !fresh && could != info.CanFCS {
		// Filters and rings must know it with the first frame, so the engine gets the port anew.
		p.handed, p.told = 0, false
	}
	for _, r := range reasons {
		slog.Warn("port", "id", info.ID, "name", l.name, "reason", r)
	}
}

// handOver gives the engine fresh sockets of p.
func (k *keeper) handOver(p *port) {
	if k.engine == nil || k.engine.workers == 0 {
		return
	}
	m := p.info
	m.Reason = m.Stats.Reason
	sockets, err := afpacket.Open(m.Index, k.engine.workers)
	if err != nil {
		if text := err.Error(); text != p.failed {
			slog.Error("port", "id", m.ID, "name", m.Name, "error", err)
			p.failed, p.told = text, false
		}
		m.State, m.Reason = "failed", failure(err)
		p.info.State = "failed"
		k.tellOnce(p, m)
		return
	}
	m.Sockets, p.failed = sockets, ""
	p.handed, p.told = m.Index, true
	k.send(handover.Message{Port: &m})
	slog.Info("port", "id", m.ID, "name", m.Name, "driver", m.Driver, "direction", m.Direction, "state", m.State, "workers", len(sockets))
}

func failure(err error) string {
	if errors.Is(err, os.ErrPermission) {
		return "no right to capture: start galvo run as root"
	}
	return err.Error()
}

// tell sends a port without sockets if the engine does not know it so.
func (k *keeper) tell(p *port, before handover.Port) {
	if p.info.State != before.State {
		p.told = false
		slog.Warn("port", "id", p.info.ID, "name", p.info.Name, "state", p.info.State)
	}
	k.tellOnce(p, p.info)
}

func (k *keeper) tellOnce(p *port, m handover.Port) {
	if p.told || k.engine == nil || k.engine.workers == 0 {
		return
	}
	p.told = true
	k.send(handover.Message{Port: &m})
}

func join(texts ...string) string {
	return strings.Join(slices.DeleteFunc(texts, func(s string) bool { return s == "" }), "; ")
}
