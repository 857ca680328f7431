package host

import (
	"bytes"
	"cmp"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"galvo/services/config"
	"galvo/services/internal/clock"
	"galvo/services/internal/management"
)

// managementSpec returns which link the device is managed through: its name, MAC or PCI address. Empty is none: on a plain host that is the machine's
// own affair.
func (k *keeper) managementSpec() string {
	return cmp.Or(k.store.Current().Management.Port, k.options.Management, k.boardRoles().management)
}

// managed reports whether a configuration has a management port, its own or the machine's.
func (k *keeper) managed(c *config.Config) bool {
	return cmp.Or(c.Management.Port, k.options.Management, k.boardRoles().management) != ""
}

// isManagement reports whether the device is managed through a link.
func (k *keeper) isManagement(l *link) bool {
	spec := k.managementSpec()
	return spec != "" && (l.name == spec || sameMAC(spec, l) || k.nics.bus(l.name) == spec)
}

// wish tells the management port what it is to be.
func (k *keeper) wish(links []link) {
	w := management.Wish{Settings: k.store.Current().Management}
	w.Settings.Port = k.managementSpec()
	var found *link
	for i := range links {
		if k.isManagement(&links[i]) {
			found = &links[i]
			w.Link = management.Link{Index: found.index, Name: found.name, MAC: found.mac, Carrier: found.up && found.carrier}
			if !found.up {
				w.Link.Carrier = false
			}
			break
		}
	}
	name := k.nameFor(found)
	k.setName(name)
	w.Name = name
	k.management.Wish(w)
}

// nameFor returns the name of the device: as it is set, or made of the management port's MAC address.
func (k *keeper) nameFor(l *link) string {
	if name := k.store.Current().Device.Name; name != "" {
		return name
	}
	if l == nil {
		return cmp.Or(k.name(), plainName)
	}
	mac := strings.ReplaceAll(cmp.Or(l.permanent, l.mac), ":", "")
	return "galvo-" + mac[max(0, len(mac)-4):]
}

// plainName is that of a device without a management port.
const plainName = "galvo"

// name returns the name that the device has now; empty is not known yet.
func (k *keeper) name() string {
	if n := k.named.Load(); n != nil {
		return *n
	}
	return ""
}

// setName makes name the device's, and on an appliance the machine's.
func (k *keeper) setName(name string) {
	if name == k.name() {
		return
	}
	k.named.Store(&name)
	if !k.options.Appliance {
		return
	}
	if err := unix.Sethostname([]byte(name)); err != nil {
		slog.Error("name the machine", "name", name, "error", err)
	}
}

// resolverFile is where programs read which name servers to ask (resolv.conf(5)).
const resolverFile = "/etc/resolv.conf"

// setResolver makes an appliance ask the name servers of the management port.
func (k *keeper) setResolver() {
	if !k.options.Appliance {
		return
	}
	s := k.management.State()
	text := resolverText(s)
	if text == k.resolver {
		return
	}
	k.resolver = text
	if err := os.WriteFile(resolverFile, []byte(text), 0o644); err != nil {
		slog.Error("set the name servers", "error", err)
	}
}

func resolverText(s management.State) string {
	var b bytes.Buffer
	if s.Lease != nil && domainName().MatchString(s.Lease.Domain) {
		fmt.Fprintf(&b, "search %s\n", s.Lease.Domain)
	}
	for _, a := range s.DNS {
		fmt.Fprintf(&b, "nameserver %s\n", a)
	}
	return b.String()
}

// domainName is what a DHCP server's domain may look like: it ends up in a file that other programs read.
var domainName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$`) })

// timeServers returns who is to be asked for the time: as set, or as DHCP says on a port that Galvo manages. A plain host has its own ways.
func (k *keeper) timeServers() []clock.Server {
	c := k.store.Current().Clock
	if !c.NTP {
		return nil
	}
	var list []clock.Server
	for _, s := range c.Servers {
		list = append(list, clock.Server{Name: s, From: "configuration"})
	}
	if lease := k.management.State().Lease; len(list) == 0 && lease != nil {
		for _, a := range lease.NTP {
			list = append(list, clock.Server{Name: a.String(), From: "DHCP"})
		}
	}
	return list[:min(len(list), maxTimeServers)]
}

const maxTimeServers = 8

// effective returns the configuration with what the machine decides where nothing is set.
func (k *keeper) effective() config.Config {
	c := *k.store.Current()
	c.Ports = k.wanted()
	c.Device.Name = cmp.Or(k.name(), plainName)
	c.Engine.MemoryPercent = k.percent(&c)
	return c
}
