package host

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/server4"
	"github.com/vishvananda/netlink"

	"galvo/ci/need"
	wires "galvo/ci/rig"
	"galvo/services/api"
	"galvo/services/internal/afpacket"
	"galvo/services/internal/gate"
	"galvo/services/internal/handover"
	"galvo/services/internal/pipeline"
)

// A box is a host service in a namespace with ports, each joined to a namespace of its own.
type box struct {
	*testing.T
	netns   *wires.Netns
	peers   []*wires.End
	options Options
	cmd     *exec.Cmd
	client  *api.Client
}

// newBox makes the machine, with IPv6 as kernels have it. Its ports are eth0, eth1, ... and are switched off.
func newBox(t *testing.T, ports int, config string) *box {
	t.Helper()
	need.Root(t)
	b := &box{T: t, netns: wires.NetnsFor(t)}
	b.run(func() error {
		for _, file := range []string{"all", "default"} {
			if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+file+"/disable_ipv6", []byte("0"), 0); err != nil {
				return err
			}
		}
		return nil
	})
	for i := range ports {
		end, peer, err := wires.Veth(b.netns, fmt.Sprintf("eth%d", i), wires.NetnsFor(t), "peer", 0)
		if err == nil {
			err = end.Up(false)
		}
		if err != nil {
			t.Fatal(err)
		}
		b.peers = append(b.peers, peer)
	}
	dir := t.TempDir()
	b.options = Options{Config: filepath.Join(dir, "config.toml"), Run: dir, State: dir, EngineUser: os.Getuid(), WebUser: os.Getuid(), Listen: []string{"[::]:8443"}}
	if err := errors.Join(os.WriteFile(b.options.Config, []byte(config), 0o600), os.Mkdir(filepath.Join(dir, "host"), 0o700), os.Mkdir(filepath.Join(dir, "handover"), 0o700)); err != nil {
		t.Fatal(err)
	}
	b.client = api.NewClient(api.SocketPath(dir, api.ServiceHost))
	return b
}

func (b *box) run(f func() error) {
	b.Helper()
	if err := b.netns.Run(f); err != nil {
		b.Fatal(err)
	}
}

func (b *box) start() {
	b.Helper()
	text, err := json.Marshal(b.options)
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "HOST_TEST_OPTIONS="+string(text))
	cmd.Stderr = os.Stderr
	if err := b.netns.Start(cmd); err != nil {
		b.Fatal(err)
	}
	b.cmd = cmd
	b.Cleanup(func() { b.end(syscall.SIGTERM) })
	b.await("the service answers", func() bool { return b.client.Call(b.Context(), "GET", api.GetNetwork.Path, nil, nil) == nil })
}

func (b *box) end(how syscall.Signal) {
	if b.cmd != nil {
		b.cmd.Process.Signal(how)
		b.cmd.Wait()
		b.cmd = nil
	}
}

func (b *box) await(what string, ok func() bool) {
	b.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if ok() {
			return
		}
	}
	b.Fatalf("it did not happen: %s; the network is %+v", what, b.network())
}

func (b *box) network() (n api.Network) {
	b.Helper()
	if err := b.client.Call(context.WithoutCancel(b.Context()), "GET", api.GetNetwork.Path, nil, &n); err != nil {
		b.Error(err)
	}
	return n
}

// put replaces the configuration.
func (b *box) put(config string) (check api.ConfigCheck) {
	b.Helper()
	t := api.Transport(api.SocketPath(b.options.Run, api.ServiceHost))
	defer t.CloseIdleConnections()
	status, text, err := plainCall(t, "PUT", api.PutConfig.Path, config)
	if err != nil || status != 200 {
		b.Fatalf("PUT: %d %s %v", status, text, err)
	}
	if err := json.Unmarshal([]byte(text), &check); err != nil {
		b.Fatal(err)
	}
	return check
}

// engine takes the ports of an engine with one worker, and throws their sockets away.
func (b *box) engine() *handover.Conn {
	b.Helper()
	c, err := handover.Dial(b.Context(), handover.Path(b.options.Run))
	if err == nil {
		err = c.Send(handover.Message{Ready: &handover.Ready{Workers: 1}})
	}
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { c.Close() })
	return c
}

