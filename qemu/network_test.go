//go:build vmtest

package qemu

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"testing"
	"time"

	"github.com/google/gopacket/pcapgo"

	"galvo/ci/rig"
	"galvo/services/api"
)

// A laptop is all that there is on the network of the management port. It finds the device by its name, and reaches it at the addresses that both families
// give themselves; the certificate has the name.
func TestNoDHCP(t *testing.T) {
	m := Direct(t, "amd64")
	m.Ports, m.Network = 1, Wired
	m.Clock = "2001-02-03T04:05:06" // and nobody who knows better
	v := m.Boot(t)
	laptop := NewLaptop(t, v.Management)
	password := v.Password()
	ctx, cancel := context.WithTimeout(t.Context(), Patience(t))
	defer cancel()
	// The MAC's last four digits are the default name's.
	found, err := laptop.Lookup(ctx, "galvo-0000.local.")
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("galvo-0000.local has %s", found)
	families := map[string]netip.Addr{}
	for _, a := range found {
		if !a.IsLinkLocalUnicast() {
			t.Errorf("%s is not an address of this link", a)
		}
		families[map[bool]string{true: "IPv4", false: "IPv6"}[a.Is4()]] = a
	}
	for family, a := range families {
		host := a.String()
		if a.Is6() {
			host = "[" + host + "]"
		}
		for _, name := range []string{host, "galvo-0000.local"} {
			c := laptop.Client(v, name, password, netip.AddrPortFrom(a, 443))
			status := c.Answers()
			t.Logf("%s: https://%s answers: %s %s", family, name, status.State, status.Problems)
			if now := time.UnixMicro(status.Time); now.Year() < 2026 {
				t.Errorf("the device says that it is %s, which is before it was built", now)
			}
		}
		conn, err := laptop.Dial(ctx, netip.AddrPortFrom(a, 443))
		if err != nil {
			t.Fatal(err)
		}
		secure := tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
		if err := secure.HandshakeContext(ctx); err != nil {
			t.Fatal(err)
		}
		certificate := secure.ConnectionState().PeerCertificates[0]
		for _, name := range []string{"galvo-0000.local", a.String()} {
			if err := certificate.VerifyHostname(name); err != nil {
				t.Errorf("%s: %v", family, err)
			}
		}
		secure.Close()
	}
	if len(families) != 2 {
		t.Errorf("addresses of %d families", len(families))
	}
	if err := v.Console.Await(Patience(t), "https://169.254."); err != nil {
		t.Errorf("the console's first page has no address:\n%s", v.Console.Tail())
	}
	c := laptop.Client(v, "galvo-0000.local", password, netip.AddrPortFrom(families["IPv4"], 443))
	frames := data(rig.Mix(3, 500))
	same(t, capture(t, c, v.Wires[0], frames), frames)
	silent(t, v)
	advertised(t, v, laptop, c)
}

// advertised sees whether the device gives itself an address of the network that a router advertises, answers there, and has it in its certificate.
func advertised(t *testing.T, v *VM, laptop *Laptop, c *Client) {
	t.Helper()
	network := netip.MustParsePrefix("2001:db8:1::/64")
	if err := laptop.Advertise(network); err != nil {
		t.Fatal(err)
	}
	var address netip.Addr
	c.Wait("the device has an address of the advertised network", func() bool {
		var s api.Status
		if c.Call(http.MethodGet, api.GetStatus.Path, nil, &s) != nil {
			return false
		}
		for _, text := range s.Network.Addresses {
			if a, err := netip.ParseAddr(text); err == nil && network.Contains(a) {
				address = a
			}
		}
		return address.IsValid()
	})
	t.Logf("by router advertisement: %s", address)
	to := netip.AddrPortFrom(address, 443)
	laptop.Client(v, "["+address.String()+"]", c.Password(), to).Answers()
	ctx, cancel := context.WithTimeout(t.Context(), Patience(t))
	defer cancel()
	conn, err := laptop.Dial(ctx, to)
	if err != nil {
		t.Fatal(err)
	}
	secure := tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
	defer secure.Close()
	if err := secure.HandshakeContext(ctx); err != nil {
		t.Fatal(err)
	}
	if err := secure.ConnectionState().PeerCertificates[0].VerifyHostname(address.String()); err != nil {
		t.Error(err)
	}
}

