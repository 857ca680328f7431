package country

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/klauspost/compress/zstd"

	"galvo/ci/need"
)

const small4 = "# comment\n16777216,16777471,AU\n16777472,16778239,CN\n134744072,134744072,US\n134744074,4294967295,DE\n"
const small6 = "#\n2001:200::,2001:200:ffff:ffff:ffff:ffff:ffff:ffff,JP\n2a00::,2a00:1::,DE\n2a00:1::1,2a00:1::ff,??\n2a00:1::100,2a0f:ffff:ffff:ffff:ffff:ffff:ffff:ffff,FR\n"

func load(t testing.TB, v4, v6 string) *Table {
	t.Helper()
	table, err := Load(strings.NewReader(v4), strings.NewReader(v6))
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// name looks an address up.
func (t *Table) name(a netip.Addr) string {
	h := halves(a)
	code, ok := t.Lookup6(h.hi, h.lo)
	if a.Is4() {
		code, ok = t.Lookup4(uint32(h.lo))
	}
	if ok != (len(Name(code)) == 2) {
		return fmt.Sprintf("%s with ok %v", Name(code), ok)
	}
	return Name(code)
}

func TestLookup(t *testing.T) {
	table := load(t, small4, small6)
	for _, test := range []struct{ address, want string }{
		{"0.0.0.0", "private"}, {"1.0.0.0", "AU"}, {"1.0.0.255", "AU"}, {"1.0.1.0", "CN"}, {"1.0.3.255", "CN"}, {"1.0.4.0", "unknown"},
		{"8.8.8.7", "unknown"}, {"8.8.8.8", "US"}, {"8.8.8.9", "unknown"}, {"8.8.8.10", "DE"}, {"9.255.255.255", "DE"}, {"10.0.0.0", "private"},
		{"10.255.255.255", "private"}, {"11.0.0.0", "DE"}, {"100.63.255.255", "DE"}, {"100.64.0.0", "private"}, {"100.128.0.0", "DE"}, {"127.0.0.1", "private"},
		{"169.254.1.1", "private"}, {"172.15.255.255", "DE"}, {"172.31.255.255", "private"}, {"172.32.0.0", "DE"}, {"192.168.1.1", "private"},
		{"223.255.255.255", "DE"}, {"224.0.0.1", "private"}, {"255.255.255.255", "private"},
		{"::", "private"}, {"::1", "private"}, {"::2", "unknown"}, {"2001:1ff:ffff::", "unknown"}, {"2001:200::", "JP"}, {"2001:200:ffff:ffff::1", "JP"}, {"2001:201::", "unknown"},
		{"2001:db8::1", "private"}, {"2a00::1", "DE"}, {"2a00:1::", "DE"}, {"2a00:1::1", "unknown"}, {"2a00:1::ff", "unknown"}, {"2a00:1::100", "FR"},
		{"2a0f:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "FR"}, {"2a10::", "unknown"}, {"fc00::", "private"}, {"fdff::1", "private"}, {"fe80::1", "private"}, {"fe00::1", "unknown"},
		{"fec0::1", "private"}, {"ff02::1", "private"}, {"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "private"},
	} {
		if got := table.name(netip.MustParseAddr(test.address)); got != test.want {
			t.Errorf("%s has %s, want %s", test.address, got, test.want)
		}
	}
	if got := fmt.Sprint(table.Codes()); got != "[AU CN DE FR JP US]" {
		t.Errorf("Codes() = %s", got)
	}
}

// TestRanges checks that the ranges cover all addresses and agree with the look-ups.
// The files may be compressed, as an appliance has them.
func TestCompressed(t *testing.T) {
	dir := t.TempDir()
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{file4: small4, file6: small6} {
		if err := os.WriteFile(filepath.Join(dir, name+".zst"), z.EncodeAll([]byte(text), nil), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	table, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got := table.name(netip.MustParseAddr("2a00:1::100")); got != "FR" {
		t.Errorf("an address has %s", got)
	}
	if err := os.WriteFile(filepath.Join(dir, file6+".zst"), []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir); err == nil {
		t.Error("a damaged file was read")
	}
}

func TestRanges(t *testing.T) {
	table := load(t, small4, small6)
	next := netip.MustParseAddr("0.0.0.0")
	for r := range table.Ranges() {
		if r.First.Is6() && next == (netip.Addr{}) {
			next = netip.IPv6Unspecified()
		}
		if r.First != next || r.Last.Less(r.First) {
			t.Errorf("range %v-%v, want one from %v on", r.First, r.Last, next)
		}
		for _, a := range []netip.Addr{r.First, r.Last} {
			if got := table.name(a); got != Name(r.Code) {
				t.Errorf("%v has %s, its range %s", a, got, Name(r.Code))
			}
		}
		next = r.Last.Next()
	}
	if next.IsValid() {
		t.Errorf("the ranges end before %v", next)
	}
}

func TestParse(t *testing.T) {
	for _, test := range []struct{ name, want string }{{"de", "DE"}, {"US", "US"}, {"Private", "private"}, {"UNKNOWN", "unknown"}} {
		code, err := Parse(test.name)
		if err != nil || Name(code) != test.want {
			t.Errorf("Parse(%q) = %s, %v; want %s", test.name, Name(code), err, test.want)
		}
	}
	for _, name := range []string{"", "d", "deu", "d1", "??", "é"} {
		if code, err := Parse(name); err == nil {
			t.Errorf("Parse(%q) = %s, want an error", name, Name(code))
		}
	}
}

func TestLoadErrors(t *testing.T) {
	for _, test := range []struct{ v4, v6, want string }{
		{"", small6, "IPv4: no ranges"},
		{small4, "# nothing\n", "IPv6: no ranges"},
		{"1,2\n", small6, "IPv4: line 1: want first"},
		{"#\n1,x,DE\n", small6, "line 2: want first"},
		{"1,4294967296,DE\n", small6, "line 1: want first"},
		{"5,4,DE\n", small6, "line 1: range out of order"},
		{"1,5,DE\n5,6,DE\n", small6, "line 2: range out of order"},
		{small4 + "1,2,DE\n", small6, "range out of order"},
		{small4, "1::2::3,4::,DE\n", "IPv6: line 1: want first"},
		{small4, "1:2:3,4::,DE\n", "IPv6: line 1: want first"},
		{small4, "1::,4::,D", "IPv6: line 1: want first"},
	} {
		_, err := Load(strings.NewReader(test.v4), strings.NewReader(test.v6))
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("Load(%q, %q): %v, want %q", test.v4, test.v6, err, test.want)
		}
	}
	if _, err := Open(t.TempDir()); err == nil || !strings.Contains(err.Error(), "apt-get install tor-geoipdb") {
		t.Errorf("Open of an empty directory: %v, want the command that installs the data", err)
	}
}

// FuzzParse6 compares the reader of addresses with net/netip.
func FuzzParse6(f *testing.F) {
	for _, s := range []string{"::", "::1", "1::", "1:2:3:4:5:6:7:8", "2001:db8::1:0", "1::2::3", ":::", "1:", ":1", "12345::", "1:2:3:4:5:6:7::", "::2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8:9", "g::"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if strings.ContainsAny(s, ",.%") {
			return
		}
		want, err := netip.ParseAddr(s)
		got, rest, ok := parse6([]byte(s + ",x"))
		if ok != (err == nil) || ok && (got != halves(want) || string(rest) != "x") {
			t.Errorf("parse6(%q) = %x, %v; netip says %v, %v", s, got, ok, want, err)
		}
	})
}

// FuzzLoad loads anything, which must end with an error or with ranges in order.
func FuzzLoad(f *testing.F) {
	f.Add(small4, small6)
	f.Add("0,4294967295,DE", "::,ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff,DE")
	f.Add("1,", "1:")
	f.Fuzz(func(t *testing.T, v4, v6 string) {
		table, err := Load(strings.NewReader(v4), strings.NewReader(v6))
		if err != nil {
			return
		}
		for r := range table.Ranges() {
			if got := table.name(r.First); got != Name(r.Code) && len(Name(r.Code)) == 2 || r.Last.Less(r.First) {
				t.Errorf("range %v-%v has %s, its first address %s", r.First, r.Last, Name(r.Code), got)
			}
		}
	})
}

// installed is the table of the installed data; without it the test is skipped.
var installed = sync.OnceValues(func() (*Table, error) { return Open("") })

func data(t testing.TB) *Table {
	t.Helper()
	table, err := installed()
	if err != nil {
		need.Missing(t, "tor-geoipdb", err.Error())
	}
	return table
}

// TestInstalled looks up the first and the last address of every line of the installed files.
func TestInstalled(t *testing.T) {
	table := data(t)
	for _, name := range []string{file4, file6} {
		f, err := os.Open(filepath.Join(directories[0], name))
		if err != nil {
			need.Missing(t, "tor-geoipdb", err.Error())
		}
		defer f.Close()
		wrong, lines := 0, 0
		for scan := bufio.NewScanner(f); scan.Scan(); {
			fields := strings.Split(scan.Text(), ",")
			if len(fields) != 3 {
				continue
			}
			lines++
			want := strings.Replace(fields[2], "??", "unknown", 1)
			for _, text := range fields[:2] {
				var a netip.Addr
				if name == file6 {
					a = netip.MustParseAddr(text)
				} else {
					var n uint32
					fmt.Sscan(text, &n)
					a = address4(n)
				}
				if got := table.name(a); got != want && got != "private" {
					if wrong++; wrong < 10 {
						t.Errorf("%v has %s, the file says %s", a, got, want)
					}
				}
			}
		}
		if lines < 100000 {
			t.Errorf("%s has only %d lines", name, lines)
		}
	}
	if n := testing.AllocsPerRun(100, func() { table.Lookup4(0x08080808); table.Lookup6(0x2a00145040010800, 1) }); n != 0 {
		t.Errorf("look-ups allocate %v times, want 0", n)
	}
}

func BenchmarkLoad(b *testing.B) {
	data(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Open(""); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkLookup looks up addresses that are spread evenly over the ranges, so that none is in the cache.
func BenchmarkLookup(b *testing.B) {
	table := data(b)
	r := rand.New(rand.NewPCG(1, 2))
	const count = 1 << 16
	var a4 [count]uint32
	var a6 [count]addr
	for i := range count {
		a4[i] = table.ranges4[r.IntN(len(table.ranges4))].first
		a6[i] = table.ranges6[r.IntN(len(table.ranges6))].first
	}
	b.Run("4", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			table.Lookup4(a4[i%count])
		}
	})
	b.Run("6", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			table.Lookup6(a6[i%count].hi, a6[i%count].lo)
		}
	})
	b.Run("4 random", func(b *testing.B) {
		for range b.N {
			table.Lookup4(r.Uint32())
		}
	})
}
