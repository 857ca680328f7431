package flow

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"galvo/ci/need"
	"galvo/services/internal/packet"
	"galvo/services/internal/pcapng"
)

// l4Names are the protocols that the truth names instead of numbering.
var l4Names = map[uint8]string{1: "icmp", 2: "igmp", 6: "tcp", 17: "udp", 58: "icmp6", 132: "sctp", 47: "gre", 50: "esp", 51: "ah", 89: "ospf", 103: "pim", 112: "vrrp", 4: "ipip"}

// flowKey names a flow whichever side is first.
func flowKey(l4 string, a, b netip.AddrPort) string {
	if b.Compare(a) < 0 {
		a, b = b, a
	}
	return fmt.Sprint(l4, " ", a, " ", b)
}

func (r *Record) key() string {
	end := func(i int) netip.AddrPort {
		a := netip.AddrFrom16(r.Addr[i])
		if r.Flags&V6 == 0 {
			a = netip.AddrFrom4([4]byte(r.Addr[i][:4]))
		}
		return netip.AddrPortFrom(a, r.Port[i])
	}
	l4 := l4Names[r.Proto]
	if l4 == "" {
		l4 = strconv.Itoa(int(r.Proto))
	}
	return flowKey(l4, end(0), end(1))
}

// flowsOf returns the packets of each flow of a savefile.
func flowsOf(t *testing.T, name string) map[string]int {
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	reader, err := pcapng.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	flows := map[string]int{}
	count := func(r *Record) {
		if r.Flags&Outside == 0 {
			flows[r.key()] += int(r.Packets[0]) + int(r.Packets[1])
		}
	}
	table := New(Config{Flows: 4096, OnEnd: count})
	batch := make([]packet.Packet, 256)
	for {
		n, err := reader.Read(batch)
		table.Begin()
		for i := range batch[:n] {
			p := &batch[i]
			p.Decode(reader.Interfaces()[p.Iface].Link)
			table.Find(p)
		}
		if damage := new(pcapng.Error); err == io.EOF || errors.As(err, &damage) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	for r := range table.All() {
		count(r)
	}
	return flows
}

// TestTruth compares the flows of the layer-7 corpus with those that its reference found: their 5-tuples, and their packets. The reference
// counts no later fragments, and reads nonsense differently in the captures that were damaged on purpose.
func TestTruth(t *testing.T) {
	dir := filepath.Join(need.Corpus(t), "l7")
	f, err := os.Open(filepath.Join(dir, "truth.csv"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]map[string]int{}
	for _, row := range rows[1:] {
		src, err1 := netip.ParseAddr(row[2])
		dst, err2 := netip.ParseAddr(row[4])
		if err1 != nil || err2 != nil { // the reference prints some addresses short
			continue
		}
		sport, _ := strconv.Atoi(row[3])
		dport, _ := strconv.Atoi(row[5])
		ab, _ := strconv.Atoi(row[13])
		ba, _ := strconv.Atoi(row[15])
		if want[row[0]] == nil {
			want[row[0]] = map[string]int{}
		}
		want[row[0]][flowKey(row[1], netip.AddrPortFrom(src, uint16(sport)), netip.AddrPortFrom(dst, uint16(dport)))] += ab + ba
	}
	var flows, missing, surplus, differ int
	for file, want := range want {
		got := flowsOf(t, filepath.Join(dir, "pcap", file))
		flows += len(want)
		for k, n := range want {
			switch {
			case got[k] == 0:
				missing++
				t.Logf("%s: no flow %s of %d packets", file, k, n)
			case got[k] != n:
				differ++
				t.Logf("%s: flow %s has %d packets, reference %d", file, k, got[k], n)
			}
		}
		for k, n := range got {
			if want[k] == 0 {
				surplus++
				t.Logf("%s: flow %s of %d packets is not in the reference", file, k, n)
			}
		}
	}
	t.Logf("%d flows: %d missing, %d not in the reference, %d with other packets, which are later fragments", flows, missing, surplus, differ)
	if missing > flows/500 || surplus > flows/500 || differ > flows/20 {
		t.Error("too many flows differ from the reference")
	}
}
