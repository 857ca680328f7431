package countrytest

import (
	"bytes"
	"context"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"galvo/ci/need"
	"galvo/services/internal/country"
)

// TestTshark asks tshark for the country of random addresses, in packets of a savefile made here, and compares.
func TestTshark(t *testing.T) {
	tshark := need.Tool(t, "tshark")
	table, err := country.Open("")
	if err != nil {
		need.Missing(t, "tor-geoipdb", err.Error())
	}
	if out, _ := exec.Command(tshark, "-v").Output(); !bytes.Contains(out, []byte("with MaxMind")) {
		need.Missing(t, "tshark", "it is built without MaxMind DB")
	}
	var ranges []country.Range
	for r := range table.Ranges() {
		ranges = append(ranges, r)
	}
	const count = 3000
	r := rand.New(rand.NewPCG(1, 2))
	file := binary.LittleEndian.AppendUint32(nil, 0xa1b2c3d4)
	file = append(file, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 101, 0, 0, 0) // raw IP
	var want []string
	for range count {
		picked := ranges[r.IntN(len(ranges))]
		address := picked.First
		if r.IntN(2) == 0 {
			address = picked.Last
		}
		want = append(want, "")
		if code := picked.Code; code != country.Private && code != country.Unknown {
			want[len(want)-1] = country.Name(code)
		}
		file = append(file, record(address.AsSlice())...)
	}
	dir := Profile(t, table)
	name := filepath.Join(dir, "addresses.pcap")
	if err := os.WriteFile(name, file, 0o644); err != nil {
		t.Fatal(err)
	}
	// Should mmdbresolve end early tshark waits for it without end.
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, tshark, "-r", name, "-T", "fields", "-e", "ip.geoip.src_country_iso", "-e", "ipv6.geoip.src_country_iso", "-e", "ip.src", "-e", "ipv6.src")
	cmd.Env = append(os.Environ(), "WIRESHARK_CONFIG_DIR="+dir)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("run tshark: %v", err)
	}
	lines := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
	if len(lines) != count {
		t.Fatalf("tshark shows %d packets of %d", len(lines), count)
	}
	wrong, coded := 0, 0
	for i, line := range lines {
		fields := strings.Split(line, "\t")
		if fields[0]+fields[1] != "" {
			coded++
		}
		if got := fields[0] + fields[1]; got != want[i] {
			if wrong++; wrong < 20 {
				t.Errorf("%s%s: tshark says %q, the table %q", fields[2], fields[3], got, want[i])
			}
		}
	}
	if coded < count/2 {
		t.Errorf("tshark knows the country of %d addresses of %d", coded, count)
	}
	t.Logf("%d addresses, %d with a country, %d wrong", count, coded, wrong)
}

// record is a packet of a savefile: an IP header without content, from the address.
func record(address []byte) []byte {
	packet := make([]byte, 40)
	packet[0], packet[6] = 0x60, 59 // no next header
	if len(address) == 16 {
		copy(packet[8:], address)
	} else {
		packet = packet[:20]
		copy(packet, []byte{0x45, 0, 0, 20, 0, 0, 0, 0, 64, 59})
		copy(packet[12:], address)
	}
	head := make([]byte, 8)
	head = binary.LittleEndian.AppendUint32(head, uint32(len(packet)))
	head = binary.LittleEndian.AppendUint32(head, uint32(len(packet)))
	return append(head, packet...)
}