// crossing are frames that a Linux bridge, or a network stack, would keep, answer, repair or drop.
func crossing() (frames [][]byte, names []string) {
	const all, host = "\xff\xff\xff\xff\xff\xff", "\x02\x00\x00\x00\x00\x05"
	for _, f := range []struct {
		name, to, head string
		size           int
	}{
		{"STP", "\x01\x80\xc2\x00\x00\x00", "\x00\x26\x42\x42\x03", 60},
		{"LACP", "\x01\x80\xc2\x00\x00\x02", "\x88\x09\x01\x01", 124},
		{"802.1X", "\x01\x80\xc2\x00\x00\x03", "\x88\x8e\x01\x01", 60},
		{"LLDP", "\x01\x80\xc2\x00\x00\x0e", "\x88\xcc\x02\x07", 90},
		{"PTP", "\x01\x1b\x19\x00\x00\x00", "\x88\xf7\x00\x02", 60},
		{"PTP peer delay", "\x01\x80\xc2\x00\x00\x0e", "\x88\xf7\x02\x02", 68},
		{"CDP", "\x01\x00\x0c\xcc\xcc\xcc", "\x00\x6a\xaa\xaa\x03\x00\x00\x0c\x20\x00", 120},
		{"ARP", all, "\x08\x06\x00\x01\x08\x00\x06\x04\x00\x01", 60},
		{"wrong checksums of IPv4 and UDP", host, "\x08\x00\x45\x00\x00\x2e\x00\x00\x00\x00\x40\x11\xba\xd1\x0a\x00\x00\x01\x0a\x00\x00\x02\x00\x07\x00\x09\x00\x1a\xba\xd2", 60},
		{"a tag with a priority", host, "\x81\x00\xa0\x64\x08\x00", 70},
		{"a priority tag", host, "\x81\x00\xe0\x00\x08\x00", 70},
		{"a service tag", host, "\x88\xa8\x60\x0a\x81\x00\x00\x14\x08\x00", 70},
		{"three tags", host, "\x81\x00\x00\x01\x81\x00\x00\x02\x81\x00\x00\x03\x08\x00", 90},
		{"jumbo", host, "\x08\x00\x45\x00\x23\x28", 9014},
		{"a tagged jumbo", host, "\x81\x00\x00\x01\x08\x00", 9018},
		{"unknown type", host, "\x12\x34", 60},
		{"802.2 with a wrong length", host, "\x05\xdc\xfe\xfe\x03", 60},
		{"IPv6 with a hop limit of 0", host, "\x86\xdd\x60\x00\x00\x00\x00\x08\x3a\x00", 62},
	} {
		frame := bytes.Repeat([]byte{0x5a}, f.size)
		copy(frame, f.to+"\x02\x00\x00\x00\x00\x09"+f.head)
		frames, names = append(frames, frame), append(names, f.name)
	}
	return frames, names
}

// linkSettings is the configuration of the two capture ports.
func linkSettings(mode string) string {
	return fmt.Sprintf("[[port]]\nmac = %q\nlink = 1\nmtu = 9000\n[[port]]\nmac = %q\nlink = 1\nmtu = 9000\n[[link]]\nnumber = 1\nmode = %q\n", mac(1), mac(2), mode)
}

// What comes in at one port of a link leaves through the other one, unchanged, in both directions, and is captured once, with the port where it came in. The
// mode is switched while the
// device runs; in sink mode nothing leaves.
func TestBridge(t *testing.T) {
	for _, model := range []Model{VirtioNet, E1000e} {
		t.Run(model.Driver(), func(t *testing.T) {
			m := Direct(t, "amd64")
			m.Ports, m.PortModels = 2, []Model{model}
			v := m.Boot(t)
			c := v.Client(v.Password())
			c.Answers()
			c.PortsUp(2)
			frames, names := crossing()
			same(t, capture(t, c, v.Wires[0], frames[:2]), frames[:2])
			silent(t, v) // as the device comes
			switchLink(t, c, "bridge")
			for i, w := range v.Wires {
				cross(t, c, v, i, w, frames, names)
			}
			switchLink(t, c, "sink")
			same(t, capture(t, c, v.Wires[0], frames), frames)
			if n := len(v.Wires[1].Received()); n != len(frames) {
				t.Errorf("in sink mode %d frames left the device", n-len(frames))
			}
		})
	}
}

func switchLink(t *testing.T, c *Client, mode string) {
	t.Helper()
	if err := c.PutConfig(linkSettings(mode)); err != nil {
		t.Fatal(err)
	}
	c.Wait("the link is in mode "+mode, func() bool {
		var list []api.Port
		if c.Call(http.MethodGet, api.ListPorts.Path, nil, &list) != nil || len(list) != 2 {
			return false
		}
		return list[0].Mode == mode && list[1].Mode == mode && list[0].State == "up" && list[1].State == "up"
	})
}

// cross sends frames into the i-th port.
func cross(t *testing.T, c *Client, v *VM, i int, w *Wire, frames [][]byte, names []string) {
	t.Helper()
	out, back := v.Wires[1-i], len(w.Received())
	d := c.Capture(url.Values{"maxPackets": {fmt.Sprint(len(frames))}})
	if err := w.Send(frames...); err != nil {
		t.Fatal(err)
	}
	for k, want := range frames {
		got, err := out.Next(Patience(t))
		if err != nil {
			t.Fatalf("into port %d, %s: %v", i+1, names[k], err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("into port %d, %s came out as\n%x\nand was\n%x", i+1, names[k], head(got), head(want))
		}
	}
	file, err := d.Wait()
	if err != nil {
		t.Fatal(err)
	}
	same(t, savefile(t, file), frames)
	for k, port := range portsOf(t, file) {
		if port != i {
			t.Errorf("%s is captured on port %d, and went into port %d", names[k], port+1, i+1)
		}
	}
	if n := len(w.Received()); n != back {
		t.Errorf("%d frames came back", n-back)
	}
}

func head(b []byte) []byte { return b[:min(len(b), 100)] }

// portsOf returns the interface of each packet of a pcapng, from 0.
func portsOf(t *testing.T, file []byte) (ports []int) {
	t.Helper()
	r, err := pcapgo.NewNgReader(bytes.NewReader(file), pcapgo.NgReaderOptions{WantMixedLinkType: true})
	if err != nil {
		t.Fatal(err)
	}
	for {
		_, info, err := r.ReadPacketData()
		if errors.Is(err, io.EOF) {
			return ports
		}
		if err != nil {
			t.Fatal(err)
		}
		ports = append(ports, info.InterfaceIndex)
	}
}
