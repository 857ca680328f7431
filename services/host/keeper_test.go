package host

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"galvo/services/config"
	"galvo/services/internal/handover"
)

func addrs(list ...string) []netip.Addr {
	var out []netip.Addr
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

func TestDirection(t *testing.T) {
	tests := []struct {
		name string
		want config.Port
		link link
		is   string
	}{
		{"capture port", config.Port{}, link{}, "in"},
		{"capture port with the address that the kernel makes", config.Port{}, link{addresses: addrs("fe80::1")}, "in"},
		{"port with an address", config.Port{}, link{addresses: addrs("fe80::1", "192.0.2.1")}, "both"},
		{"port with an IPv4 link-local address", config.Port{}, link{addresses: addrs("169.254.1.1")}, "both"},
		{"loopback shows each frame as received", config.Port{}, link{addresses: addrs("127.0.0.1"), loopback: true}, "in"},
		{"set to in", config.Port{Direction: "in"}, link{addresses: addrs("192.0.2.1")}, "in"},
		{"set to both", config.Port{Direction: "both"}, link{}, "both"},
	}
	for _, test := range tests {
		if got := direction(test.want, &test.link); got != test.is {
			t.Errorf("%s: %s, want %s", test.name, got, test.is)
		}
	}
}

func TestFind(t *testing.T) {
	links := []link{
		{name: "eth0", mac: "02:00:00:00:00:09", permanent: "02:00:00:00:00:01"},
		{name: "veth0", mac: "02:00:00:00:00:02"},
	}
	n, err := openNICs(false)
	if err != nil {
		t.Fatal(err)
	}
	defer n.close()
	k := &keeper{nics: n}
	tests := map[config.Port]string{
		{Name: "veth0"}:            "veth0",
		{Name: "eth1"}:             "",
		{MAC: "02-00-00-00-00-02"}: "veth0",
		{MAC: "02:00:00:00:00:01"}: "eth0",
		{MAC: "02:00:00:00:00:09"}: "", // an address that somebody set is not the NIC's
		{PCI: "0000:01:00.0"}:      "",
	}
	for want, name := range tests {
		got := ""
		if l := k.find(want, links); l != nil {
			got = l.name
		}
		if got != name {
			t.Errorf("%+v is %q, want %q", want, got, name)
		}
	}
}

func TestListening(t *testing.T) {
	links := []link{{addresses: addrs("127.0.0.1", "::1")}, {addresses: addrs("192.0.2.1")}}
	var got []string
	for _, a := range listening([]string{"[::]:8443", "192.0.2.1:443", "192.0.2.1:8443", "nonsense"}, links) {
		got = append(got, a.String())
	}
	want := []string{"127.0.0.1:8443", "192.0.2.1:443", "192.0.2.1:8443", "[::1]:8443"}
	if !slices.Equal(got, want) {
		t.Errorf("listening = %v, want %v", got, want)
	}
}

// A port whose sockets cannot be opened is tried again and again, and said to be so once.
func TestPortThatFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	listener, err := handover.Listen(path, os.Getuid())
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	far, err := handover.Dial(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	near, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	k := &keeper{engine: &engine{conn: near, workers: 1}}
	p := &port{info: handover.Port{ID: 1, Name: "gone", Index: 1 << 30}} // no link has this number
	for range 3 {
		k.handOver(p)
		p.info.State = "up" // as the link is seen
	}
	if p.failed == "" || p.handed != 0 {
		t.Fatalf("a port without a link: %+v", p)
	}
	k.send(handover.Message{Gone: &handover.Gone{ID: 2}})
	m, err := far.Next()
	if err != nil || m.Port == nil || m.Port.State != "failed" || m.Port.Reason == "" {
		t.Errorf("the engine is told %+v, %v", m, err)
	}
	if m, err = far.Next(); err != nil || m.Gone == nil {
		t.Errorf("the engine is told more than once: %+v, %v", m, err)
	}
	near.Close()
}
