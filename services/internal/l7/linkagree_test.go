package l7_test

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"galvo/ci/need"
	"galvo/services/internal/l7"
	"galvo/services/internal/l7/protocol"
)

// belowIP are savefiles with protocols straight on the link layer.
var belowIP = []string{
	"iti__*GOOSE*", "iti__PROFINET*", "iti__profinet*", "icsnpp__*", "iti__EIP*", "tcpdump__LACP*", "tcpdump__ptp*", "tcpdump__eap*", "tcpdump__rpvstp*", "tcpdump__kday2*", "tcpdump__macsec*",
	"arkime__ospf*", "arkime__mpls*", "arkime__arkime*", "sv__pppoe*", "pcpp__PPPoE*", "zeek__q-in-q*", "zeek__mpls-6in6-broken*", "tcpdump__mpls*",
}

// TestLinkAgrees: every frame without IP has the name that tshark gives it. Layers that tshark tells further apart than the table are left out.
func TestLinkAgrees(t *testing.T) {
	corpus, tshark := need.Corpus(t), need.Tool(t, "tshark")
	data, err := os.ReadFile("header/testdata/link.tsv")
	if err != nil {
		t.Fatal(err)
	}
	names := make(map[string][]string)
	for line := range strings.Lines(string(data)) {
		if row := strings.Split(strings.TrimSpace(line), "\t"); !strings.HasPrefix(line, "#") && !strings.HasPrefix(row[0], "ip:") && row[2] != "-" {
			names[row[2]] = append(names[row[2]], row[1])
		}
	}
	names["pn_dcp"], names["pn_io"], names["pn_ptcp"] = []string{"PROFINET_DCP"}, []string{"PROFINET_RT", "PROFINET_ALARM"}, []string{"PROFINET_PTCP"}
	if everyFile {
		belowIP = []string{"*.*cap*", "*.dmp"}
	}
	for _, pattern := range belowIP {
		files, _ := filepath.Glob(filepath.Join(corpus, "protocols", pattern))
		for _, name := range files {
			t.Run(filepath.Base(name), func(t *testing.T) {
				t.Parallel()
				agreeBelowIP(t, tshark, name, names)
			})
		}
	}
}

// agreeBelowIP compares the frames of a savefile; names maps what tshark calls a layer to the names that it may have here.
func agreeBelowIP(t *testing.T, tshark, name string, names map[string][]string) {
	out, _ := exec.Command(tshark, "-n", "-r", name, "-T", "fields", "-e", "frame.protocols").Output() // an error with damaged files; what came before it counts
	got := classify(t, l7.Config{}, name)
	total := make(map[string]int)
	lines := bufio.NewScanner(bytes.NewReader(out))
	for i := 1; lines.Scan() && i < len(got.links); i++ {
		layers := strings.Split(lines.Text(), ":")
		if slices.Contains(layers, "ip") || slices.Contains(layers, "ipv6") || got.frames[i] != 0 {
			continue
		}
		v := got.links[i]
		for _, l := range layers {
			if names[l] == nil {
				continue
			}
			total[l]++
			if !slices.ContainsFunc(names[l], func(n string) bool { id, _ := protocol.Lookup(n); return v.Is(id) }) {
				t.Errorf("frame %d: %s, here %s/%s", i, lines.Text(), protocol.Name(v.Proto), protocol.Name(v.App))
			}
			if l == "lcp" { // what it rejects is quoted behind it
				break
			}
		}
	}
	t.Log(total)
}
