package filter

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"galvo/services/internal/country"
	"galvo/services/internal/packet"
)

var (
	interfaceIDs = &numbers{max: 65535, what: "an interface id from 1", ranges: true, check: checkInterface}
	linkNumbers  = &numbers{max: 65535, what: "a link number from 1", check: checkLink}
)

var placeOperands = []operand{
	{
		name: "interface", aliases: []string{"iface"}, subject: "Place", values: "port ids from 1, ranges", frame: true, configured: true,
		example: "interface == 1,3-5", meaning: "The port that received the frame. In a savefile the index of the interface description + 1, counted through the files.",
		is: "receiving interface is", oracle: "frame.interface_id in {0,2..4}", prune: pruning{byKey, "interface"},
		read: readInterface,
		header: func(s *set, env *Env) func(*packet.Packet) bool {
			return func(p *packet.Packet) bool { return s.has(portID(p)) }
		},
	},
	{
		name: "link", subject: "Place", values: "link numbers from 1", frame: true, configured: true,
		example: "link == 1", meaning: "The frame was received by either port of the link.",
		is: "link is", oracle: "frame.interface_id in {0,1}", prune: pruning{byKey, "link"},
		read: linkNumbers.read,
		header: func(s *set, env *Env) func(*packet.Packet) bool {
			links := env.links()
			return func(p *packet.Packet) bool {
				id := portID(p)
				return id < uint32(len(links)) && links[id] != 0 && s.has(uint32(links[id]))
			}
		},
	},
	{
		name: "group", subject: "Place", values: "the name of a configured group; `default`", whole: true, frame: true, configured: true,
		example: `group == "branch office"`, meaning: "The virtual link group that the frame belongs to: the first of the configuration whose every key has one of its values. `default` is a frame of no group.",
		is: "group is", oracle: "none", read: readGroup,
		header: func(s *set, env *Env) func(*packet.Packet) bool {
			groupOf := env.groupOf()
			return func(p *packet.Packet) bool { return s.has(uint32(groupOf(p))) }
		},
	},
	{
		name: "countryCode", subject: "Place", values: "ISO 3166 codes of two letters; `private`, `unknown`", cost: scan, configured: true,
		example: "countryCode == US", meaning: "The country of the source or the destination address. `private` is a special-purpose address of RFC 6890 (private, loopback, link-local, multicast, ...), `unknown` one of which the country table knows nothing.",
		is: "country of source or destination is", isNot: "neither country of source nor of destination is",
		oracle: `ip.geoip.country_iso == "US" || ipv6.geoip.country_iso == "US"`,
		read:   readCountry, header: countryTest,
	},
}

// readInterface reads ids. The name of a port is not one, but it tells which is meant.
func readInterface(c *checker, it item) *Error {
	text := strings.TrimSpace(it.text)
	for _, p := range c.env.Ports {
		if p.Name != "" && strings.EqualFold(p.Name, text) {
			return c.wrong(it, fmt.Sprintf("%q is the name of interface %d; write its id", short(text), p.ID), strconv.Itoa(p.ID))
		}
	}
	return interfaceIDs.read(c, it)
}

func checkInterface(c *checker, it item, r interval) *Error {
	if r.hi == 0 {
		return c.wrong(it, "interface ids count from 1", "an interface id")
	}
	if !c.env.Live {
		return nil
	}
	var known []string
	for _, p := range c.env.Ports {
		if uint32(p.ID) >= r.lo && uint32(p.ID) <= r.hi {
			return nil
		}
		known = append(known, strings.TrimSpace(fmt.Sprintf("%d %s", p.ID, p.Name)))
	}
	return c.wrong(it, "there is no interface "+strings.TrimSpace(it.text), known...)
}

func checkLink(c *checker, it item, r interval) *Error {
	if len(c.env.link(int(r.lo))) > 0 || c.env.Syntax {
		return nil
	}
	var known []string
	for _, p := range c.env.Ports {
		if name := strconv.Itoa(p.Link); p.Link != 0 && !slices.Contains(known, name) {
			known = append(known, name)
		}
	}
	message := "there is no link " + strings.TrimSpace(it.text)
	if len(known) == 0 {
		message += ": the configuration gives no port a link"
	}
	return c.wrong(it, message, known...)
}

// links returns the link number by port id.
func (e *Env) links() []int {
	highest := 0
	for _, p := range e.Ports {
		highest = max(highest, p.ID)
	}
	links := make([]int, highest+1)
	for _, p := range e.Ports {
		links[p.ID] = p.Link
	}
	return links
}

// noGroup is a number that no packet's group has.
const noGroup = 1 << 31

