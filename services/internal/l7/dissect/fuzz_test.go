package dissect

import (
	"cmp"
	"os"
	"reflect"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"galvo/services/internal/l7/l7test"
	"galvo/services/internal/l7/protocol"
	"galvo/services/internal/l7/store"
)

// fuzzDissector feeds a dissector with any payload, alone and cut off, at ports that make it most willing.
func fuzzDissector(f *testing.F, stream bool, inspect func(*Payload) Answer, ports ...uint16) {
	for _, c := range l7test.Conversations() {
		for _, p := range c.Packets {
			f.Add([]byte(p.Payload), uint8(1), false)
		}
	}
	for _, s := range protocol.Signatures().Rows {
		f.Add(s.Samples[0], uint8(1), true)
	}
	d := newDesk()
	f.Fuzz(func(t *testing.T, data []byte, nth uint8, cut bool) {
		if len(data) == 0 {
			return
		}
		for _, port := range append(ports, 9999) {
			v := d.show(data, cut, stream, nth, port)
			for range 2 { // the second time it meets what it left in its memory
				a := inspect(v)
				if len(a.Host) > protocol.MaxHost {
					t.Fatalf("a host name of %d bytes", len(a.Host))
				}
				if int(a.Proto) != 0 && protocol.Name(a.Proto) == "" || int(a.App) != 0 && protocol.Name(a.App) == "" {
					t.Fatalf("no name for %v", a)
				}
			}
		}
	})
}

func FuzzDNS(f *testing.F)           { fuzzDissector(f, false, inspectDNS, 53, 5353, 5355, 137) }
func FuzzDNSOverTCP(f *testing.F)    { fuzzDissector(f, true, inspectDNSOverTCP, 53) }
func FuzzDHCP(f *testing.F)          { fuzzDissector(f, false, inspectDHCP, 67) }
func FuzzDHCPv6(f *testing.F)        { fuzzDissector(f, false, inspectDHCPv6, 547) }
func FuzzHTTP(f *testing.F)          { fuzzDissector(f, true, inspectHTTP, 80) }
func FuzzTLS(f *testing.F)           { fuzzDissector(f, true, inspectTLS, 443) }
func FuzzDTLS(f *testing.F)          { fuzzDissector(f, false, inspectDTLS) }
func FuzzQUIC(f *testing.F)          { fuzzDissector(f, false, inspectQUIC, 443) }
func FuzzSSH(f *testing.F)           { fuzzDissector(f, true, inspectSSH, 22) }
func FuzzSIP(f *testing.F)           { fuzzDissector(f, true, inspectSIP, 5060) }
func FuzzSSDP(f *testing.F)          { fuzzDissector(f, false, inspectSSDP, 1900) }
func FuzzRTP(f *testing.F)           { fuzzDissector(f, false, inspectRTP) }
func FuzzRTPStream(f *testing.F)     { fuzzDissector(f, true, inspectRTPStream) }
func FuzzWebSocket(f *testing.F)     { fuzzDissector(f, true, inspectWebSocket) }
func FuzzThreema(f *testing.F)       { fuzzDissector(f, true, inspectThreema, 5222) }
func FuzzSTUN(f *testing.F)          { fuzzDissector(f, false, inspectSTUN, 3478) }
func FuzzNTP(f *testing.F)           { fuzzDissector(f, false, inspectNTP, 123) }
func FuzzSNMP(f *testing.F)          { fuzzDissector(f, false, inspectSNMP, 161) }
func FuzzPTP(f *testing.F)           { fuzzDissector(f, false, inspectPTP, 319, 320) }
func FuzzDCERPC(f *testing.F)        { fuzzDissector(f, false, inspectDCERPC, 34964) }
func FuzzDCERPCStream(f *testing.F)  { fuzzDissector(f, true, inspectDCERPCStream, 135) }
func FuzzTeredo(f *testing.F)        { fuzzDissector(f, false, inspectTeredo, 3544) }
func FuzzRPC(f *testing.F)           { fuzzDissector(f, false, inspectRPC) }
func FuzzRPCOverTCP(f *testing.F)    { fuzzDissector(f, true, inspectRPC) }
func FuzzLDAP(f *testing.F)          { fuzzDissector(f, true, inspectLDAP) }
func FuzzOpenVPN(f *testing.F)       { fuzzDissector(f, false, inspectOpenVPN) }
func FuzzOpenVPNTCP(f *testing.F)    { fuzzDissector(f, true, inspectOpenVPN) }
func FuzzRakNet(f *testing.F)        { fuzzDissector(f, false, inspectRakNet) }
func FuzzESP(f *testing.F)           { fuzzDissector(f, false, inspectESP, 4500) }
func FuzzWireGuard(f *testing.F)     { fuzzDissector(f, false, inspectWireGuard) }
func FuzzSkype(f *testing.F)         { fuzzDissector(f, false, inspectSkype) }
func FuzzUTP(f *testing.F)           { fuzzDissector(f, false, inspectUTP) }
func FuzzEthereum(f *testing.F)      { fuzzDissector(f, false, inspectEthereum, 30303) }
func FuzzDNP3(f *testing.F)          { fuzzDissector(f, true, inspectDNP3) }
func FuzzCOTP(f *testing.F)          { fuzzDissector(f, true, inspectCOTP, 102) }
func FuzzGTP(f *testing.F)           { fuzzDissector(f, false, inspectGTP, 2123, 2152, 3386) }
func FuzzPFCP(f *testing.F)          { fuzzDissector(f, false, inspectPFCP, 8805) }
func FuzzEtherCAT(f *testing.F)      { fuzzDissector(f, false, inspectEtherCAT, 0x88a4) }
func FuzzPROFINET(f *testing.F)      { fuzzDissector(f, false, inspectProfinetUDP, 0x8892) }
func FuzzCOAP(f *testing.F)          { fuzzDissector(f, false, inspectCOAP, 5683) }
func FuzzSignatures(f *testing.F)    { fuzzDissector(f, false, inspectSignatures, 514, 1812) }
func FuzzSignaturesTCP(f *testing.F) { fuzzDissector(f, true, inspectSignatures, 514, 2404) }

