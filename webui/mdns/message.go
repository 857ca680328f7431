package mdns

import (
	"net/netip"
	"slices"

	"golang.org/x/net/dns/dnsmessage"
)

// Lives of records, in seconds (RFC 6762 10), and of those that are given to resolvers that know no mDNS (6.7).
const (
	hostLife   = 120
	otherLife  = 75 * 60
	legacyLife = 10
)

const (
	cacheFlush = 1 << 15 // in the class of a record: it is the only one of its kind (RFC 6762 10.2)
	unicastBit = 1 << 15 // in the class of a question: the answer may come to the asker alone (5.4)

)

// Names of a host.
func (h Host) name() (dnsmessage.Name, error) { return dnsmessage.NewName(h.Name + ".local.") }

// instance is the service's name.
func (h Host) instance() (dnsmessage.Name, error) {
	return dnsmessage.NewName(h.Name + "._https._tcp.local.")
}

const (
	serviceType = "_https._tcp.local."
	allTypes    = "_services._dns-sd._udp.local."
)

// A record with whether it is the only one of its kind.
type record struct {
	name   dnsmessage.Name
	kind   dnsmessage.Type
	body   dnsmessage.ResourceBody
	unique bool
	life   uint32
}

// records returns all that is known of a host, or none if its name is impossible.
func records(h Host) []record {
	host, err1 := h.name()
	instance, err2 := h.instance()
	service, err3 := dnsmessage.NewName(serviceType)
	types, err4 := dnsmessage.NewName(allTypes)
	if err1 != nil || err2 != nil || err3 != nil || err4 != nil {
		return nil
	}
	var list []record
	for _, a := range h.Addresses {
		if a.Is4() {
			list = append(list, record{host, dnsmessage.TypeA, &dnsmessage.AResource{A: a.As4()}, true, hostLife})
		} else {
			list = append(list, record{host, dnsmessage.TypeAAAA, &dnsmessage.AAAAResource{AAAA: a.As16()}, true, hostLife})
		}
	}
	if h.HTTPS != 0 {
		list = append(list,
			record{service, dnsmessage.TypePTR, &dnsmessage.PTRResource{PTR: instance}, false, otherLife},
			record{instance, dnsmessage.TypeSRV, &dnsmessage.SRVResource{Target: host, Port: h.HTTPS}, true, hostLife},
			record{instance, dnsmessage.TypeTXT, &dnsmessage.TXTResource{TXT: []string{"path=/"}}, true, otherLife},
			record{types, dnsmessage.TypePTR, &dnsmessage.PTRResource{PTR: service}, false, otherLife},
		)
	}
	return list
}

// announcement tells all records.
func announcement(h Host) []byte { return response(records(h), nil, dnsmessage.Header{}, false) }

// goodbye tells that all records are over (RFC 6762 10.1).
func goodbye(h Host) []byte {
	list := records(h)
	for i := range list {
		list[i].life = 0
	}
	return response(list, nil, dnsmessage.Header{}, false)
}

// probe asks whether somebody has the name (RFC 6762 8.1).
func probe(h Host) []byte {
	name, err := h.name()
	if err != nil {
		return nil
	}
	b, err := (&dnsmessage.Message{Questions: []dnsmessage.Question{{Name: name, Type: dnsmessage.TypeALL, Class: dnsmessage.ClassINET}}}).Pack()
	if err != nil {
		return nil
	}
	return b
}

// response makes a message of records. A resolver that knows no mDNS gets its question back, and plain classes.
func response(list []record, questions []dnsmessage.Question, h dnsmessage.Header, legacy bool) []byte {
	if len(list) == 0 {
		return nil
	}
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: h.ID, Response: true, Authoritative: true}, Questions: questions}
	for _, r := range list {
		class, life := dnsmessage.ClassINET, r.life
		if r.unique && !legacy {
			class |= cacheFlush
		}
		if legacy {
			life = min(life, legacyLife)
		}
		m.Answers = append(m.Answers, dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: r.name, Type: r.kind, Class: class, TTL: life}, Body: r.body})
	}
	b, err := m.Pack()
	if err != nil {
		return nil
	}
	return b
}

