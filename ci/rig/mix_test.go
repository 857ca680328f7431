package rig

import (
	"bytes"
	"fmt"
	"math"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"galvo/ci/need"
)

func TestMixIsDeterministic(t *testing.T) {
	a, b, other := Mix(1, 5000), Mix(1, 5000), Mix(2, 5000)
	same := 0
	for i := range a {
		if !bytes.Equal(a[i].Data, b[i].Data) || a[i].Time != b[i].Time {
			t.Fatalf("frame %d differs from one run to the next", i)
		}
		if bytes.Equal(a[i].Data, other[i].Data) {
			same++
		}
		if i > 0 && a[i].Time < a[i-1].Time {
			t.Fatalf("frame %d is before the one before it", i)
		}
	}
	if same > 50 {
		t.Errorf("%d of 5000 frames are the same with another seed", same)
	}
}

// The shares are those of the doc comment of Mix, in percent.
func TestMixProfile(t *testing.T) {
	const n = 100_000
	var total, tcp, udp, tagged, fragments, longest int
	sizes := map[int]int{}
	flows := map[string]bool{}
	var eth layers.Ethernet
	for _, f := range Mix(1, n) {
		size := len(f.Data)
		total += size
		longest = max(longest, size)
		for _, limit := range []int{64, 128, 256, 512, 1024, math.MaxInt} {
			if size <= limit {
				sizes[limit]++
				break
			}
		}
		if err := eth.DecodeFromBytes(f.Data, gopacket.NilDecodeFeedback); err != nil {
			t.Fatal(err)
		}
		if eth.EthernetType == layers.EthernetTypeDot1Q || eth.EthernetType == layers.EthernetTypeQinQ {
			tagged++
		}
		p := gopacket.NewPacket(f.Data, layers.LayerTypeEthernet, gopacket.NoCopy)
		var network, transport gopacket.Flow
		for _, l := range p.Layers() {
			switch l := l.(type) {
			case *layers.IPv4:
				network, transport = l.NetworkFlow(), gopacket.Flow{}
				if l.FragOffset != 0 || l.Flags&layers.IPv4MoreFragments != 0 {
					fragments++
				}
			case *layers.IPv6:
				network, transport = l.NetworkFlow(), gopacket.Flow{}
			case *layers.TCP:
				tcp++
				transport = l.TransportFlow()
			case *layers.UDP:
				transport = l.TransportFlow()
			}
		}
		if p.Layer(layers.LayerTypeUDP) != nil {
			udp++
		}
		one, other := fmt.Sprint(network, transport), fmt.Sprint(network.Reverse(), transport.Reverse())
		flows[min(one, other)] = true
	}
	percent := func(x int) float64 { return 100 * float64(x) / n }
	for _, c := range []struct {
		what        string
		got         float64
		want, slack float64
	}{
		{"average size", float64(total) / n, 334, 20},
		{"up to 64", percent(sizes[64]), 21, 3},
		{"up to 128", percent(sizes[128]), 38, 3},
		{"up to 256", percent(sizes[256]), 14, 3},
		{"up to 512", percent(sizes[512]), 8, 2},
		{"up to 1024", percent(sizes[1024]), 3, 1.5},
		{"longer", percent(sizes[math.MaxInt]), 16, 3},
		{"TCP", percent(tcp), 66, 3},
		{"UDP", percent(udp), 22, 3},
		{"tagged", percent(tagged), 4, 1},
		{"fragments", percent(fragments), 1.4, 0.4},
		{"frames per flow", n / float64(len(flows)), 18, 3},
	} {
		if t.Logf("%-16s %6.1f, want %6.1f", c.what, c.got, c.want); math.Abs(c.got-c.want) > c.slack {
			t.Errorf("%s is %.1f, want %.1f ± %.1f", c.what, c.got, c.want, c.slack)
		}
	}
	if longest > 1614 {
		t.Errorf("the longest frame has %d bytes", longest)
	}
}

// Another program finds nothing wrong with the frames, and finds the protocols in them that they were made for.
func TestMixIsValid(t *testing.T) {
	tshark := need.Tool(t, "tshark")
	name := filepath.Join(t.TempDir(), "mix.pcap")
	if err := WritePcap(name, Mix(1, 20_000)); err != nil {
		t.Fatal(err)
	}
	read := func(args ...string) string {
		out, err := exec.Command(tshark, append([]string{"-n", "-r", name, "-o", "ip.check_checksum:TRUE", "-o", "tcp.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE"}, args...)...).Output()
		if err != nil {
			t.Fatalf("tshark %v: %v", args, err)
		}
		return string(out)
	}
	if bad := read("-Y", "_ws.malformed or ip.checksum.status==0 or tcp.checksum.status==0 or udp.checksum.status==0 or icmp.checksum.status==0 or icmpv6.checksum.status==0"); bad != "" {
		t.Errorf("tshark finds bad frames:\n%.2000s", bad)
	}
	protocols := read("-T", "fields", "-e", "frame.protocols")
	for _, want := range []string{"dns", "http", "tls", "ssh", "smtp", "ntp", "sip:sdp", "rtp", "dhcp", "snmp", "icmp", "icmpv6", "arp", "vlan", "pppoes:ppp", "mpls:ip", "gre:ip", "vxlan:eth", "gtp:ip"} {
		if !strings.Contains(protocols, ":"+want) {
			t.Errorf("tshark finds no %s", want)
		}
	}
}

func TestSavefile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "mix.pcap")
	frames := Mix(3, 1000)
	if err := WritePcap(name, frames); err != nil {
		t.Fatal(err)
	}
	names := []string{name}
	if editcap, err := exec.LookPath("editcap"); err == nil {
		ng := name + "ng"
		if out, err := exec.Command(editcap, "-F", "pcapng", name, ng).CombinedOutput(); err != nil {
			t.Fatalf("editcap: %s", out)
		}
		names = append(names, ng)
	}
	for _, name := range names {
		got, err := ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != len(frames) {
			t.Fatalf("%s has %d frames", name, len(got))
		}
		for i := range frames {
			if !bytes.Equal(got[i].Data, frames[i].Data) || got[i].Time != frames[i].Time {
				t.Fatalf("%s: frame %d is %v % x, want %v % x", name, i, got[i].Time, got[i].Data, frames[i].Time, frames[i].Data)
			}
		}
	}
}

func BenchmarkMix(b *testing.B) {
	b.ReportAllocs()
	Mix(1, b.N)
}
