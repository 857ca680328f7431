package filter

import (
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"galvo/ci/need"
	"galvo/services/internal/flow"
	"galvo/services/internal/packet"
)

// mixture writes one savefile of the zoo and the first frames of some Ethernet savefiles of the corpus.
func mixture(t *testing.T) string {
	name := zooFile(t)
	out, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	corpus := need.Corpus(t)
	second := uint32(1000)
	for _, file := range []string{
		"icsnpp__profinet_io_cm_mixed_1.pcap", "icsnpp__profinet_io_cm_read.pcapng", "zeek__wireshark.pcap", "zeek__mixed-vlan-mpls.pcap", "zeek__vlan-pcp-dei.pcapng",
		"zeek__q-in-q.pcap", "tcpdump__ptp_ethernet.pcap", "tcpdump__LACP.pcap", "iti__c37118_1100_unclean.pcap", "tcpdump__afs.pcap", "arkime__mpls-basic.pcap", "arkime__v6-http.pcap",
	} {
		replay(t, filepath.Join(corpus, "protocols", file), func(n int, p *packet.Packet, _ *flow.Ref) {
			if n < 250 && p.Link == packet.LinkEthernet {
				second++
				for _, v := range []uint32{second, 0, uint32(len(p.Data)), p.Len} {
					out = binary.LittleEndian.AppendUint32(out, v)
				}
				out = append(out, p.Data...)
			}
		})
	}
	if err := os.WriteFile(name, out, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestDisplayFilters compares expressions with display filters of tshark that mean the same: lists, ranges, complements, compounds, patterns.
func TestDisplayFilters(t *testing.T) {
	need.Tool(t, "tshark")
	name := mixture(t)
	frames := dissect(t, name)
	var parallel sync.WaitGroup
	turn := make(chan struct{}, 2)
	for _, row := range rows(t, "testdata/oracle.tsv", 3) {
		f, err := Compile(row[0], nil)
		if err != nil {
			t.Errorf("%s: %v", row[0], err)
			continue
		}
		if !sampled(row[0]) {
			continue
		}
		parallel.Add(1)
		turn <- struct{}{}
		go func() {
			defer func() { <-turn; parallel.Done() }()
			want := display(t, name, row[1])
			var missed, extra []int
			selected := 0
			replay(t, name, func(i int, p *packet.Packet, ref *flow.Ref) {
				shown := frames[i]
				if shown.malformed || shown.levels > 1 && row[2] != "nested" || p.Layers&packet.LaterFragment != 0 {
					return
				}
				got, expected := f.Match(p, ref, pending) == Yes, slices.Contains(want, i+1)
				switch {
				case got && expected:
					selected++
				case got:
					extra = append(extra, i+1)
				case expected:
					missed = append(missed, i+1)
				}
			})
			if len(missed)+len(extra) > 0 {
				t.Errorf("%s: %d right, missed %v, too many %v (%s)", f, selected, missed[:min(5, len(missed))], extra[:min(5, len(extra))], row[1])
			}
			if selected == 0 {
				t.Errorf("%s selects no frame, so it shows nothing", f)
			}
		}()
	}
	parallel.Wait()
}

// display returns the numbers of the frames that a display filter selects.
func display(t *testing.T, name, filter string) (numbers []int) {
	out, err := exec.Command("tshark", append(slices.Clone(oracleOptions), "-r", name, "-Y", filter, "-T", "fields", "-e", "frame.number")...).Output()
	if err != nil {
		t.Errorf("tshark -Y %s: %v", filter, err)
	}
	for _, line := range strings.Fields(string(out)) {
		n, _ := strconv.Atoi(line)
		numbers = append(numbers, n)
	}
	return numbers
}
