package config

import (
	"fmt"
	"net"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"unicode"
)

// Limits that are no field's own.
const (
	maxPorts   = 64
	maxGroups  = 100
	maxStorage = 32
	maxLinks   = 32
	maxList    = 256 // values in one key of a group
	maxName    = 64  // characters of a group's or storage's name
)

var (
	hostName    = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$`) })
	pciAddress  = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$`) })
	storageName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9 ._-]*$`) })
)

// Validate returns what is wrong with c, as an *Error without a line, or nil.
func (c *Config) Validate() error {
	for _, check := range []func(*Config) *Error{
		checkLimits, checkStrings, checkDevice, checkManagement, checkClock, checkPorts, checkLinks, checkModes, checkGroups, checkStorage, checkEngine, checkFilter,
	} {
		if e := check(c); e != nil {
			return e
		}
	}
	return nil
}

func wrong(field, format string, args ...any) *Error {
	return &Error{Key: field, Text: fmt.Sprintf(format, args...)}
}

// checkLimits holds every number against its tag.
func checkLimits(c *Config) *Error {
	for _, f := range c.fields() {
		least, greatest, ok := f.limit()
		if !ok {
			continue
		}
		values := []reflect.Value{f.value}
		if f.value.Type() == reflect.TypeFor[[]string]() {
			values[0] = reflect.ValueOf(f.value.Len())
		} else if f.value.Kind() == reflect.Slice {
			if f.value.Len() > maxList {
				return wrong(f.path, "%d values; at most %d are allowed", f.value.Len(), maxList)
			}
			values = values[:0]
			for i := range f.value.Len() {
				values = append(values, f.value.Index(i))
			}
		}
		for _, v := range values {
			out := v.CanInt() && (v.Int() < least || v.Int() > greatest) ||
				v.CanUint() && (v.Uint() < uint64(least) || v.Uint() > uint64(greatest))
			if out && f.value.Type() == reflect.TypeFor[[]string]() {
				return wrong(f.path, "%v values; at most %d are allowed", v, greatest)
			}
			if out && v.CanUint() { // TOML's numbers are int64, of which the decoder takes the bits
				return wrong(f.path, "%d is not between %d and %d", int64(v.Uint()), least, greatest)
			}
			if out {
				return wrong(f.path, "%v is not between %d and %d", v, least, greatest)
			}
		}
	}
	return nil
}

// checkStrings keeps control characters out of everything that ends up in logs, files and pages.
func checkStrings(c *Config) *Error {
	for _, f := range c.fields() {
		texts, ok := f.value.Interface().([]string)
		if !ok && f.value.Kind() == reflect.String {
			texts = []string{f.value.String()}
		}
		for _, text := range texts {
			if strings.ContainsFunc(text, unicode.IsControl) {
				return wrong(f.path, "%q contains control characters", text)
			}
		}
	}
	return nil
}

func checkDevice(c *Config) *Error {
	if c.Device.Name != "" && !hostName().MatchString(c.Device.Name) {
		return wrong("device.name", "%q is not a host name: letters, digits and hyphens, at most 63", c.Device.Name)
	}
	return nil
}

func checkPorts(c *Config) *Error {
	if len(c.Ports) > maxPorts {
		return wrong("port", "%d ports; at most %d are allowed", len(c.Ports), maxPorts)
	}
	seen := map[string]int{}
	for i, p := range c.Ports {
		path := fmt.Sprintf("port.%d", i+1)
		if e := checkPort(path, p); e != nil {
			return e
		}
		for _, id := range []string{"name " + p.Name, "mac " + strings.ToLower(p.MAC), "pci " + p.PCI} {
			kind, value, _ := strings.Cut(id, " ")
			if value != "" && seen[id] > 0 {
				return wrong(path+"."+kind, "port %d is the same: each port may be named once", seen[id])
			}
			seen[id] = i + 1
		}
	}
	return nil
}

func checkPort(path string, p Port) *Error {
	given := 0
	for _, s := range []string{p.Name, p.MAC, p.PCI} {
		if s != "" {
			given++
		}
	}
	if given != 1 {
		return wrong(path, "a port has exactly one of name, mac and pci, this one has %d", given)
	}
	// 15 bytes, no blank and no slash are the kernel's rules for a link's name (dev_valid_name).
	if len(p.Name) > 15 || strings.ContainsAny(p.Name, "/: \t") || p.Name == "." || p.Name == ".." {
		return wrong(path+".name", "%q cannot be the name of a link", p.Name)
	}
	if a, err := net.ParseMAC(p.MAC); p.MAC != "" && (err != nil || len(a) != 6) {
		return wrong(path+".mac", "%q is not a MAC address; write 02:00:00:00:00:01", p.MAC)
	}
	if p.PCI != "" && !pciAddress().MatchString(p.PCI) {
		return wrong(path+".pci", "%q is not a PCI address; write 0000:01:00.0", p.PCI)
	}
	if !slices.Contains([]string{"", "in", "both"}, p.Direction) {
		return wrong(path+".direction", "%q is not a direction: in or both", p.Direction)
	}
	if p.MTU != 0 && p.MTU < 68 { // the least that IPv4 allows (RFC 791), and the kernel
		return wrong(path+".mtu", "%d is not between 68 and 65535", p.MTU)
	}
	return nil
}

func checkLinks(c *Config) *Error {
	members := map[int][]int{}
	for i, p := range c.Ports {
		if p.Link != 0 {
			members[p.Link] = append(members[p.Link], i+1)
		}
	}
	for i, p := range c.Ports {
		if m := members[p.Link]; p.Link != 0 && len(m) != 2 {
			return wrong(fmt.Sprintf("port.%d.link", i+1), "link %d has %d ports; a link has exactly two", p.Link, len(m))
		}
	}
	return nil
}

func checkGroups(c *Config) *Error {
	if len(c.Groups) > maxGroups {
		return wrong("group", "%d groups; at most %d are allowed", len(c.Groups), maxGroups)
	}
	seen := map[string]int{}
	for i, g := range c.Groups {
		path := fmt.Sprintf("group.%d", i+1)
		name := strings.ToLower(g.Name)
		switch {
		case strings.TrimSpace(g.Name) != g.Name || g.Name == "" || len([]rune(g.Name)) > maxName:
			return wrong(path+".name", "%q is not a name: 1 to %d characters, no blanks at the ends", g.Name, maxName)
		case name == "default":
			return wrong(path+".name", "default is the traffic of no group; choose another name")
		case seen[name] > 0:
			return wrong(path+".name", "group %d has this name already", seen[name])
		case len(g.Interfaces)+len(g.Links)+len(g.VLANs)+len(g.MPLS) == 0:
			return wrong(path, "the group has no interfaces, links, vlans or mpls: it would hide every group behind it")
		}
		seen[name] = i + 1
	}
	return nil
}

func checkStorage(c *Config) *Error {
	if len(c.Storage) > maxStorage {
		return wrong("storage", "%d storage devices; at most %d are allowed", len(c.Storage), maxStorage)
	}
	seen := map[string]int{}
	for i, s := range c.Storage {
		path := fmt.Sprintf("storage.%d", i+1)
		where := s.Directory + s.Disk
		switch {
		case len(s.Name) > maxName || !storageName().MatchString(s.Name):
			return wrong(path+".name", "%q is not a name: 1 to %d letters, digits, blanks, dots, hyphens and underscores", s.Name, maxName)
		case (s.Directory == "") == (s.Disk == ""):
			return wrong(path, "a storage has either a directory or a disk")
		case s.Directory != "" && (!filepath.IsLocal(s.Directory) || filepath.Clean(s.Directory) == "."):
			return wrong(path+".directory", "%q does not lie below the state directory", s.Directory)
		case slices.Contains(ownDirectories, strings.Split(filepath.Clean(s.Directory), "/")[0]):
			return wrong(path+".directory", "%q is what Galvo keeps its own state in; choose another directory", s.Directory)
		case s.Disk != "" && (!strings.HasPrefix(s.Disk, "/dev/") || filepath.Clean(s.Disk) != s.Disk):
			return wrong(path+".disk", "%q is not a disk; write /dev/disk/by-id/...", s.Disk)
		case seen["name "+s.Name] > 0:
			return wrong(path+".name", "storage %d has this name already", seen["name "+s.Name])
		case seen["at "+where] > 0:
			return wrong(path, "storage %d is at the same place", seen["at "+where])
		}
		seen["name "+s.Name], seen["at "+where] = i+1, i+1
		for j, o := range c.Storage[:i] {
			if s.Directory != "" && o.Directory != "" && (isWithin(s.Directory, o.Directory) || isWithin(o.Directory, s.Directory)) {
				return wrong(path+".directory", "%q and that of storage %d lie in one another", s.Directory, j+1)
			}
		}
	}
	return nil
}

// ownDirectories are the entries of the state directory that are no storage.
var ownDirectories = []string{"host", "engine", "web", "storage", "lock", "config.toml"}

func isWithin(dir, parent string) bool {
	return strings.HasPrefix(filepath.Clean(dir)+"/", filepath.Clean(parent)+"/")
}

// checkFilter holds the words of the filter's settings against those that filter.TunnelViews and filter.FragmentUses know.
func checkFilter(c *Config) *Error {
	for _, f := range []struct {
		key, value string
		values     []string
	}{
		{"filter.tunnelView", c.Filter.TunnelView, []string{"outer", "inner", "any"}},
		{"filter.fragments", c.Filter.Fragments, []string{"first", "none"}},
	} {
		if !slices.Contains(f.values, f.value) {
			return wrong(f.key, "%q is not one of %s", f.value, strings.Join(f.values, ", "))
		}
	}
	return nil
}
