package config

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"galvo/services/api"
)

const example = `[device]
name = "galvo-lab"
[[port]]                 # in order: id 1, 2, ...
name = "eth1"            # or mac = "..." or pci = "..."
link = 1                 # two ports with the same number form a link
direction = "in"         # in | both
[[port]]
mac = "02:00:00:00:00:01"
link = 1
[[port]]
pci = "0000:01:00.0"
[[group]]                # first match wins; same key OR, different keys AND
name = "branch office"
interfaces = [1, 2]
vlans = [100, 200]
[[storage]]
name = "data"
directory = "data"       # below the state directory, or disk = "/dev/disk/by-id/..."
[captures]
max = 4                  # 4 to 64
splitBytes = 0
splitSeconds = 0
[rings]
max = 1
queueBytes = 256_000_000
reorderBytes = 512_000_000
`

func TestParse(t *testing.T) {
	got, err := Parse([]byte(example))
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Device.Name = "galvo-lab"
	want.Ports = []Port{{Name: "eth1", Link: 1, Direction: "in"}, {MAC: "02:00:00:00:00:01", Link: 1}, {PCI: "0000:01:00.0"}}
	want.Groups = []Group{{Name: "branch office", Interfaces: []int{1, 2}, VLANs: []int{100, 200}}}
	want.Storage = []Storage{{Name: "data", Directory: "data"}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// linked ends in the table of port b.
const linked = "[[port]]\nname = \"a\"\nlink = 1\n[[port]]\nname = \"b\"\nlink = 1\n"

func TestParseErrors(t *testing.T) {
	tests := []struct {
		text string
		line int
		want string // part of the message
	}{
		{"[captures]\nmax = 3\n", 2, "captures.max: 3 is not between 4 and 64"},
		{"[captures]\nmax = 65\n", 2, "between 4 and 64"},
		{"[captures]\n\nmax = \"many\"\n", 3, "captures.max"},
		{"[captures]\nmaxx = 4\n", 2, "did you mean max?"},
		{"[captures]\nMax = 4\n", 2, "did you mean max?"},
		{"[captures]\nsplitBytes = -1\n", 2, "captures.splitBytes: -1 is not between 0 and 9000000000000000000"},
		{"[capture]\nmax = 4\n", 1, "did you mean captures?"},
		{"\nname = \"x\"\n", 2, "no such setting"},
		{"[device]\nname = \"a b\"\n", 2, "not a host name"},
		{"[device\nname = \"a\"\n", 2, "to end table name"},
		{"\xff\xfe", 1, "not UTF-8"},
		{"[device]\nname = \"\xe4\"\n", 2, "not UTF-8"},
		{"[[port]]\nname = \"eth0\"\nmac = \"02:00:00:00:00:01\"\n", 1, "exactly one"},
		{"[[port]]\nname = \"a\"\n[[port]]\nname = \"b\"\nlink = 2\n", 5, "link 2 has 1 ports"},
		{"[[port]]\nname = \"a\"\n[[port]]\nname = \"a\"\n", 4, "port 1 is the same"},
		{"[[port]]\nname = \"a\"\ndirection = \"out\"\n", 3, "in or both"},
		{"[[port]]\nmac = \"nonsense\"\n", 2, "not a MAC address"},
		{"[[port]]\npci = \"1\"\n", 2, "not a PCI address"},
		{"[[port]]\nname = \"a/b\"\n", 2, "cannot be the name"},
		{"[[port]]\nname = \"a\"\nspeed = 1\n", 3, "no such setting"},
		{"[[group]]\nname = \"a\"\nvlans = [1]\n[[group]]\nname = \"A\"\nvlans = [2]\n", 5, "group 1 has this name"},
		{"[[group]]\nname = \"a\"\nvlans = [4096]\n", 3, "between 0 and 4095"},
		{"[[group]]\nname = \"a\"\ninterfaces = [0]\n", 3, "between 1 and 64"},
		{"[[group]]\nname = \"default\"\nvlans = [1]\n", 2, "choose another name"},
		{"[[group]]\nname = \"a\"\n", 1, "hide every group"},
		{"[[storage]]\nname = \"a\"\ndirectory = \"../x\"\n", 3, "below the state directory"},
		{"[[storage]]\nname = \"a\"\ndirectory = \"/x\"\n", 3, "below the state directory"},
		{"[[storage]]\nname = \"a\"\n", 1, "directory or a disk"},
		{"[[storage]]\nname = \"a/b\"\ndirectory = \"x\"\n", 2, "not a name"},
		{"[engine]\ngeoip = \"a\\u0001b\"\n", 2, "control characters"},
		{"[engine]\nl7 = 1\n", 2, "l7"},
		{"[filter]\ntunnelView = \"both\"\n", 2, `"both" is not one of outer, inner, any`},
		{"[filter]\nfragments = \"\"\n", 2, `"" is not one of first, none`},
		{"[engine]\nmemoryPercent = 4\n", 2, "between 5 and 90"},
		{"[management]\nport = \"a/b\"\n", 2, "cannot be a link"},
		{"[management]\nipv4 = \"on\"\n", 2, "dhcp, static, link-local, off"},
		{"[management]\nipv4 = \"static\"\n", 2, "static needs address"},
		{"[management]\nipv4 = \"static\"\naddress = \"10.0.0.1\"\n", 3, "length of its network"},
		{"[management]\nipv4 = \"static\"\naddress = \"10.0.0.0/24\"\n", 3, "address of the network itself"},
		{"[management]\nipv4 = \"static\"\naddress = \"10.0.0.255/24\"\n", 3, "address of the network itself"},
		{"[management]\nipv4 = \"static\"\naddress = \"127.0.0.1/8\"\n", 3, "cannot be the address of a device"},
		{"[management]\nipv4 = \"static\"\naddress = \"2001:db8::1/64\"\n", 3, "write 192.0.2.10/24"},
		{"[management]\nipv4 = \"static\"\naddress = \"10.0.0.1/24\"\ngateway = \"10.0.1.1\"\n", 4, "could not reach it"},
		{"[management]\nipv4 = \"static\"\naddress = \"10.0.0.1/24\"\ngateway = \"10.0.0.1\"\n", 4, "own address"},
		{"[management]\ngateway6 = \"fe80::1\"\n", 2, "needs address6"},
		{"[management]\nipv6 = \"static\"\naddress6 = \"10.0.0.1/24\"\n", 3, "write 2001:db8::10/64"},
		{"[management]\nipv4 = \"off\"\nipv6 = \"off\"\n", 3, "nobody reaches"},
		{"[management]\ndns = [\"a\"]\n", 2, "address of a name server"},
		{"[management]\ndns = [\"10.0.0.1\", \"10.0.0.2\", \"10.0.0.3\", \"10.0.0.4\"]\n", 2, "at most 3"},
		{"[clock]\nservers = [\"a b\"]\n", 2, "name or address of a server"},
		{"[clock]\nservers = [\"a\\u0001b\"]\n", 2, "control characters"},
		{"[clock]\ntimeZone = \"Mars\"\n", 2, "not a time zone"},
		{"[clock]\ntimeZone = \"../../etc/passwd\"\n", 2, "not a time zone"},
		{linked + "[[link]]\nnumber = 2\nmode = \"sink\"\n", 8, "no ports have link = 2"},
		{linked + "[[link]]\nnumber = 1\nmode = \"tap\"\n", 9, "sink or bridge"},
		{linked + "[[link]]\nnumber = 1\nmode = \"sink\"\n[[link]]\nnumber = 1\nmode = \"bridge\"\n", 11, "has this number already"},
		{linked + "fcs = true\n[[link]]\nnumber = 1\nmode = \"bridge\"\n", 7, "as good ones"},
		{linked + "direction = \"both\"\n[[link]]\nnumber = 1\nmode = \"bridge\"\n", 7, "captured twice"},
		{linked + "[[link]]\nnumber = 1\nmode = \"bridge\"\n[management]\nport = \"b\"\n", 6, "management port cannot"},
		{"[[port]]\nname = \"a\"\nmtu = 60\n", 3, "between 68 and 65535"},
		{strings.Repeat("#", maxText+1), 0, "at most"},
		{"[[group]]\nname = \"a\"\nvlans = [" + strings.Repeat("1,", maxList+1) + "]\n", 3, "at most 256"},
		{strings.Repeat("[[group]]\nname = \"a\"\nvlans = [1]\n", maxGroups+1), 1, "at most 100"},
	}
	for _, test := range tests {
		_, err := Parse([]byte(test.text))
		var e *Error
		if !errors.As(err, &e) {
			t.Errorf("%.60q is accepted: %v", test.text, err)
			continue
		}
		if e.Line != test.line || !strings.Contains(e.Error(), test.want) {
			t.Errorf("%.60q: %q, want %q on line %d", test.text, e, test.want, test.line)
		}
	}
}

// What Encode writes, Parse reads back, and each field of the file has its comment.
func TestEncode(t *testing.T) {
	c, err := Parse([]byte(example))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]*Config{"default": Default(), "example": c} {
		text := c.Encode()
		got, err := Parse(text)
		if err != nil {
			t.Fatalf("%s: %v\n%s", name, err, text)
		}
		if d := cmp.Diff(c, got, cmpopts.EquateEmpty()); d != "" {
			t.Errorf("%s: %s", name, d)
		}
		if again := got.Encode(); string(again) != string(text) {
			t.Errorf("%s: written twice:\n%s", name, cmp.Diff(string(text), string(again)))
		}
		if !strings.Contains(string(text), "# max is how many captures may run or wait at once, 4 to 64. Each costs queueBytes of memory.") {
			t.Errorf("%s: no comment above captures.max:\n%s", name, text)
		}
	}
}

// Every key of the schema has a manual, says when a change is in effect, and numbers have limits that the default is within.
func TestSchema(t *testing.T) {
	c := Default()
	c.Ports, c.Links, c.Groups, c.Storage = make([]Port, 1), make([]Link, 1), make([]Group, 1), make([]Storage, 1)
	for _, f := range c.fields() {
		if !slices.Contains([]string{"live", "restart", "reboot"}, f.takes()) {
			t.Errorf("%s takes %q", f.path, f.takes())
		}
		kind := f.spec.Type.Kind()
		if _, _, ok := f.limit(); !ok && (kind == reflect.Int || kind == reflect.Uint64 || kind == reflect.Slice) {
			t.Errorf("%s is a number without a limit", f.path)
		}
	}
	text := string(c.Encode())
	for parent, keys := range schema() {
		for _, k := range keys {
			if parent != "" && !strings.Contains(text, "# "+k+" ") {
				t.Errorf("%s.%s has no manual in the file", parent, k)
			}
		}
	}
}

func TestDiff(t *testing.T) {
	before, after := Default(), Default()
	before.Ports = []Port{{Name: "a"}, {Name: "b"}}
	after.Ports = []Port{{Name: "c"}}
	after.Captures.Max = 8
	after.Rings.QueueBytes = 2_000_000
	after.Groups = []Group{{Name: "g", VLANs: []int{1, 2}}}
	want := []api.ConfigChange{
		{Field: "port.1.name", Old: `"a"`, New: `"c"`, Takes: "live"},
		{Field: "group.1.name", New: `"g"`, Takes: "live"},
		{Field: "group.1.vlans", New: "[1, 2]", Takes: "live"},
		{Field: "captures.max", Old: "4", New: "8", Takes: "live"},
		{Field: "rings.queueBytes", Old: "256000000", New: "2000000", Takes: "restart"},
		{Field: "port.2.name", Old: `"b"`, Takes: "live"},
	}
	if d := cmp.Diff(want, Diff(before, after)); d != "" {
		t.Error(d)
	}
	if got := Diff(before, before); len(got) != 0 {
		t.Errorf("a configuration differs from itself: %v", got)
	}
}

func TestStore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.toml")
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	for max := 5; max <= 20; max++ {
		c := *s.Current()
		c.Captures.Max = max
		if err := s.Replace(&c); err != nil {
			t.Fatal(err)
		}
	}
	again, err := Open(path)
	if err != nil || again.Current().Captures.Max != 20 {
		t.Fatalf("Open = %v, %v, want captures.max 20", again, err)
	}
	oldest, err := Open(path + ".10")
	if err != nil || oldest.Current().Captures.Max != 10 {
		t.Errorf("the tenth generation is %v, %v, want captures.max 10", oldest, err)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1+generations {
		t.Errorf("%d files, want %d: %v", len(entries), 1+generations, entries)
	}
	bad := *s.Current()
	bad.Captures.Max = 1000
	if err := s.Replace(&bad); err == nil || s.Current().Captures.Max != 20 {
		t.Errorf("an impossible configuration was stored: %v", err)
	}
}

func TestDamagedFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.toml")
	const damaged = "[captures]\nmax = oops\n"
	if err := os.WriteFile(path, []byte(damaged), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); err == nil || !strings.Contains(err.Error(), "line 2") || !strings.Contains(err.Error(), path) {
		t.Errorf("Open = %v, want the file and line 2", err)
	}
	if text, _ := os.ReadFile(path); string(text) != damaged {
		t.Errorf("the file was changed to %q", text)
	}
}

