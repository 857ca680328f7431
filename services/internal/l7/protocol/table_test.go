package protocol

import "testing"

func TestLookup(t *testing.T) {
	for name, want := range map[string]ID{"dns": DNS, "SSL": TLS, "MDNS": MDNS, "profinet": PROFINET, "ptp": PTP, "IcmpV6": ICMPv6, "pim": PIM, "socks": SOCKS, "smtp": 256} {
		if got, ok := Lookup(name); !ok || got != want {
			t.Errorf("Lookup(%q) = %v, %v; want %v", name, got, ok, want)
		}
	}
	if id, ok := Lookup("no such protocol"); ok {
		t.Errorf("Lookup of nonsense = %v", id)
	}
	if got := Nearest("htpt", 3); len(got) == 0 || got[0] != "HTTP" {
		t.Errorf("Nearest(htpt) = %q; want HTTP first", got)
	}
	if got := Nearest("xyzzyplugh", 3); len(got) != 0 {
		t.Errorf("Nearest of nonsense = %q", got)
	}
}

func TestTable(t *testing.T) {
	seen := make(map[string]ID)
	for i, p := range Protocols() {
		if i > 0 && p.ID <= Protocols()[i-1].ID || p.Name == "" || p.Category == "" || p.Layer == 0 {
			t.Errorf("row %d is not complete or out of order: %+v", i, p)
		}
		if p.Master == p.ID || p.Master != 0 && Name(p.Master) == "" {
			t.Errorf("%s: master %d", p.Name, p.Master)
		}
		for _, n := range append([]string{p.Name}, p.Aliases...) {
			if id, ok := Lookup(n); !ok || id != p.ID {
				t.Errorf("Lookup(%q) = %v, want %s", n, Name(id), p.Name)
			}
			seen[n] = p.ID
		}
	}
}