// serveDHCP answers on an end as a server with one address.
func serveDHCP(t *testing.T, end *wires.End) {
	t.Helper()
	if err := end.Address("10.9.0.1/24"); err != nil {
		t.Fatal(err)
	}
	var conn net.PacketConn
	if err := end.Netns.Run(func() (err error) {
		conn, err = server4.NewIPv4UDPConn(end.Name, &net.UDPAddr{Port: 67})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	server, err := server4.NewServer(end.Name, nil, func(conn net.PacketConn, peer net.Addr, m *dhcpv4.DHCPv4) {
		kind := dhcpv4.MessageTypeAck
		if m.MessageType() == dhcpv4.MessageTypeDiscover {
			kind = dhcpv4.MessageTypeOffer
		}
		reply, err := dhcpv4.NewReplyFromRequest(m, dhcpv4.WithMessageType(kind), dhcpv4.WithYourIP(net.IPv4(10, 9, 0, 77)),
			dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IPv4(10, 9, 0, 1))), dhcpv4.WithNetmask(net.CIDRMask(24, 32)),
			dhcpv4.WithRouter(net.IPv4(10, 9, 0, 1)), dhcpv4.WithDNS(net.IPv4(10, 9, 0, 1)), dhcpv4.WithLeaseTime(3600),
			dhcpv4.WithOption(dhcpv4.OptNTPServers(net.IPv4(10, 9, 0, 1))))
		if err == nil {
			conn.WriteTo(reply.ToBytes(), &net.UDPAddr{IP: net.IPv4bcast, Port: 68})
		}
	}, server4.WithConn(conn))
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() { server.Serve(); close(served) }()
	t.Cleanup(func() { server.Close(); <-served })
}

// reaches reports whether the address is a machine's that an end reaches: one that refuses connections answers.
func reaches(end *wires.End, a string) bool {
	return end.Netns.Run(func() error {
		c, err := net.DialTimeout("tcp4", net.JoinHostPort(a, "9"), patience)
		if err == nil {
			c.Close()
		}
		if errors.Is(err, syscall.ECONNREFUSED) {
			return nil
		}
		return err
	}) == nil
}

// routerAdvertisement announces 2001:db8:7::/64 (RFC 4861 4.2).
func routerAdvertisement() []byte {
	icmp := make([]byte, 16+32)
	icmp[0], icmp[4] = 134, 64
	binary.BigEndian.PutUint16(icmp[6:], 1800)
	prefix := icmp[16:]
	prefix[0], prefix[1], prefix[2], prefix[3] = 3, 4, 64, 0xc0
	binary.BigEndian.PutUint32(prefix[4:], 86400)
	binary.BigEndian.PutUint32(prefix[8:], 14400)
	net7 := netip.MustParseAddr("2001:db8:7::").As16()
	copy(prefix[16:], net7[:])
	from, to := netip.MustParseAddr("fe80::77").As16(), netip.MustParseAddr("ff02::1").As16()
	sum := uint32(58 + len(icmp))
	for _, b := range [][]byte{from[:], to[:], icmp} {
		for i := 0; i < len(b); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(b[i:]))
		}
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	binary.BigEndian.PutUint16(icmp[2:], ^uint16(sum))
	f := []byte{0x33, 0x33, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0x77, 0x86, 0xdd, 0x60, 0, 0, 0, 0, byte(len(icmp)), 58, 255}
	return slices.Concat(f, from[:], to[:], icmp)
}

// A device without a DHCP server is found by a link-local address; with one it has that one's; then it has what is set.
// What cannot keep a change is said in the status.
func TestStateProblem(t *testing.T) {
	if p := stateProblem(t.TempDir()); p != "" {
		t.Errorf("a directory with room: %s", p)
	}
	for dir, want := range map[string]string{"/proc": "is full", filepath.Join(t.TempDir(), "none"): "cannot be reached"} {
		if p := stateProblem(dir); !strings.Contains(p, want) {
			t.Errorf("%s: %q, want %q", dir, p, want)
		}
	}
}

