package pcapng

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"galvo/ci/need"
)

// run returns what a program prints about a savefile on its standard input or among its arguments.
func run(t *testing.T, stdin []byte, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(need.Tool(t, name), args...)
	cmd.Stdin = bytes.NewReader(stdin)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(cmd.Args, " "), err, &stderr)
	}
	return string(out)
}

// TestTshark shows the golden savefile to tshark, field by field.
func TestTshark(t *testing.T) {
	fields := []string{
		"frame.interface_name", "frame.interface_description", "frame.time_epoch", "frame.cap_len", "frame.len", "frame.packet_flags_direction",
		"frame.packet_flags_crc_error", "eth.fcs", "eth.fcs.status", "frame.comment", "ip.dst",
	}
	args := []string{"-n", "-r", "-", "-o", "eth.check_fcs:TRUE", "-T", "fields", "-E", "separator=|"}
	for _, f := range fields {
		args = append(args, "-e", f)
	}
	want := strings.Join([]string{
		"eth1|uplink|1700000000.123456789|43|43|0x00000001|0||||10.0.0.2",
		"eth2||1700000000.123456790|47|47|0x00000002|1|0xaabbccdd|0|wrong FCS|10.0.0.2",
		"eth1|uplink|1700000001.000000000|40|1514||||||10.0.0.2", "",
	}, "\n")
	if diff := cmp.Diff(want, run(t, golden(), "tshark", args...)); diff != "" {
		t.Errorf("tshark (-want +got):\n%s", diff)
	}
}

// TestCapinfos shows the golden savefiles to capinfos, which is strict about options.
func TestCapinfos(t *testing.T) {
	out := run(t, nil, "capinfos", "-A", filepath.Join("testdata", "golden.pcapng"))
	for _, want := range []string{
		"Number of packets:   3", "Capture hardware:    lab box", "Capture oper-sys:    Linux", "Capture application: galvo",
		"Capture comment:     Straße 7", "Speed = 10000000000", "FCS length = 0", "FCS length = 4", "Filter string = ip == 10.0.0.1",
		"Time precision = nanoseconds (9)", "Number of stat entries = 1",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("capinfos does not say %q:\n%s", want, out)
		}
	}
	for name, want := range map[string]string{"golden-us.pcap": "microseconds (6)", "golden-ns.pcap": "nanoseconds (9)"} {
		out := run(t, nil, "capinfos", "-t", "-c", "-M", filepath.Join("testdata", name))
		if !strings.Contains(out, "Number of packets:   2") || !strings.Contains(run(t, nil, "capinfos", filepath.Join("testdata", name)), want) {
			t.Errorf("capinfos of %s:\n%s", name, out)
		}
	}
}

// TestOptions lets tshark dissect the golden savefile as a file: every block, with every option as it understands it.
func TestOptions(t *testing.T) {
	out := run(t, golden(), "tshark", "-n", "-r", "-", "-X", "read_format:MIME Files Format", "-V")
	var got []string
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		line, option := strings.CutPrefix(line, "Option: ")
		if (option || strings.HasPrefix(line, "Block: ")) && line != "End of Options" {
			got = append(got, line)
		}
		if strings.Contains(line, "Malformed") || strings.Contains(line, "Expert") {
			t.Errorf("tshark: %s", line)
		}
	}
	want := []string{
		"Block: Section Header Block 1",
		"Hardware Description = lab box", "OS Description = Linux", "User Application = galvo", "Comment = Straße 7",
		"Block: Interface Description Block 0",
		"Interface Name = eth1", "Interface Description = uplink", "MAC Address = 02:00:00:00:00:01", "Speed = 10000000000",
		"Timestamp Resolution = 10^-9 (nanoseconds)", "Filter = ip == 10.0.0.1", "FCS Length = 0",
		"Block: Interface Description Block 1",
		"Interface Name = eth2", "Timestamp Resolution = 10^-9 (nanoseconds)", "FCS Length = 4",
		"Block: Enhanced Packet Block 1", "Flags",
		"Block: Enhanced Packet Block 2", "Flags", "Comment = wrong FCS",
		"Block: Enhanced Packet Block 3",
		"Block: Interface Statistics Block",
		"Comment = 13 ignored", "Start Time", "End Time", "Number of Received Packets = 20", "Number of Dropped Packets = 3",
		"Number of Accepted Packets = 4", "Number of Packets Dropped by OS = 2", "Number of Packets Delivered to the User = 2",
		"Block: Interface Statistics Block",
		"Start Time", "End Time", "Number of Received Packets = 0", "Number of Dropped Packets = 0",
		"Number of Accepted Packets = 0", "Number of Packets Dropped by OS = 0", "Number of Packets Delivered to the User = 0",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("tshark (-want +got):\n%s", diff)
	}
}

// TestLibpcap shows the golden savefiles to tcpdump, whose libpcap takes only savefiles whose interfaces agree.
func TestLibpcap(t *testing.T) {
	for name, want := range map[string]string{
		"golden.pcapng":  "1700000000.123456789",
		"golden-us.pcap": "1700000000.123456",
		"golden-ns.pcap": "1700000000.123456789",
	} {
		args := []string{"-n", "-tt", "-q", "-r", filepath.Join("testdata", name)}
		if name != "golden-us.pcap" {
			args = append(args, "--nano")
		}
		out := run(t, nil, "tcpdump", args...)
		if first, _, _ := strings.Cut(out, " "); first != want {
			t.Errorf("%s: tcpdump says\n%s", name, out)
		}
	}
}

// TestWiretap reads real savefiles as Wireshark's library does: editcap writes what it found, in one byte order and without the
// blocks that are no packets.
func TestWiretap(t *testing.T) {
	editcap := need.Tool(t, "editcap")
	files, _ := filepath.Glob(filepath.Join(need.Corpus(t), "protocols", "*.pcap*"))
	more, _ := filepath.Glob(filepath.Join(need.Corpus(t), "l7", "pcap", "*"))
	refused := 0
	for _, name := range append(files, more...) {
		ours, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(editcap, "-F", "pcapng", name, "-")
		var stderr strings.Builder
		cmd.Stderr = &stderr
		theirs, err := cmd.Output()
		if len(theirs) == 0 {
			refused++ // custom blocks and systemd journals count as packets there, and cannot be written again
			continue
		}
		want, _, _ := readAll(t, bytes.NewReader(theirs))
		got, _, gotErr := readAll(t, bytes.NewReader(ours))
		if damaged := err != nil || stderr.Len() > 0; damaged != (gotErr != io.EOF) {
			t.Errorf("%s: we say %v, editcap says %v: %s", filepath.Base(name), gotErr, err, &stderr)
		}
		if diff := cmp.Diff(plain(want), plain(got)); diff != "" {
			t.Errorf("%s (-editcap +ours):\n%.2000s", filepath.Base(name), diff)
		}
	}
	if all := len(files) + len(more); all < 100 || refused > all/20 {
		t.Errorf("editcap refused %d of %d savefiles", refused, all)
	}
}

// plain leaves out the interface: editcap may number interfaces anew.
func plain(frames []frame) []frame {
	for i := range frames {
		frames[i].Iface = 0
	}
	return frames
}