// FuzzDissectors feeds any row of dissectors, and then any watcher, with any payload, alone and after itself.
func FuzzDissectors(f *testing.F) {
	for i, c := range l7test.Conversations() {
		for _, p := range c.Packets {
			f.Add([]byte(p.Payload), uint8(i), uint8(1), c.B, false)
		}
	}
	for i, s := range protocol.Signatures().Rows {
		f.Add(s.Samples[0], uint8(i), uint8(1), uint16(9), true)
	}
	desk := newDesk()
	f.Fuzz(func(t *testing.T, data []byte, row, nth uint8, port uint16, cut bool) {
		if len(data) == 0 {
			return
		}
		d := &dissectors[int(row)%len(dissectors)]
		for _, l4 := range [2]transport{udp, tcp} {
			if d.L4&l4 == 0 {
				continue
			}
			v := desk.show(data, cut, l4 == tcp, nth, port)
			v.Row = uint8(int(row) % len(dissectors))
			for range 2 {
				a := d.Inspect(v)
				if len(a.Host) > protocol.MaxHost || a.Proto != 0 && protocol.Name(a.Proto) == "" || a.App != 0 && protocol.Name(a.App) == "" {
					t.Fatalf("%v", a)
				}
				if a.Outcome >= Carrier {
					v.Carrier = cmp.Or(a.Proto, d.Proto, protocol.TLS)
				}
			}
			v.App = protocol.DNS
			watchers[int(nth)%len(watchers)].watch(v)
		}
	})
}

// FuzzCertificate reads any certificate message, at every length.
func FuzzCertificate(f *testing.F) {
	f.Add(l7test.Certificate("*.facebook.com", "Facebook, Inc.", "www.facebook.com"))
	d := newDesk()
	f.Fuzz(func(t *testing.T, data []byte) {
		v := d.show(data, false, true, 1, 2)
		for n := range min(len(data), 600) {
			certificateApp(v, data[:n])
		}
	})
}

// FuzzQUICFrames reads any frames of an opened Initial packet.
func FuzzQUICFrames(f *testing.F) {
	f.Add([]byte(l7test.CryptoFrame(0, l7test.ClientHello("www.example.com", 10))))
	f.Add([]byte("\x02\x01\x01\x00\x00\x01\x06\x00\x01a"))
	s := store.New(1 << 16)
	f.Fuzz(func(t *testing.T, data []byte) {
		i, _ := s.Take(1)
		sl := s.At(i, 1)
		cryptoFrames(sl, data, 6)
		cryptoFrames(sl, data, 8)
		readHello(sl.Head())
		chloName(make([]byte, 0, protocol.MaxHost), data)
		s.Release(i, 1)
	})
}

// TestEveryDissectorFuzzed wants a fuzz target of each row's own.
func TestEveryDissectorFuzzed(t *testing.T) {
	targets, err := os.ReadFile("fuzz_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range dissectors {
		name := runtime.FuncForPC(reflect.ValueOf(d.Inspect).Pointer()).Name()
		name = name[strings.LastIndexByte(name, '.')+1:]
		if !regexp.MustCompile(`fuzzDissector\(f, \w+, ` + name + `\b`).Match(targets) {
			t.Errorf("no fuzz target has %s", name)
		}
	}
}
