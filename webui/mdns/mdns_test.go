package mdns

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/net/ipv4"

	"galvo/ci/rig"
)

func lab(link int) Host {
	return Host{Name: "galvo-0001", Link: link, Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fe80::1")}, HTTPS: 443}
}

func query(t testing.TB, name string, kind dnsmessage.Type, class dnsmessage.Class, known ...dnsmessage.Resource) []byte {
	t.Helper()
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: 7}, Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: kind, Class: class}}, Answers: known}
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// shown is a message's records in short.
func shown(t testing.TB, b []byte) string {
	t.Helper()
	if b == nil {
		return ""
	}
	var m dnsmessage.Message
	if err := m.Unpack(b); err != nil {
		t.Fatal(err)
	}
	if !m.Response || !m.Authoritative {
		t.Errorf("header %+v", m.Header)
	}
	var list []string
	for _, a := range m.Answers {
		flush := ""
		if a.Header.Class&cacheFlush != 0 {
			flush = "!"
		}
		list = append(list, strings.TrimPrefix(a.Header.Type.String(), "Type")+flush)
	}
	return strings.Join(list, " ")
}

func TestAnswer(t *testing.T) {
	const in, qu = dnsmessage.ClassINET, dnsmessage.ClassINET | unicastBit
	service := dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(serviceType), Type: dnsmessage.TypePTR, Class: in, TTL: otherLife},
		Body: &dnsmessage.PTRResource{PTR: dnsmessage.MustNewName("galvo-0001._https._tcp.local.")}}
	old := service
	old.Header.TTL = otherLife/2 - 1
	tests := []struct {
		what    string
		query   []byte
		legacy  bool
		want    string
		unicast bool
	}{
		{"address", query(t, "galvo-0001.local.", dnsmessage.TypeA, in), false, "A! AAAA!", false},
		{"address in capitals", query(t, "GALVO-0001.Local.", dnsmessage.TypeAAAA, in), false, "AAAA! A!", false},
		{"all of the name", query(t, "galvo-0001.local.", dnsmessage.TypeALL, in), false, "A! AAAA!", false},
		{"service", query(t, serviceType, dnsmessage.TypePTR, in), false, "PTR A! AAAA! SRV! TXT!", false},
		{"all types of services", query(t, allTypes, dnsmessage.TypePTR, in), false, "PTR", false},
		{"instance", query(t, "galvo-0001._https._tcp.local.", dnsmessage.TypeSRV, in), false, "SRV! A! AAAA!", false},
		{"text", query(t, "galvo-0001._https._tcp.local.", dnsmessage.TypeTXT, in), false, "TXT!", false},
		{"to the asker alone", query(t, "galvo-0001.local.", dnsmessage.TypeA, qu), false, "A! AAAA!", true},
		{"known", query(t, serviceType, dnsmessage.TypePTR, in, service), false, "", false},
		{"known, but soon over", query(t, serviceType, dnsmessage.TypePTR, in, old), false, "PTR A! AAAA! SRV! TXT!", false},
		{"an ordinary resolver", query(t, "galvo-0001.local.", dnsmessage.TypeA, in), true, "A AAAA", true},
		{"another name", query(t, "galvo-0002.local.", dnsmessage.TypeA, in), false, "", false},
		{"a record that it has not", query(t, "galvo-0001.local.", dnsmessage.TypeMX, in), false, "", false},
		{"another class", query(t, "galvo-0001.local.", dnsmessage.TypeA, dnsmessage.ClassCHAOS), false, "", false},
		{"an answer", announcement(lab(1)), false, "", false},
		{"nonsense", []byte("nonsense"), false, "", false},
	}
	for _, test := range tests {
		reply, unicast := answer(lab(1), test.query, test.legacy)
		if got := shown(t, reply); got != test.want || got != "" && unicast != test.unicast {
			t.Errorf("%s: %q, unicast %t, want %q, %t", test.what, got, unicast, test.want, test.unicast)
		}
	}
	reply, _ := answer(lab(1), query(t, "galvo-0001.local.", dnsmessage.TypeA, in), true)
	var m dnsmessage.Message
	if err := m.Unpack(reply); err != nil || m.ID != 7 || len(m.Questions) != 1 || m.Answers[0].Header.TTL != legacyLife {
		t.Errorf("an ordinary resolver gets %+v, %v", m, err)
	}
}

