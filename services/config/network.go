package config

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Modes of a link.
const (
	ModeSink   = "sink"
	ModeBridge = "bridge"
)

// Mode returns the mode of a port.
func (c *Config) Mode(p Port) string {
	for _, l := range c.Links {
		if p.Link != 0 && l.Number == p.Link {
			return l.Mode
		}
	}
	return ModeSink
}

// checkManagement holds addresses against the ways in which they are used.
func checkManagement(c *Config) *Error {
	m := c.Management
	if m.Port != "" && !isLink(m.Port) {
		return wrong("management.port", "%q cannot be a link: write its name, its MAC or its PCI address", m.Port)
	}
	for _, f := range []family{
		{"ipv4", m.IPv4, []string{"dhcp", "static", "link-local", "off"}, "address", m.Address, "gateway", m.Gateway, netip.Addr.Is4, "192.0.2.10/24"},
		{"ipv6", m.IPv6, []string{"auto", "static", "link-local", "off"}, "address6", m.Address6, "gateway6", m.Gateway6, netip.Addr.Is6, "2001:db8::10/64"},
	} {
		if e := f.check(); e != nil {
			return e
		}
	}
	if m.IPv4 == "off" && m.IPv6 == "off" {
		return wrong("management.ipv6", "with IPv4 and IPv6 off nobody reaches the device")
	}
	for _, s := range m.DNS {
		if a, err := netip.ParseAddr(s); err != nil || a.IsUnspecified() {
			return wrong("management.dns", "%q is not the address of a name server", s)
		}
	}
	return nil
}

// A family is one of IPv4 and IPv6 on the management port.
type family struct {
	key, way   string
	ways       []string
	addressKey string
	address    string
	gatewayKey string
	gateway    string
	is         func(netip.Addr) bool
	example    string
}

func (f family) check() *Error {
	if !slices.Contains(f.ways, f.way) {
		return wrong("management."+f.key, "%q is not one of %s", f.way, strings.Join(f.ways, ", "))
	}
	if f.address == "" && f.way == "static" {
		return wrong("management."+f.key, "static needs %s, such as %q", f.addressKey, f.example)
	}
	if f.address == "" {
		if f.gateway != "" {
			return wrong("management."+f.gatewayKey, "a gateway needs %s", f.addressKey)
		}
		return nil
	}
	p, err := netip.ParsePrefix(f.address)
	if err != nil || !f.is(p.Addr()) {
		return wrong("management."+f.addressKey, "%q is not an address with the length of its network; write %s", f.address, f.example)
	}
	if e := f.unusable(p); e != nil || f.gateway == "" {
		return e
	}
	g, err := netip.ParseAddr(f.gateway)
	switch {
	case err != nil || !f.is(g) || g.Zone() != "":
		return wrong("management."+f.gatewayKey, "%q is not the address of a router", f.gateway)
	case g == p.Addr():
		return wrong("management."+f.gatewayKey, "%s is the device's own address", g)
	case !p.Contains(g) && !(g.Is6() && g.IsLinkLocalUnicast()):
		return wrong("management."+f.gatewayKey, "%s is not in the network %s: the device could not reach it", g, p.Masked())
	}
	return nil
}

// unusable says why nobody can have an address.
func (f family) unusable(p netip.Prefix) *Error {
	a := p.Addr()
	if a.IsUnspecified() || a.IsLoopback() || a.IsMulticast() || p.Bits() == 0 || a.Is4() && a.As4()[0] >= 224 || a.Is4() && a.As4()[0] == 0 {
		return wrong("management."+f.addressKey, "%s cannot be the address of a device", p)
	}
	if a.Is4() && p.Bits() < 31 && (a == p.Masked().Addr() || !p.Contains(a.Next())) {
		return wrong("management."+f.addressKey, "%s is the address of the network itself, or of everybody in it", p)
	}
	return nil
}

func isLink(s string) bool {
	if _, err := net.ParseMAC(s); err == nil || pciAddress().MatchString(s) {
		return true
	}
	return checkPort("", Port{Name: s}) == nil
}

func checkClock(c *Config) *Error {
	for _, s := range c.Clock.Servers {
		if _, err := netip.ParseAddr(s); err == nil {
			continue
		}
		if len(s) > 253 || slices.ContainsFunc(strings.Split(strings.TrimSuffix(s, "."), "."), func(l string) bool { return !hostName().MatchString(l) }) {
			return wrong("clock.servers", "%q is not the name or address of a server", s)
		}
	}
	// LoadLocation takes no path out of its folder; Local would be whatever the process has.
	if _, err := time.LoadLocation(c.Clock.TimeZone); err != nil || c.Clock.TimeZone == "Local" {
		return wrong("clock.timeZone", "%q is not a time zone; write Europe/Berlin or UTC", c.Clock.TimeZone)
	}
	return nil
}

// checkModes holds the modes of links against their ports.
func checkModes(c *Config) *Error {
	if len(c.Links) > maxLinks {
		return wrong("link", "%d links; at most %d are allowed", len(c.Links), maxLinks)
	}
	seen := map[int]int{}
	for i, l := range c.Links {
		path := fmt.Sprintf("link.%d", i+1)
		switch {
		case l.Mode != ModeSink && l.Mode != ModeBridge:
			return wrong(path+".mode", "%q is not a mode: sink or bridge", l.Mode)
		case seen[l.Number] > 0:
			return wrong(path+".number", "[[link]] %d has this number already", seen[l.Number])
		// Without ports those of the board count, which only the device knows.
		case len(c.Ports) > 0 && !slices.ContainsFunc(c.Ports, func(p Port) bool { return p.Link == l.Number }):
			return wrong(path+".number", "no ports have link = %d", l.Number)
		}
		seen[l.Number] = i + 1
	}
	for i, p := range c.Ports {
		if c.Mode(p) != ModeBridge {
			continue
		}
		if p.Direction == "both" {
			return wrong(fmt.Sprintf("port.%d.direction", i+1), "in bridge mode each frame would be captured twice: use in, or leave it out")
		}
		if p.FCS {
			return wrong(fmt.Sprintf("port.%d.fcs", i+1), "in bridge mode frames with a wrong frame check sequence would be sent on as good ones: leave it out")
		}
		if m := c.Management.Port; m != "" && (m == p.Name || strings.EqualFold(m, p.MAC) || m == p.PCI) {
			return wrong(fmt.Sprintf("port.%d.link", i+1), "the management port cannot be in bridge mode")
		}
	}
	return nil
}

func checkEngine(c *Config) *Error {
	if p := c.Engine.MemoryPercent; p != 0 && p < 5 {
		return wrong("engine.memoryPercent", "%d is not between 5 and 90", p)
	}
	return nil
}
