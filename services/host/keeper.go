package host

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"galvo/board"
	"galvo/services/config"
	"galvo/services/internal/afpacket"
	"galvo/services/internal/clock"
	"galvo/services/internal/gate"
	"galvo/services/internal/handover"
	"galvo/services/internal/management"
)

// A keeper looks after the ports. Its fields belong to the goroutine of run.
type keeper struct {
	options Options
	store   *config.Store
	nics    *nics
	storage *storage

	wake    chan struct{} // something may have changed
	engines chan *engine  // an engine connected, or said that it is ready
	ended   chan *engine
	restart chan string // reasons to start the engine anew

	management *management.Port
	named      atomic.Pointer[string]         // the device's name
	usage      atomic.Pointer[handover.Usage] // of the last engine
	resolver   string                         // what was written for programs that look names up
	clocks     *clock.Clock
	timeWake   chan struct{} // the time servers changed
	timeAsked  string        // which they were
	remembered time.Time     // when the time was written down

	board    atomic.Pointer[roles] // what the board says of the NICs; nil is nothing yet
	nicsSeen []board.NIC
	limited  uint64 // bytes, of the engine's control group

	routes routes
	ports  []*port
	engine *engine // nil while there is none
	told   *handover.Config
	stored *handover.Storage // as the engine knows it
}

// An engine is one conversation.
type engine struct {
	conn    *handover.Conn
	workers int // 0 until it is ready
}

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

func newKeeper(o Options, store *config.Store, s *storage) (*keeper, error) {
	n, err := openNICs(o.Appliance)
	if err != nil {
		return nil, err
	}
	k := &keeper{
		options: o, store: store, nics: n, storage: s,
		wake: make(chan struct{}, 1), engines: make(chan *engine), ended: make(chan *engine), restart: make(chan string),
		timeWake: make(chan struct{}, 1),
	}
	k.clocks = k.newClock()
	k.management = management.New(filepath.Join(o.State, "lease"), o.Appliance, k.poke)
	return k, nil
}

// poke makes the keeper look at the machine and the configuration.
func (k *keeper) poke() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// run keeps the ports until ctx is done, and then gives the NICs back as they were.
func (k *keeper) run(ctx context.Context) {
	defer k.nics.close()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		k.look(false)
		select {
		case <-ctx.Done():
			return
		case <-k.wake:
		case e := <-k.engines:
			k.adopt(e)
		case e := <-k.ended:
			if k.engine == e {
				k.forget()
			}
		case reason := <-k.restart:
			k.send(handover.Message{Restart: &handover.Restart{Reason: reason}})
		case <-tick.C:
			k.look(true)
			k.rememberTime(k.clocks.State().Synced)
		}
	}
}

// converse serves one engine until it is gone.
func (k *keeper) converse(ctx context.Context, c *handover.Conn) {
	e := &engine{conn: c}
	defer c.Close()
	announce := func(to chan *engine, e *engine) {
		select {
		case to <- e:
		case <-ctx.Done():
		}
	}
	announce(k.engines, e)
	defer announce(k.ended, e)
	for {
		m, err := c.Next()
		if err != nil {
			return
		}
		if m.Ready != nil {
			announce(k.engines, &engine{conn: c, workers: m.Ready.Workers})
		}
		if m.Usage != nil {
			k.usage.Store(m.Usage)
		}
		if m.Stored != nil {
			k.storage.followed(m.Stored.Number)
		}
	}
}

// greet gives an engine that has connected meanwhile its configuration: it has much to do before it needs ports, and preparing NICs takes a while.
func (k *keeper) greet(links []link) {
	select {
	case e := <-k.engines:
		k.adopt(e)
		k.tellConfig(links)
		k.tellStorage()
	default:
	}
}

// adopt takes e for the engine: at first it gets the configuration, and once it is ready the ports.
func (k *keeper) adopt(e *engine) {
	if k.engine != nil && k.engine.conn == e.conn {
		k.engine.workers = e.workers
		for _, p := range k.ports {
			p.handed, p.told = 0, false
		}
		return
	}
	if k.engine != nil {
		slog.Warn("a second engine takes the place of the first")
		k.engine.conn.Close()
	}
	k.forget()
	k.engine = e
	k.storage.follower(true)
}

func (k *keeper) forget() {
	k.engine, k.told, k.stored = nil, nil, nil
	k.storage.follower(false)
	for _, p := range k.ports {
		p.handed, p.told = 0, false
	}
}

// send sends m, and gives the engine up if it does not take it.
func (k *keeper) send(m handover.Message) {
	if k.engine == nil {
		if m.Port != nil {
			closeAll(m.Port.Sockets)
		}
		return
	}
	if err := k.engine.conn.Send(m); err != nil {
		slog.Error("hand over to the engine", "error", err)
		k.engine.conn.Close()
		k.forget()
	}
}

// introduce finds out what the NICs are for, and so the device's name. It is called before run.
func (k *keeper) introduce() {
	links, err := machineLinks()
	if err != nil {
		return // run says it
	}
	k.assign(links)
	k.wish(links)
}

// look compares the machine with what the engine knows, and tells it what is new. With stats it sends counters too.
func (k *keeper) look(stats bool) {
	links, err := machineLinks()
	if err != nil {
		slog.Error("list the links of the machine", "error", err)
		return
	}
	k.assign(links)
	k.adjust()
	k.routes.mark(links)
	k.wish(links)
	k.setResolver()
	k.timeServersChanged()
	k.tellConfig(links)
	k.tellStorage()
	for _, p := range k.ports {
		k.greet(links)
		k.keep(p, links)
	}
	k.nics.release(func(index int) bool {
		return !slices.ContainsFunc(k.ports, func(p *port) bool { return p.prepared == index })
	})
	if !stats || k.engine == nil || k.engine.workers == 0 {
		return
	}
	for _, p := range k.ports {
		if p.handed != 0 {
			s := p.info.Stats
			k.send(handover.Message{Stats: &s})
		}
	}
}

