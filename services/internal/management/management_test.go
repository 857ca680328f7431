package management

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"galvo/services/internal/dhcp"
)

// A lease is remembered for the link that had it, and until it runs out.
func TestLeaseFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "lease")
	const mac = "02:00:00:00:00:01"
	l := &dhcp.Lease{Address: netip.MustParsePrefix("10.0.0.1/24"), Expire: time.Now().Add(time.Hour), DNS: []netip.Addr{netip.MustParseAddr("10.0.0.53")}}
	if err := writeLease(file, mac, l); err != nil {
		t.Fatal(err)
	}
	if got := readLease(file, mac); got == nil || got.Address != l.Address || len(got.DNS) != 1 {
		t.Errorf("read %+v", got)
	}
	if got := readLease(file, "02:00:00:00:00:02"); got != nil {
		t.Errorf("another link has %+v", got)
	}
	l.Expire = time.Now().Add(-time.Second)
	if err := writeLease(file, mac, l); err != nil || readLease(file, mac) != nil {
		t.Errorf("a lease that ran out is remembered: %v", err)
	}
	for range 2 {
		if err := writeLease(file, mac, nil); err != nil {
			t.Error(err)
		}
	}
	if err := os.WriteFile(file, []byte("nonsense"), 0o600); err != nil || readLease(file, mac) != nil {
		t.Errorf("nonsense is a lease: %v", err)
	}
}

// What the kernel makes by itself is not removed, everything else that nobody wants is.
func TestOurs(t *testing.T) {
	l := Link{MAC: "02:00:00:00:00:01"}
	tests := []struct {
		address string
		flags   int
		want    bool
	}{
		{"10.0.0.1/24", unix.IFA_F_PERMANENT, true},
		{"169.254.1.1/16", 0, true},
		{"fe80::1/64", unix.IFA_F_PERMANENT, false},
		{"2001:db8::5/64", unix.IFA_F_PERMANENT, true},
		{"2001:db8::5/64", 0, false},
		{"2001:db8::ff:fe00:1/64", unix.IFA_F_PERMANENT, false}, // advertised as valid for ever
	}
	for _, test := range tests {
		if got := ours(l, netip.MustParsePrefix(test.address), test.flags); got != test.want {
			t.Errorf("%s, flags %x: %t", test.address, test.flags, got)
		}
	}
}
