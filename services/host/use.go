package host

import (
	"cmp"
	"fmt"

	"galvo/services/config"
	"galvo/services/internal/gate"
)

// A silence says how far a port is kept from sending.
type silence int

const (
	speaking silence = iota // the machine itself uses the port
	quiet                   // nobody uses it: the kernel makes no address and answers no ARP there
	closed                  // it is Galvo's alone: nothing leaves through it, and what comes ends behind the capture
)

// A use is what a port's NIC is prepared for.
type use struct {
	both    bool    // sent frames are captured too
	silence silence // in bridge mode always closed
	peer    int     // index of the link that frames are sent on through; 0 is none
	fcs     bool    // frames come with their FCS, bad ones too
	mtu     int     // 0 is as it was
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