func TestManagementPort(t *testing.T) {
	t.Parallel()
	b := newBox(t, 1, "[management]\nport = \"eth0\"\n")
	lan := b.peers[0]
	b.start()
	b.await("a link-local address", func() bool { return b.network().Source == "link-local" })
	n := b.network()
	if !strings.HasPrefix(n.Name, "galvo-") || len(n.Name) != len("galvo-0000") || n.Port != "eth0" || len(n.Problems) != 1 || !strings.Contains(n.Problems[0], "no DHCP server") {
		t.Errorf("network %+v", n)
	}
	own := slices.IndexFunc(n.Addresses, func(a string) bool { return strings.HasPrefix(a, "169.254.") })
	if own < 0 || !slices.ContainsFunc(n.Addresses, func(a string) bool { return strings.HasPrefix(a, "fe80::") }) {
		t.Fatalf("addresses %v", n.Addresses)
	}
	if err := lan.Address("169.254.0.7/16"); err != nil {
		t.Fatal(err)
	}
	if !reaches(lan, n.Addresses[own]) {
		t.Errorf("a laptop does not reach %s", n.Addresses[own])
	}

	serveDHCP(t, lan)
	b.await("a lease", func() bool { return b.network().Source == "dhcp" })
	b.await("only the leased address", func() bool {
		n = b.network()
		return slices.Contains(n.Addresses, "10.9.0.77") && !slices.ContainsFunc(n.Addresses, func(a string) bool { return strings.HasPrefix(a, "169.") })
	})
	if n.Router != "10.9.0.1" || !slices.Equal(n.DNS, []string{"10.9.0.1"}) || n.LeaseServer != "10.9.0.1" || !reaches(lan, "10.9.0.77") {
		t.Errorf("network %+v", n)
	}
	b.await("a question to the time server that DHCP named, where nobody answers", func() bool {
		n := b.network()
		return len(n.Problems) == 1 && n.Problems[0] == n.Clock.Problem && strings.Contains(n.Clock.Problem, "ask 10.9.0.1") && !n.Clock.Synced
	})
	r, err := (&wires.Player{To: lan}).Play(t.Context(), []wires.Frame{{Data: routerAdvertisement()}})
	if err != nil || r.Errors > 0 {
		t.Fatal(r, err)
	}
	b.await("an address of the router's network", func() bool {
		return slices.ContainsFunc(b.network().Addresses, func(a string) bool { return strings.HasPrefix(a, "2001:db8:7:") })
	})

	// A restart keeps the address, and asks for it again.
	b.end(syscall.SIGKILL)
	b.start()
	if n := b.network(); !slices.Contains(n.Addresses, "10.9.0.77") {
		t.Errorf("after a restart: %v", n.Addresses)
	}
	b.await("the lease again", func() bool { return b.network().Source == "dhcp" })

	check := b.put("[management]\nport = \"eth0\"\nipv4 = \"static\"\naddress = \"10.9.0.200/24\"\ngateway = \"10.9.0.1\"\nipv6 = \"static\"\naddress6 = \"2001:db8:9::5/64\"\n")
	if check.ConfirmSeconds != 60 {
		t.Errorf("PUT: %+v", check)
	}
	b.await("the new address", func() bool {
		n = b.network() // the kernel has them a moment before the service says so
		return n.Source == "static" && slices.Contains(n.Addresses, "10.9.0.200") && slices.Contains(n.Addresses, "2001:db8:9::5") && !slices.Contains(n.Addresses, "10.9.0.77")
	})
	if n.Router != "10.9.0.1" || n.ConfirmSeconds < 1 || !reaches(lan, "10.9.0.200") {
		t.Errorf("network %+v", n)
	}
	// Nobody confirms, and the service ends: it comes back as it was.
	b.end(syscall.SIGKILL)
	b.start()
	b.await("the lease once more", func() bool {
		n := b.network()
		return n.Source == "dhcp" && slices.Contains(n.Addresses, "10.9.0.77") && !slices.Contains(n.Addresses, "10.9.0.200") && !slices.Contains(n.Addresses, "2001:db8:9::5")
	})

	// A plain host gets its port back.
	b.end(syscall.SIGTERM)
	b.run(func() error {
		l, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		list, err := netlink.AddrList(l, netlink.FAMILY_V4)
		if len(list) != 0 {
			t.Errorf("left behind: %v", list)
		}
		return err
	})
}

// hear returns what arrives at an end until f is done and the frame last has come.
func hear(t *testing.T, end *wires.End, last []byte, f func()) [][]byte {
	t.Helper()
	var sockets []int
	if err := end.Netns.Run(func() (err error) { sockets, err = afpacket.Open(end.Index, 1); return err }); err != nil {
		t.Fatal(err)
	}
	ports := afpacket.NewPorts(1)
	defer ports.Close()
	if _, err := ports.Add(pipeline.Interface{Port: 1}, sockets, afpacket.Options{}); err != nil {
		t.Fatal(err)
	}
	f()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var heard [][]byte
	for {
		var batch pipeline.Batch
		if err := ports.Source(0).Next(ctx, &batch); err != nil {
			t.Fatalf("after %d frames: %v", len(heard), err)
		}
		for _, p := range batch.Packets {
			if bytes.Equal(p.Data, last) {
				return heard
			}
			heard = append(heard, bytes.Clone(p.Data))
		}
	}
}

