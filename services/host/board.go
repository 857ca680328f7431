package host

import (
	"os"
	"path/filepath"
	"slices"

	"galvo/board"
	"galvo/services/config"
)

// roles are what the board says that its NICs are for.
type roles struct {
	management string        // name of a link; empty is none
	ports      []config.Port // to capture from
}

// sysNet is where the kernel shows which device a link is of.
const sysNet = "/sys/class/net"

// assign takes the roles of the NICs that are there now from the board.
func (k *keeper) assign(links []link) {
	if k.options.Board == nil {
		return
	}
	var nics []board.NIC
	for _, l := range links {
		if n, ok := nicOf(sysNet, l.name); ok {
			nics = append(nics, n)
		}
	}
	if slices.Equal(nics, k.nicsSeen) && k.board.Load() != nil {
		return
	}
	k.nicsSeen = nics
	k.board.Store(rolesOf(k.options.Board, nics))
}

// nicOf returns what the rules of boards look at, and false for a link that is of no device.
func nicOf(root, name string) (board.NIC, bool) {
	device, err := filepath.EvalSymlinks(filepath.Join(root, name, "device"))
	if err != nil {
		return board.NIC{}, false
	}
	driver, _ := os.Readlink(filepath.Join(device, "driver")) // a device without a driver has no links
	return board.NIC{Name: name, Driver: filepath.Base(driver), Path: device}, true
}

// rolesOf shares the NICs out. Of several management ports the first is looked after.
func rolesOf(b *board.Board, nics []board.NIC) *roles {
	r := &roles{}
	for _, a := range b.Assign(nics) {
		switch {
		case a.Role == board.Capture:
			r.ports = append(r.ports, config.Port{Name: a.Name, Link: a.Link})
		case r.management == "" && a.Role == board.Management:
			r.management = a.Name
		}
	}
	return singles(r)
}

// singles takes links of one port apart: the partner's NIC is not there.
func singles(r *roles) *roles {
	for i, p := range r.ports {
		partners := slices.ContainsFunc(r.ports, func(q config.Port) bool { return q.Link == p.Link && q.Name != p.Name })
		if p.Link != 0 && !partners {
			r.ports[i].Link = 0
		}
	}
	return r
}

// boardRoles returns what the board says, or nothing.
func (k *keeper) boardRoles() roles {
	if r := k.board.Load(); r != nil {
		return *r
	}
	return roles{}
}