// answer returns the answer to a message, or nil if it asks for nothing that is known, and whether it goes to the asker alone. What the asker knows already
// is left out (RFC 6762 7.1).
func answer(h Host, b []byte, legacy bool) (reply []byte, unicast bool) {
	var p dnsmessage.Parser
	header, err := p.Start(b)
	if err != nil || header.Response || header.OpCode != 0 {
		return nil, false
	}
	questions, err := p.AllQuestions()
	if err != nil {
		return nil, false
	}
	unicast = true
	var picked []record
	var asked []dnsmessage.Question
	for _, q := range questions {
		found := matching(records(h), q)
		if len(found) == 0 {
			continue
		}
		asked = append(asked, q)
		unicast = unicast && q.Class&unicastBit != 0
		for _, r := range found {
			if !slices.ContainsFunc(picked, r.is) {
				picked = append(picked, r)
			}
		}
	}
	if legacy {
		return response(withTargets(records(h), picked), asked, header, true), true
	}
	// A message that goes on in others, or whose end makes no sense, is answered in full.
	if known, err := p.AllAnswers(); err == nil && !header.Truncated {
		picked = slices.DeleteFunc(picked, func(r record) bool { return knows(known, r) })
	}
	return response(withTargets(records(h), picked), nil, dnsmessage.Header{}, false), unicast
}

// matching returns the records that a question asks for.
func matching(list []record, q dnsmessage.Question) []record {
	if class := q.Class &^ unicastBit; class != dnsmessage.ClassINET && class != dnsmessage.ClassANY {
		return nil
	}
	var found []record
	for _, r := range list {
		if same(r.name, q.Name) && (q.Type == r.kind || q.Type == dnsmessage.TypeALL) {
			found = append(found, r)
		}
	}
	return found
}

func (r record) is(o record) bool {
	return same(r.name, o.name) && r.kind == o.kind && equalBody(r.body, o.body)
}

func equalBody(a, b dnsmessage.ResourceBody) bool { return a.GoString() == b.GoString() }

// withTargets adds what who asked for the service, or for a host's address, asks next (RFC 6763 12, RFC 6762 6.2).
func withTargets(all, picked []record) []record {
	if len(picked) == 0 {
		return nil
	}
	out := slices.Clone(picked)
	service := slices.ContainsFunc(picked, func(r record) bool { return r.kind == dnsmessage.TypePTR && r.name.String() == serviceType })
	for _, r := range all {
		host := r.kind == dnsmessage.TypeA || r.kind == dnsmessage.TypeAAAA
		wanted := service && (r.kind == dnsmessage.TypeSRV || r.kind == dnsmessage.TypeTXT || host) ||
			host && slices.ContainsFunc(picked, func(p record) bool { return p.kind == dnsmessage.TypeSRV || same(p.name, r.name) })
		if wanted && !slices.ContainsFunc(out, r.is) {
			out = append(out, r)
		}
	}
	return out
}

// knows reports whether the asker has a record whose life is not half over.
func knows(known []dnsmessage.Resource, r record) bool {
	return slices.ContainsFunc(known, func(k dnsmessage.Resource) bool {
		return same(k.Header.Name, r.name) && k.Header.Type == r.kind && equalBody(k.Body, r.body) && k.Header.TTL >= r.life/2
	})
}

// claims reports whether a message is another host's answer for the name: with an address that is not the host's.
func claims(h Host, b []byte) bool {
	var p dnsmessage.Parser
	header, err := p.Start(b)
	if err != nil || !header.Response {
		return false
	}
	name, err := h.name()
	if err != nil || p.SkipAllQuestions() != nil {
		return false
	}
	for {
		a, err := p.Answer()
		if err != nil {
			return false
		}
		var got netip.Addr
		switch body := a.Body.(type) {
		case *dnsmessage.AResource:
			got = netip.AddrFrom4(body.A)
		case *dnsmessage.AAAAResource:
			got = netip.AddrFrom16(body.AAAA)
		default:
			continue
		}
		// What was announced before a change of addresses may still be on its way.
		if same(a.Header.Name, name) && a.Header.TTL > 0 && !slices.Contains(h.Addresses, got) {
			return true
		}
	}
}