// adjust makes the list of ports follow the configuration. A port whose wording changed is a new one under the same id.
func (k *keeper) adjust() {
	wanted := k.wanted()
	for len(k.ports) > len(wanted) {
		last := k.ports[len(k.ports)-1]
		k.ports = k.ports[:len(k.ports)-1]
		k.send(handover.Message{Gone: &handover.Gone{ID: last.info.ID, Reason: "the configuration has no such port any more"}})
	}
	for i, w := range wanted {
		if i == len(k.ports) {
			k.ports = append(k.ports, &port{})
		}
		if p := k.ports[i]; p.info.ID == 0 || p.want != w {
			if p.handed != 0 {
				k.send(handover.Message{Gone: &handover.Gone{ID: i + 1, Reason: "the configuration of the port changed"}})
			}
			*p = port{want: w, info: handover.Port{ID: i + 1}, owned: p.owned}
		}
	}
}

// wanted returns the ports to capture from: those of the command line, else those of the configuration, else the board's.
func (k *keeper) wanted() []config.Port {
	if len(k.options.Interfaces) == 0 {
		if ports := k.store.Current().Ports; len(ports) > 0 {
			return ports
		}
		return k.boardRoles().ports
	}
	var ports []config.Port
	for _, name := range k.options.Interfaces {
		ports = append(ports, config.Port{Name: name})
	}
	return ports
}

// tellConfig sends the configuration when the engine does not have it as it is.
func (k *keeper) tellConfig(links []link) {
	if k.engine == nil {
		return
	}
	c := &handover.Config{Config: k.effective(), Listen: listening(k.options.Listen, links), Instance: k.options.Instance}
	if k.told != nil && len(config.Diff(&k.told.Config, &c.Config)) == 0 && slices.Equal(k.told.Listen, c.Listen) {
		return
	}
	k.told = c
	k.limit(&c.Config)
	k.send(handover.Message{Config: c})
}

// tellStorage sends the storage devices when the engine does not know them as they are.
func (k *keeper) tellStorage() {
	if k.engine == nil {
		return
	}
	now, ok := k.storage.devices()
	if !ok {
		return
	}
	if k.stored == nil || k.stored.Number != now.Number {
		k.stored = &now
		k.send(handover.Message{Storage: k.stored})
	}
}

// listening returns where the services listen, with every address of the machine in the place of an unspecified one.
func listening(listen []string, links []link) []netip.AddrPort {
	var out []netip.AddrPort
	for _, s := range listen {
		l, err := netip.ParseAddrPort(s)
		if err != nil {
			continue
		}
		if !l.Addr().IsUnspecified() {
			out = append(out, netip.AddrPortFrom(l.Addr().Unmap(), l.Port()))
			continue
		}
		for _, link := range links {
			for _, a := range link.addresses {
				out = append(out, netip.AddrPortFrom(a, l.Port()))
			}
		}
	}
	slices.SortFunc(out, netip.AddrPort.Compare)
	return slices.Compact(out)
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

// useOf returns what a port's NIC is to be prepared for, and why that is less than what the configuration says.
func (k *keeper) useOf(p *port, l *link, links []link) (u use, trouble string) {
	if p.prepared != l.index && p.owned != l.index && k.alone(l) {
		p.owned = l.index
	}
	u = use{both: direction(p.want, l) == "both", fcs: p.want.FCS, mtu: p.want.MTU}
	taken := l.inUse()
	if l.loopback {
		taken = "it is the loopback link"
	} else if k.isManagement(l) {
		taken = "it is the management port"
	}
	switch {
	case taken != "" || u.both:
		u.silence = speaking
	case p.owned == l.index || k.options.Appliance:
		u.silence = closed
	default:
		u.silence = quiet
	}
	if k.store.Current().Mode(p.want) != config.ModeBridge {
		return u, ""
	}
	if taken != "" || u.both {
		return u, "it is not in bridge mode: " + cmp.Or(taken, "both directions are captured")
	}
	u.silence = closed
	other := k.partner(p, links)
	if other == nil {
		return u, fmt.Sprintf("nothing is sent on: the other port of link %d is not there", p.want.Link)
	}
	if other.inUse() != "" || k.isManagement(other) {
		return u, fmt.Sprintf("nothing is sent on: %s is in use: %s", other.name, other.inUse())
	}
	u.peer = other.index
	if other.mtu < l.mtu {
		trouble = fmt.Sprintf("frames above the %d bytes of the MTU of %s are not sent on", other.mtu, other.name)
	}
	return u, trouble
}

// alone reports whether nobody uses a link that is seen for the first time: it is switched off, or still has the gate of an earlier process.
func (k *keeper) alone(l *link) bool {
	gated, err := gate.IsSet(l.index)
	return !l.up || gated && err == nil
}

// partner returns the link of the port at the other end of p's link, or nil.
func (k *keeper) partner(p *port, links []link) *link {
	for _, q := range k.ports {
		if q != p && q.want.Link == p.want.Link {
			return k.find(q.want, links)
		}
	}
	return nil
}

func join(texts ...string) string {
	return strings.Join(slices.DeleteFunc(texts, func(s string) bool { return s == "" }), "; ")
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