func readGroup(c *checker, it item) *Error {
	name := strings.TrimSpace(it.text)
	known := make([]string, 0, len(c.env.Groups)+1)
	found := -1
	for i, g := range c.env.Groups {
		known = append(known, g.Name)
		if g.Name == name || found < 0 && strings.EqualFold(g.Name, name) {
			found = i
		}
	}
	switch {
	case found >= 0:
		name = c.env.Groups[found].Name
	case strings.EqualFold(name, "default"):
		found, name = len(c.env.Groups), "default"
	case c.env.Syntax:
		found = noGroup
	default:
		known = append(known, "default")
		near := nearest(name, known, 3)
		expected := near
		if len(near) == 0 {
			expected = known[max(0, len(known)-10):]
		}
		return c.wrong(it, fmt.Sprintf("there is no group %q%s", short(name), didYouMean(near)), expected...)
	}
	c.set.ranges = append(c.set.ranges, interval{uint32(found), uint32(found)})
	c.add(quoteIfNeeded(name))
	return nil
}

// groupOf returns a function that gives the index of a packet's group; the number of groups where it has none.
func (e *Env) groupOf() func(p *packet.Packet) int {
	type rule struct{ ports, vlans, labels *set }
	numbersOf := func(list []int) *set {
		if len(list) == 0 {
			return nil
		}
		s := &set{}
		for _, n := range list {
			s.ranges = append(s.ranges, interval{uint32(n), uint32(n)})
		}
		s.settle()
		return s
	}
	rules := make([]rule, len(e.Groups))
	for i, g := range e.Groups {
		rules[i] = rule{e.groupPorts(g), numbersOf(g.VLANs), numbersOf(g.MPLS)}
	}
	return func(p *packet.Packet) int {
		id := portID(p)
		for i, r := range rules {
			if (r.ports == nil || r.ports.has(id)) && (r.vlans == nil || anyTag(r.vlans, p)) && (r.labels == nil || label(r.labels, p, 0, int(p.Labels))) {
				return i
			}
		}
		return len(rules)
	}
}

// groupPorts is the set of ports that a group's interfaces and links come to: both keys must hold. Nil is any port.
func (e *Env) groupPorts(g Group) *set {
	if len(g.Interfaces) == 0 && len(g.Links) == 0 {
		return nil
	}
	var linked []int
	for _, l := range g.Links {
		linked = append(linked, e.link(l)...)
	}
	ids := linked
	if len(g.Links) == 0 {
		ids = g.Interfaces
	}
	s := &set{}
	for _, id := range ids {
		if len(g.Interfaces) == 0 || slices.Contains(g.Interfaces, id) {
			s.ranges = append(s.ranges, interval{uint32(id), uint32(id)})
		}
	}
	s.settle()
	return s
}

func readCountry(c *checker, it item) *Error {
	text := strings.TrimSpace(it.text)
	code, err := country.Parse(text)
	switch {
	case strings.EqualFold(text, "UK"):
		return c.wrong(it, `"UK" is not a country code (did you mean GB?)`, "GB")
	case err != nil:
		return c.wrong(it, fmt.Sprintf("%q is not a country code", short(text)), "two letters of ISO 3166, such as US", "private", "unknown")
	case c.env.Syntax:
	case c.env.Country == nil:
		return c.wrong(it, "the country table is not loaded; install the package tor-geoipdb", "an operand other than countryCode")
	case !strings.Contains(isoCodes, country.Name(code)) && code != country.Private && code != country.Unknown && !slices.Contains(c.env.Country.Codes(), country.Name(code)):
		return c.wrong(it, fmt.Sprintf("%q is not the code of a country", short(text)), "two letters of ISO 3166, such as US", "private", "unknown")
	}
	c.set.codes = append(c.set.codes, code)
	c.add(country.Name(code))
	return nil
}

// isoCodes are those of ISO 3166-1. The table knows a few more, and to list them takes it a while.
const isoCodes = "AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ CA CC CD CF CG CH CI CK CL CM CN CO CR " +
	"CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM " +
	"IN IO IQ IR IS IT JE JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV MW MX MY " +
	"MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY " +
	"SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM ZW"

// countryTest compares codes, which the table has for every address.
func countryTest(s *set, env *Env) func(p *packet.Packet) bool {
	table := env.Country
	if table == nil {
		return func(*packet.Packet) bool { return false }
	}
	in := func(a ipAddr) bool {
		code, _ := table.Lookup4(uint32(a.lo))
		if a.v6 {
			code, _ = table.Lookup6(a.hi, a.lo)
		}
		return slices.Contains(s.codes, code)
	}
	return func(p *packet.Packet) bool {
		src, dst, hasSrc, hasDst := addresses(p)
		return hasSrc && in(src) || hasDst && in(dst)
	}
}
