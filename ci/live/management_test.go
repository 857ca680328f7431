package live

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/net/dns/dnsmessage"

	"galvo/ci/device"
	"galvo/ci/rig"
	"galvo/services/api"
)

// A laptop that is plugged into a device, with nothing else in the network, finds it by its name and gets the page with a certificate of that name.
func TestLaptopFindsDevice(t *testing.T) {
	laptop, port := rig.VethFor(t)
	if err := laptop.Address("169.254.0.9/16"); err != nil {
		t.Fatal(err)
	}
	var mac net.HardwareAddr
	if err := port.Netns.Run(func() error {
		l, err := netlink.LinkByName(port.Name)
		if err == nil {
			mac = l.Attrs().HardwareAddr
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("galvo-%x.local", []byte(mac[4:]))
	d := device.StartAt(t, port.Netns, ":0", "[management]\nport = \""+port.Name+"\"\n")
	page, err := url.Parse(d.URL)
	if err != nil {
		t.Fatal(err)
	}

	var address netip.Addr
	device.Wait(t, name+" is found", func() bool {
		address = lookUp(t, laptop, name)
		return address.IsValid()
	})
	if !address.IsLinkLocalUnicast() {
		t.Errorf("%s is at %s", name, address)
	}
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DialTLSContext: func(context.Context, string, string) (net.Conn, error) {
			var c net.Conn
			err := laptop.Netns.Run(func() (err error) {
				c, err = net.DialTimeout("tcp", net.JoinHostPort(address.String(), page.Port()), 5*time.Second)
				return err
			})
			if err != nil {
				return nil, err
			}
			return tls.Client(c, &tls.Config{InsecureSkipVerify: true, VerifyPeerCertificate: func(raw [][]byte, _ [][]*x509.Certificate) error {
				leaf, err := x509.ParseCertificate(raw[0])
				if err == nil {
					err = leaf.VerifyHostname(name)
				}
				if err == nil {
					err = leaf.VerifyHostname(address.String())
				}
				return err
			}}), nil
		},
	}}
	defer client.CloseIdleConnections()
	var status api.Status
	device.Wait(t, "the certificate has name and address", func() bool {
		req, err := http.NewRequest(http.MethodGet, "https://"+name+api.GetStatus.Path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.SetBasicAuth("admin", device.Password)
		resp, err := client.Do(req)
		if err != nil {
			t.Logf("not yet: %v", err)
			return false
		}
		defer resp.Body.Close()
		status = api.Status{}
		if err := json.NewDecoder(resp.Body).Decode(&status); err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode == http.StatusOK && status.Network.Source != "" // the kernel has an address a moment before the service says whence
	})
	if status.Name+".local" != name || status.Network.Source != "link-local" || len(status.Fingerprint) != 95 ||
		!strings.Contains(strings.Join(status.Problems, " "), "No DHCP server answers") {
		t.Errorf("status %+v", status)
	}
}

// lookUp asks by multicast DNS, as an ordinary resolver, and returns an address or none.
func lookUp(t *testing.T, from *rig.End, name string) (a netip.Addr) {
	t.Helper()
	query := dnsmessage.Message{Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name + "."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}}}
	text, err := query.Pack()
	if err != nil {
		t.Fatal(err)
	}
	err = from.Netns.Run(func() error {
		c, err := net.ListenPacket("udp4", "169.254.0.9:0")
		if err != nil {
			return err
		}
		defer c.Close()
		if _, err := c.WriteTo(text, &net.UDPAddr{IP: net.IPv4(224, 0, 0, 251), Port: 5353}); err != nil {
			return err
		}
		c.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
		b := make([]byte, 1500)
		n, _, err := c.ReadFrom(b)
		if err != nil {
			return nil // nobody yet
		}
		var reply dnsmessage.Message
		if err := reply.Unpack(b[:n]); err != nil {
			return err
		}
		for _, r := range reply.Answers {
			if body, ok := r.Body.(*dnsmessage.AResource); ok {
				a = netip.AddrFrom4(body.A)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return a
}