func TestClaims(t *testing.T) {
	other := lab(1)
	other.Addresses = []netip.Addr{netip.MustParseAddr("10.0.0.2")}
	stranger := other
	stranger.Name = "printer"
	for what, test := range map[string]struct {
		message []byte
		want    bool
	}{
		"its own": {announcement(lab(1)), false}, "another host's": {announcement(other), true}, "another name's": {announcement(stranger), false},
		"a farewell": {goodbye(other), false}, "a question": {probe(lab(1)), false}, "nonsense": {[]byte{1, 2}, false},
	} {
		if got := claims(lab(1), test.message); got != test.want {
			t.Errorf("%s: %t", what, got)
		}
	}
}

// open makes a socket on port 5353 of a namespace.
func open(t *testing.T, e *rig.End, address string) net.PacketConn {
	t.Helper()
	var c net.PacketConn
	if err := e.Netns.Run(func() (err error) {
		c, err = net.ListenPacket("udp4", address)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return c
}

// A host is found from the other end of a cable, tells when it changes and when it leaves, and hears of another one with its name.
func TestResponder(t *testing.T) {
	device, laptop := rig.VethFor(t)
	for _, err := range []error{device.Address("10.0.0.1/24"), laptop.Address("10.0.0.2/24"), device.WaitUp(t.Context())} {
		if err != nil {
			t.Fatal(err)
		}
	}
	r := New(open(t, device, ":5353"), nil)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { r.Run(ctx); close(ended) }()
	listener := open(t, laptop, ":5353")
	defer listener.Close()
	group := ipv4.NewPacketConn(listener)
	if err := group.JoinGroup(&net.Interface{Index: laptop.Index}, group4); err != nil {
		t.Fatal(err)
	}
	next := func(conn net.PacketConn, what string, ok func(dnsmessage.Message) bool) {
		t.Helper()
		conn.SetReadDeadline(time.Now().Add(time.Minute))
		for b := make([]byte, maxMessage); ; {
			n, _, err := conn.ReadFrom(b)
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			var m dnsmessage.Message
			if m.Unpack(b[:n]) == nil && ok(m) {
				return
			}
		}
	}
	address := func(ttl uint32) func(dnsmessage.Message) bool {
		return func(m dnsmessage.Message) bool {
			return slices.ContainsFunc(m.Answers, func(a dnsmessage.Resource) bool {
				body, ok := a.Body.(*dnsmessage.AResource)
				return ok && body.A == [4]byte{10, 0, 0, 1} && a.Header.TTL == ttl
			})
		}
	}
	r.Set(lab(device.Index))
	next(listener, "announcement", address(hostLife))

	// An ordinary resolver asks from a port of its own.
	resolver := open(t, laptop, "10.0.0.2:0")
	defer resolver.Close()
	if _, err := resolver.WriteTo(query(t, "galvo-0001.local.", dnsmessage.TypeA, dnsmessage.ClassINET), &net.UDPAddr{IP: net.IPv4(10, 0, 0, 1), Port: Port}); err != nil {
		t.Fatal(err)
	}
	next(resolver, "answer", address(legacyLife))

	if r.Conflict() {
		t.Error("a conflict with itself")
	}
	impostor := lab(1)
	impostor.Addresses = []netip.Addr{netip.MustParseAddr("10.0.0.2")}
	if _, err := listener.WriteTo(announcement(impostor), &net.UDPAddr{IP: net.IPv4(10, 0, 0, 1), Port: Port}); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); !r.Conflict(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("another host's answer is not noticed")
		}
	}
	cancel()
	next(listener, "farewell", address(0))
	<-ended
}

// Whatever comes, the answer is a message that can be read.
func FuzzAnswer(f *testing.F) {
	f.Add(query(f, "galvo-0001.local.", dnsmessage.TypeA, dnsmessage.ClassINET))
	f.Add(query(f, serviceType, dnsmessage.TypePTR, dnsmessage.ClassINET))
	f.Add(announcement(lab(1)))
	f.Fuzz(func(t *testing.T, b []byte) {
		claims(lab(1), b)
		for _, legacy := range []bool{false, true} {
			if reply, _ := answer(lab(1), b, legacy); reply != nil {
				shown(t, reply)
			}
		}
	})
}
