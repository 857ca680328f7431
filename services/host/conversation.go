package host

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"

	"galvo/services/config"
	"galvo/services/internal/handover"
)

// An engine is one conversation.
type engine struct {
	conn    *handover.Conn
	workers int // 0 until it is ready
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
		k.poke() // for the ports that were looked at before
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

// tellStats sends the counters of the ports that the engine has.
func (k *keeper) tellStats() {
	if k.engine == nil || k.engine.workers == 0 {
		return
	}
	for _, p := range k.ports {
		if p.handed != 0 {
			s := p.info.Stats
			k.send(handover.Message{Stats: &s})
		}
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