// Whatever is accepted is valid, and is the same after it was written and read.
func FuzzParse(f *testing.F) {
	f.Add([]byte(example))
	f.Add(Default().Encode())
	f.Add([]byte("[[port]]\nname='a'\n"))
	f.Add([]byte("device.name = \"x\"\ncaptures = {max = 5}\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := Parse(text)
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || e.Text == "" {
				t.Fatalf("%q: %#v", text, err)
			}
			return
		}
		again, err := Parse(c.Encode())
		if err != nil {
			t.Fatalf("%q was accepted, but not as it was written: %v\n%s", text, err, c.Encode())
		}
		if d := cmp.Diff(c, again, cmpopts.EquateEmpty()); d != "" {
			t.Fatal(d)
		}
	})
}

// The default's storage is there only where the text says nothing about storage, and does not shine through what it says.
func TestStorageDefault(t *testing.T) {
	for text, want := range map[string][]Storage{
		"":               {{Name: "data", Directory: "data"}},
		"storage = []\n": nil,
		"[[storage]]\nname = \"x\"\ndisk = \"/dev/sda\"\n": {{Name: "x", Disk: "/dev/sda"}},
	} {
		c, err := Parse([]byte(text))
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if d := cmp.Diff(want, c.Storage, cmpopts.EquateEmpty()); d != "" {
			t.Errorf("%q: %s", text, d)
		}
		again, err := Parse(c.Encode())
		if err != nil {
			t.Fatalf("%q, written: %v\n%s", text, err, c.Encode())
		}
		if d := cmp.Diff(c.Storage, again.Storage, cmpopts.EquateEmpty()); d != "" {
			t.Errorf("%q, written and read: %s", text, d)
		}
	}
}

func TestStorageDirectoriesAreApart(t *testing.T) {
	for text, field := range map[string]string{
		"directory = \"engine\"":  "storage.1.directory",
		"directory = \"./web/x\"": "storage.1.directory",
		"directory = \"a/b\"\n[[storage]]\nname = \"y\"\ndirectory = \"a\"":   "storage.2.directory",
		"directory = \"a\"\n[[storage]]\nname = \"y\"\ndirectory = \"a/b/c\"": "storage.2.directory",
		"directory = \"a\"\n[[storage]]\nname = \"y\"\ndirectory = \"./a\"":   "storage.2.directory",
		"directory = \"a\"\n[[storage]]\nname = \"y\"\ndirectory = \"ab\"":    "",
	} {
		_, err := Parse([]byte("[[storage]]\nname = \"x\"\n" + text + "\n"))
		var e *Error
		errors.As(err, &e)
		if field == "" && err != nil || field != "" && (e == nil || e.Key != field) {
			t.Errorf("%s: %v, want an error of %q", text, err, field)
		}
	}
}
