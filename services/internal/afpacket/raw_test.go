package afpacket

import (
	"bytes"
	"os"
	"testing"

	"github.com/vishvananda/netlink"

	"galvo/ci/rig"
	"galvo/services/internal/packet"
)

// An interface without a link layer is a port too: its frames begin with the IP header, and flows stay together.
func TestRawIP(t *testing.T) {
	const workers, pairs = 2, 32
	ns := rig.NetnsFor(t)
	end := &rig.End{Netns: ns, Name: "raw0"}
	var wire *os.File
	err := ns.Run(func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = end.Name
		tun := &netlink.Tuntap{LinkAttrs: attrs, Mode: netlink.TUNTAP_MODE_TUN, Flags: netlink.TUNTAP_NO_PI, Queues: 1}
		if err := netlink.LinkAdd(tun); err != nil {
			return err
		}
		wire, end.Index = tun.Fds[0], tun.Attrs().Index
		return netlink.LinkSetUp(tun)
	})
	if err != nil {
		t.Fatal(err)
	}
	defer wire.Close()
	ps := newPorts(t, workers)
	addPort(t, ps, end, 1, workers, Options{})
	var sent [][]byte
	for i := range byte(pairs) {
		a, b := 2*i, 2*i+1
		sent = append(sent, v4(a, b, 0), v4(b, a, 1), v6(a, b, 0), v6(b, a, 0))
	}
	for _, f := range sent {
		if _, err := wire.Write(f); err != nil {
			t.Fatal(err)
		}
	}
	all := receive(t, ps, workers, count(len(sent)))
	if link := ps.Source(0).Interfaces()[0].Link; link != packet.LinkRaw {
		t.Errorf("link type %d", link)
	}
	var used [workers]int
	for i, f := range sent {
		at := -1
		for j := range all {
			if bytes.Equal(all[j].Data, f) {
				at = j
			}
		}
		if at < 0 {
			t.Fatalf("not received: % x", f)
		}
		used[all[at].worker]++
		reply := sent[i^1]
		for j := range all {
			if bytes.Equal(all[j].Data, reply) && all[j].worker != all[at].worker {
				t.Fatalf("pair %d is in two workers", i/2)
			}
		}
	}
	if used[0] == 0 || used[1] == 0 {
		t.Errorf("workers have %v", used)
	}
}
