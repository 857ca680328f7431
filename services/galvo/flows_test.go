package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"galvo/ci/need"
	"galvo/services/internal/l7"
	"galvo/services/internal/l7/protocol"
)

// readInto runs read with standard output into a file, and returns that and what went to standard error.
func readInto(t *testing.T, args ...string) (stdout, stderr string) {
	t.Helper()
	var files [2]*os.File
	for i, name := range [2]string{"stdout", "stderr"} {
		f, err := os.CreateTemp(t.TempDir(), name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files[i] = f
	}
	before := [2]*os.File{os.Stdout, os.Stderr}
	os.Stdout, os.Stderr = files[0], files[1]
	read(context.Background(), args) // an error with damaged files; what came before it counts
	os.Stdout, os.Stderr = before[0], before[1]
	said, err := os.ReadFile(files[1].Name())
	if err != nil {
		t.Fatal(err)
	}
	return files[0].Name(), string(said)
}

// flowsOf runs read -flows over savefiles and returns what it prints, in a file.
func flowsOf(t *testing.T, files []string) string {
	t.Helper()
	stdout, _ := readInto(t, append([]string{"-flows"}, files...)...)
	return stdout
}

// TestHoldGivesWholeFlows filters savefiles by every name that their flows have: what comes out is all packets of these flows, those before the verdict too.
func TestHoldGivesWholeFlows(t *testing.T) {
	files, _ := filepath.Glob(filepath.Join(need.Corpus(t), "l7/pcap/*"))
	for i, file := range files {
		if i%holdFiles != 0 {
			continue
		}
		want := make(map[string]int)
		for _, r := range table(t, flowsOf(t, []string{file})) {
			n, _ := strconv.Atoi(r["packets"])
			proto, _ := protocol.Lookup(r["protocol"])
			app, _ := protocol.Lookup(r["app"])
			for _, p := range protocol.Protocols() {
				if r["state"] != "guessed" && (l7.Verdict{Proto: proto, App: app, State: l7.Final}).Is(p.ID) {
					want[p.Name] += n
				}
			}
		}
		for name, n := range want {
			_, said := readInto(t, "-filter", fmt.Sprintf("l7Protocol == %q", name), "-w", "/dev/null", file)
			n -= endedBySilence[filepath.Base(file)]
			if !strings.Contains(said, fmt.Sprintf("captured=%d dropped=0 ", n)) {
				t.Errorf("%s: flows of %s have %d packets, and the filter gives %s", filepath.Base(file), name, n, said)
			}
		}
	}
}

// TestGuessesDecideOnlyWhereWanted filters by what the list of flows guesses.
func TestGuessesDecideOnlyWhereWanted(t *testing.T) {
	file := filepath.Join(need.Corpus(t), "l7/pcap/synscan.pcap")
	config := filepath.Join(t.TempDir(), "galvo.toml")
	if err := os.WriteFile(config, []byte("[engine]\nguesses = true\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	guessed, all := 0, 0
	for _, r := range table(t, flowsOf(t, []string{file})) {
		n, _ := strconv.Atoi(r["packets"])
		if all += n; r["protocol"] == "VNC" {
			if r["state"] != "guessed" {
				t.Errorf("%v is no guess", r)
			}
			guessed += n
		}
	}
	if guessed == 0 {
		t.Fatal("nothing is guessed")
	}
	for _, c := range []struct {
		filter string
		wanted bool
		want   int
	}{
		{"l7Protocol == VNC", false, 0}, {"l7Protocol == VNC", true, guessed}, {"l7Protocol != VNC", false, all}, {"l7Protocol != VNC", true, all - guessed},
	} {
		args := []string{"-filter", c.filter, "-w", "/dev/null", file}
		if c.wanted {
			args = append([]string{"-config", config}, args...)
		}
		if _, said := readInto(t, args...); !strings.Contains(said, fmt.Sprintf("captured=%d ", c.want)) {
			t.Errorf("%s, guesses wanted %v: %s, want %d", c.filter, c.wanted, said, c.want)
		}
	}
}

// TestFilterSettings filters a tunnelled packet, a later fragment and an SCTP packet as the configuration says.
func TestFilterSettings(t *testing.T) {
	ip := func(proto byte, id, offset uint16, a, b byte, payload string) string {
		return string([]byte{0x45, 0, 0, byte(20 + len(payload)), byte(id >> 8), byte(id), byte(offset >> 8), byte(offset), 64, proto, 0, 0, 10, 0, 0, a, 10, 0, 0, b}) + payload
	}
	udp := "\x00\x50\x1f\x90\x00\x10\x00\x0012345678"
	file := []byte("\xd4\xc3\xb2\xa1\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\x00\x00\x65\x00\x00\x00") // microseconds, raw IP
	for _, frame := range []string{
		ip(4, 1, 0, 1, 2, ip(17, 2, 0, 3, 4, udp)),
		ip(17, 3, 0x2000, 5, 6, udp), ip(17, 3, 2, 5, 6, "12345678"),
		ip(132, 4, 0, 7, 8, "\x00\x50\x1f\x90\x00\x00\x00\x00\x00\x00\x00\x00"),
	} {
		file = append(file, 0, 0, 0, 0, 0, 0, 0, 0, byte(len(frame)), 0, 0, 0, byte(len(frame)), 0, 0, 0)
		file = append(file, frame...)
	}
	dir := t.TempDir()
	name, config := filepath.Join(dir, "a.pcap"), filepath.Join(dir, "galvo.toml")
	if err := os.WriteFile(name, file, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		settings, filter string
		want             int
	}{
		{"", "ip == 10.0.0.3", 0}, {"", "ip == 10.0.0.1", 1}, {"", "port == 80", 2},
		{`tunnelView = "inner"`, "ip == 10.0.0.3", 1}, {`tunnelView = "inner"`, "ip == 10.0.0.1", 0}, {`tunnelView = "inner"`, "port == 80", 3},
		{`tunnelView = "any"`, "ip == 10.0.0.3", 1}, {`tunnelView = "any"`, "ip == 10.0.0.1", 1},
		{`fragments = "none"`, "port == 80", 1}, {"sctpPorts = true", "port == 80", 3},
	} {
		if err := os.WriteFile(config, []byte("[filter]\n"+c.settings+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, said := readInto(t, "-config", config, "-filter", c.filter, "-w", "/dev/null", name); !strings.Contains(said, fmt.Sprintf("captured=%d ", c.want)) {
			t.Errorf("%s with %q: %s, want %d", c.filter, c.settings, said, c.want)
		}
	}
}

// endedBySilence are packets of flows without a verdict, because they came so long after the others of their 5-tuple that they began a flow of their own: the list of flows has
// one row for both.
var endedBySilence = map[string]int{"kafka.pcapng": 1}

// TestFlowsOnce wants one row for a 5-tuple that was silent for so long that the flow table has ended it, and the verdict of the part that had one.
func TestFlowsOnce(t *testing.T) {
	query := "\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03www\x06google\x03com\x00\x00\x01\x00\x01"
	file := []byte("\xd4\xc3\xb2\xa1\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\x00\x00\x65\x00\x00\x00") // microseconds, raw IP
	for i, payload := range []string{"?", query, query} {
		frame := []byte("\x45\x00\x00\x00\x00\x00\x00\x00\x40\x11\x00\x00\x0a\x00\x00\x01\x0a\x00\x00\x02\x9c\x40\x00\x35")
		frame = binary.BigEndian.AppendUint16(frame, uint16(8+len(payload)))
		frame = append(append(frame, 0, 0), payload...)
		frame[3] = byte(len(frame))
		for _, x := range [4]uint32{uint32(1e9 + 1000*i), 0, uint32(len(frame)), uint32(len(frame))} {
			file = binary.LittleEndian.AppendUint32(file, x)
		}
		file = append(file, frame...)
	}
	name := filepath.Join(t.TempDir(), "a.pcap")
	if err := os.WriteFile(name, file, 0o600); err != nil {
		t.Fatal(err)
	}
	rows := table(t, flowsOf(t, []string{name}))
	if len(rows) != 1 {
		t.Fatalf("%d rows: %v", len(rows), rows)
	}
	for column, want := range map[string]string{
		"file": "a.pcap", "l4": "udp", "ip_a": "10.0.0.1", "port_a": "40000", "ip_b": "10.0.0.2", "port_b": "53", "protocol": "DNS", "app": "Google",
		"hostname": "www.google.com", "category": "Web", "dpi_packets": "2", "packets": "3", "state": "final",
	} {
		if got := rows[0][column]; got != want {
			t.Errorf("%s is %q, want %q", column, got, want)
		}
	}
}

// TestFlows holds the figures of merit over the corpus with per-flow truth, computed by the scorer that lies beside it.
func TestFlows(t *testing.T) {
	corpus, python := need.Corpus(t), need.Tool(t, "python3")
	scorer := filepath.Join(corpus, "../tools/l7truth.py")
	if _, err := os.Stat(scorer); err != nil {
		need.Missing(t, "corpus", "no scorer beside it")
	}
	files, _ := filepath.Glob(filepath.Join(corpus, "l7/pcap/*"))
	truth, got := filepath.Join(corpus, "l7/truth.csv"), flowsOf(t, files)
	b, err := exec.Command(python, scorer, "score", "--truth", truth, "--got", got).Output()
	if err != nil {
		t.Fatalf("%s: %v", scorer, err)
	}
	var figures map[string]float64
	if err := json.Unmarshal(b, &figures); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	for _, c := range []struct {
		name            string
		atLeast, atMost float64
		whatIsIt        string
	}{
		{"capped_carrier_dpi_pct", 90, 100, "carrier right"},
		{"capped_full_dpi_pct", 75, 100, "carrier and application right"},
		{"capped_unknown_but_named_pct", 0, 8, "named what the reference leaves unknown"},
		{"hostname_web_pct", 95, 100, "host names of TLS, QUIC and HTTP"},
		{"detected_not_later_pct", 95, 100, "decided no later than the reference"},
		{"surplus_rows", 0, 0, "more rows than flows"},
	} {
		v, ok := figures[c.name]
		t.Logf("%s: %.2f", c.whatIsIt, v)
		if !ok || v < c.atLeast || v > c.atMost {
			t.Errorf("%s: %v, want %v to %v", c.whatIsIt, v, c.atLeast, c.atMost)
		}
	}
	checkNamed(t, truth, got)
}

// checkNamed holds each name of a flow that the reference leaves unknown against the table of those that are right all the same. Guesses need no reason: they
// say that they are guesses.
func checkNamed(t *testing.T, truth, got string) {
	t.Helper()
	reasons := make(map[string]bool)
	for _, r := range table(t, "testdata/named.csv") {
		reasons[r["protocol"]] = true
	}
	key := func(file, l4, a, ap, b, bp string) string {
		if a+ap > b+bp {
			a, ap, b, bp = b, bp, a, ap
		}
		return strings.Join([]string{file, l4, a, ap, b, bp}, " ")
	}
	unknown := make(map[string]bool)
	for _, r := range table(t, truth) {
		if r["protocol"] == "Unknown" {
			unknown[key(r["file"], r["l4"], r["src"], r["sport"], r["dst"], r["dport"])] = true
		}
	}
	for _, r := range table(t, got) {
		flow := key(r["file"], r["l4"], r["ip_a"], r["port_a"], r["ip_b"], r["port_b"])
		if unknown[flow] && r["protocol"] != "Unknown" && r["state"] != "guessed" && !reasons[r["protocol"]] {
			t.Errorf("%s is %s %s, and the reference leaves it unknown: say why in testdata/named.csv, or mend it", flow, r["protocol"], r["app"])
		}
	}
}

// table reads a CSV file with a heading.
func table(t *testing.T, name string) (rows []map[string]string) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	r := csv.NewReader(bytes.NewReader(bytes.ReplaceAll(b, []byte{0}, nil)))
	r.LazyQuotes = true
	head, err := r.Read()
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	for {
		line, err := r.Read()
		if err == io.EOF {
			return rows
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		row := make(map[string]string)
		for i, h := range head {
			row[h] = line[i]
		}
		rows = append(rows, row)
	}
}
