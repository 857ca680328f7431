package board

import (
	"cmp"
	"path"
	"slices"
	"strings"
)

// A NIC is what the rules look at.
type NIC struct {
	Name   string // of the link, as eth0
	Driver string // as of /sys/class/net/eth0/device/driver
	Path   string // what /sys/class/net/eth0/device points to; the last elements name the place, as 0000:03:00.0
}

// An Assignment is a NIC with what it is for.
type Assignment struct {
	NIC
	Role Role
	Link int // of capture ports: the two with the same number form a link; 0 is none
}

// Assign returns the NICs that the board's rules name: those of a rule together and in order of place, rule by rule. NICs are ordered by
// their place, so that the result does not depend on the order in which the kernel found them.
func (b *Board) Assign(nics []NIC) []Assignment {
	sorted := slices.SortedFunc(slices.Values(nics), func(x, y NIC) int { return cmp.Or(comparePlaces(x.Path, y.Path), cmp.Compare(x.Name, y.Name)) })
	var out []Assignment
	taken := map[string]bool{}
	links := 0
	for _, p := range b.Ports {
		links = max(links, p.Link)
	}
	for _, p := range b.Ports {
		var matching []Assignment
		for i, n := range p.matching(sorted) {
			if !taken[n.Name] && (p.Order == 0 || p.Order == i+1) {
				taken[n.Name] = true
				matching = append(matching, Assignment{NIC: n, Role: p.Role, Link: p.Link})
			}
		}
		if p.Pairs {
			for i := range len(matching) / 2 * 2 {
				matching[i].Link = links + i/2 + 1
			}
			links += len(matching) / 2
		}
		out = append(out, matching...)
	}
	isManagement := func(a Assignment) bool { return a.Role == Management }
	if b.ManagementFallback == "first" && len(sorted) > 0 && !slices.ContainsFunc(out, isManagement) {
		out = slices.DeleteFunc(out, func(a Assignment) bool { return a.NIC == sorted[0] })
		out = slices.Insert(out, 0, Assignment{NIC: sorted[0], Role: Management})
	}
	return out
}

// matching returns the NICs that the rule could mean, whoever has them.
func (p Port) matching(nics []NIC) []NIC {
	return slices.DeleteFunc(slices.Clone(nics), func(n NIC) bool {
		return p.Driver != "" && p.Driver != n.Driver || p.Path != "" && !at(p.Path, n.Path)
	})
}

// at reports whether some elements in sequence of a device's path match the pattern.
func at(pattern, device string) bool {
	want, have := strings.Split(pattern, "/"), strings.Split(device, "/")
	for ; len(have) >= len(want); have = have[1:] {
		if ok, _ := path.Match(pattern, strings.Join(have[:len(want)], "/")); ok {
			return true
		}
	}
	return false
}

// comparePlaces orders device paths as a person counts them, element by element. Elements of equal length are compared as they are, which is right
// for the hexadecimal numbers of PCI addresses; in others numbers count by their value, so that virtio10 follows virtio9.
func comparePlaces(a, b string) int {
	x, y := strings.Split(a, "/"), strings.Split(b, "/")
	for i := range min(len(x), len(y)) {
		if c := compareElements(x[i], y[i]); c != 0 {
			return c
		}
	}
	return cmp.Compare(len(x), len(y))
}

func compareElements(a, b string) int {
	if len(a) == len(b) {
		return cmp.Compare(a, b)
	}
	for a != "" && b != "" {
		m, n := digits(a), digits(b)
		if m == 0 || n == 0 {
			if a[0] != b[0] {
				return cmp.Compare(a[0], b[0])
			}
			a, b = a[1:], b[1:]
			continue
		}
		x, y := strings.TrimLeft(a[:m], "0"), strings.TrimLeft(b[:n], "0")
		if c := cmp.Or(cmp.Compare(len(x), len(y)), cmp.Compare(x, y), cmp.Compare(m, n)); c != 0 {
			return c
		}
		a, b = a[m:], b[n:]
	}
	return cmp.Compare(len(a), len(b))
}

// digits returns how many digits s begins with.
func digits(s string) int {
	return len(s) - len(strings.TrimLeft(s, "0123456789"))
}