func play(t *testing.T, end *wires.End, frames ...[]byte) {
	t.Helper()
	for _, f := range frames {
		if r, err := (&wires.Player{To: end}).Play(t.Context(), []wires.Frame{{Data: f}}); err != nil || r.Errors > 0 {
			t.Fatal(r, err)
		}
	}
}

func frame(destination string, kind ...byte) []byte {
	f := make([]byte, 60)
	copy(f, destination)
	copy(f[6:], "\x02\x00\x00\x00\x00\x33")
	copy(f[12:], kind)
	return f
}

var (
	lacp = frame("\x01\x80\xc2\x00\x00\x02", 0x88, 0x09, 1, 1)
	mark = frame("\x02\x00\x00\x00\x00\x44", 0x88, 0xb5, 'm')
)

const linkedPorts = "[[port]]\nname = \"eth0\"\nlink = 1\n[[port]]\nname = \"eth1\"\nlink = 1\n"

// awaitMode waits until the engine is told of a port's mode.
func (b *box) awaitMode(c *handover.Conn, id int, mode string) {
	b.Helper()
	stop := time.AfterFunc(patience, func() { c.Close() })
	defer stop.Stop()
	for {
		m, err := c.Next()
		if err != nil {
			b.Fatalf("port %d does not get into mode %s: %v", id, mode, err)
		}
		if m.Port != nil {
			closeAll(m.Port.Sockets)
		}
		if m.Stats != nil && m.Stats.ID == id && m.Stats.Mode == mode {
			return
		}
	}
}

// A link is bridged at run time, goes on while host and engine are dead, and is closed again.
func TestBridgeMode(t *testing.T) {
	t.Parallel()
	b := newBox(t, 2, linkedPorts)
	b.start()
	c := b.engine()
	b.awaitMode(c, 1, "sink")
	crosses := func(what string, want bool) {
		t.Helper()
		for i, from := range b.peers {
			to := b.peers[1-i]
			heard := hear(t, to, mark, func() {
				play(t, from, lacp)
				if want {
					play(t, from, mark)
					return
				}
				b.run(func() error { return sendMarked(fmt.Sprintf("eth%d", 1-i), mark) })
			})
			if got := len(heard) == 1 && bytes.Equal(heard[0], lacp); got != want || len(heard) > 1 {
				t.Errorf("%s: %d frames came through: % x", what, len(heard), heard)
			}
		}
	}
	crosses("sink mode", false)
	b.put(linkedPorts + "[[link]]\nnumber = 1\nmode = \"bridge\"\n")
	b.awaitMode(c, 1, "bridge")
	b.awaitMode(c, 2, "bridge")
	crosses("bridge mode", true)
	b.run(func() error {
		l, err := netlink.LinkByName("eth0")
		if err == nil && l.Attrs().Promisc == 0 {
			t.Error("a bridged port takes only what is sent to itself")
		}
		return err
	})
	c.Close()
	b.end(syscall.SIGKILL)
	crosses("nobody there", true)
	b.start()
	c = b.engine()
	b.awaitMode(c, 2, "bridge")
	crosses("back", true)
	b.put(linkedPorts)
	b.awaitMode(c, 1, "sink")
	b.awaitMode(c, 2, "sink")
	crosses("sink mode again", false)
}

// sendMarked sends what a closed port lets through.
func sendMarked(name string, data []byte) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	fd, err := syscall.Socket(syscall.AF_PACKET, syscall.SOCK_RAW, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	if err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_MARK, gate.Mark); err != nil {
		return err
	}
	return syscall.Sendto(fd, data, 0, &syscall.SockaddrLinklayer{Ifindex: l.Attrs().Index})
}

// A capture port sends nothing by itself, whatever the machine does, and whether it was on or off when Galvo came.
func TestSilence(t *testing.T) {
	t.Parallel()
	for _, was := range []string{"off", "on"} {
		t.Run("was "+was, func(t *testing.T) {
			t.Parallel()
			b := newBox(t, 2, "[[port]]\nname = \"eth0\"\n")
			port := &wires.End{Netns: b.netns, Name: "eth0"}
			if was == "on" {
				if err := port.Up(true); err != nil {
					t.Fatal(err)
				}
			}
			// The machine has an address elsewhere, and would answer for it on all ports.
			other := &wires.End{Netns: b.netns, Name: "eth1"}
			if err := errors.Join(other.Up(true), other.Address("10.5.0.1/24")); err != nil {
				t.Fatal(err)
			}
			b.start()
			c := b.engine()
			b.awaitMode(c, 1, "sink")
			heard := hear(t, b.peers[0], mark, func() {
				arp := frame("\xff\xff\xff\xff\xff\xff", 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 0x33, 10, 5, 0, 9, 0, 0, 0, 0, 0, 0, 10, 5, 0, 1)
				for range 3 {
					if err := errors.Join(port.Up(false), port.Up(true), port.WaitUp(t.Context())); err != nil {
						t.Fatal(err)
					}
					play(t, b.peers[0], arp, routerAdvertisement())
				}
				// Silence can only be listened to: the kernel's solicitations come after up to a second, and again after four.
				time.Sleep(3 * time.Second)
				b.run(func() error { return sendMarked("eth0", mark) })
			})
			if len(heard) != 0 {
				t.Errorf("the port sent %d frames: % x", len(heard), heard)
			}
		})
	}
}

// A port gets its settings, says which ones its NIC cannot have, and is as it was when the service ends.
func TestPortSettings(t *testing.T) {
	t.Parallel()
	b := newBox(t, 1, "[[port]]\nname = \"eth0\"\nmtu = 4000\nfcs = true\n")
	state := func() (s string) {
		b.run(func() error {
			l, err := netlink.LinkByName("eth0")
			if err != nil {
				return err
			}
			ipv6, err := os.ReadFile("/proc/sys/net/ipv6/conf/eth0/disable_ipv6")
			closed, gateErr := gate.IsSet(l.Attrs().Index)
			a := l.Attrs()
			s = fmt.Sprintf("MTU %d, up %t, ARP %t, IPv6 off %s, closed %t, promiscuous %t",
				a.MTU, a.RawFlags&syscall.IFF_UP != 0, a.RawFlags&syscall.IFF_NOARP == 0, bytes.TrimSpace(ipv6), closed, a.RawFlags&syscall.IFF_PROMISC != 0)
			return errors.Join(err, gateErr)
		})
		return s
	}
	before := state()
	b.start()
	c := b.engine()
	stop := time.AfterFunc(patience, func() { c.Close() })
	defer stop.Stop()
	var p *handover.Port
	for p == nil {
		m, err := c.Next()
		if err != nil {
			t.Fatal(err)
		}
		p = m.Port
	}
	closeAll(p.Sockets)
	if p.CanFCS || !strings.Contains(p.Reason, "no rx-fcs") || p.Mode != "sink" {
		t.Errorf("port %+v", p)
	}
	if got, want := state(), "MTU 4000, up true, ARP false, IPv6 off 1, closed true, promiscuous true"; got != want {
		t.Errorf("while it captures: %s, want %s", got, want)
	}
	b.end(syscall.SIGTERM)
	if got := state(); got != before {
		t.Errorf("afterwards: %s, want %s", got, before)
	}
}

// What is not the network's own is left alone: a port that others use keeps speaking, and cannot be bridged.
func TestTakenPort(t *testing.T) {
	t.Parallel()
	b := newBox(t, 2, linkedPorts+"[[link]]\nnumber = 1\nmode = \"bridge\"\n")
	b.run(func() error {
		l, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}}
		return errors.Join(netlink.LinkSetUp(l), netlink.LinkAdd(bridge), netlink.LinkSetMaster(l, bridge))
	})
	b.start()
	c := b.engine()
	stop := time.AfterFunc(patience, func() { c.Close() })
	defer stop.Stop()
	reasons := map[int]string{}
	for reasons[1] == "" || reasons[2] == "" {
		m, err := c.Next()
		if err != nil {
			t.Fatalf("%v; %v", err, reasons)
		}
		if m.Port != nil {
			closeAll(m.Port.Sockets)
		}
		if m.Stats != nil {
			reasons[m.Stats.ID] = m.Stats.Reason
		}
	}
	if !strings.Contains(reasons[1], "not in bridge mode: another interface has it") || !strings.Contains(reasons[2], "eth0 is in use") {
		t.Errorf("reasons %v", reasons)
	}
	b.run(func() error {
		l, err := netlink.LinkByName("eth0")
		if err == nil && l.Attrs().RawFlags&syscall.IFF_NOARP != 0 {
			t.Error("ARP is off on a port that others use")
		}
		return err
	})
}
