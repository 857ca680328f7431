package board

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestBoards(t *testing.T) {
	want := []string{"generic-amd64", "generic-arm64", "qemu-amd64", "qemu-arm64"}
	if got := Names(); !slices.Equal(got, want) {
		t.Errorf("boards %q, want %q", got, want)
	}
	for _, name := range Names() {
		b, err := Load(name)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(name, b.Architecture) || b.Watchdog.Seconds == 0 {
			t.Errorf("%s: %+v", name, b)
		}
	}
}

const good = `summary = "a box"
architecture = "amd64"
kernel = "linux-image-amd64"
consoles = ["ttyS0"]
arguments = ["quiet"]
modules = ["e1000e"]
memory_floor_bytes = 1_000_000_000
system_bytes = 512_000_000

[watchdog]
modules = ["softdog"]
seconds = 30

[[port]]
role = "management"
order = 1

[[port]]
role = "capture"
driver = "igb"
`

func TestErrorsNameTheLine(t *testing.T) {
	if _, err := Parse("box", []byte(good)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		old, new string
		line     int
		want     string
	}{
		{`kernel =`, `kernal =`, 3, "no such key"},
		{`kernel =`, `Kernel =`, 3, "no such key"},
		{`seconds =`, `second =`, 12, "no such key"},
		{`driver =`, `drive =`, 20, "no such key"},
		{`[watchdog]`, `[watchdogs]`, 10, "no such key"},
		{`"amd64"`, `"mips"`, 2, "not amd64 or arm64"},
		{`"amd64"`, `64`, 2, ""},
		{`"linux-image-amd64"`, `"vmlinuz"`, 3, "kernel package"},
		{`["ttyS0"]`, `[]`, 4, "at least one"},
		{`["ttyS0"]`, `["/dev/ttyS0"]`, 4, "is not a tty"},
		{`["quiet"]`, `["quiet loglevel=3"]`, 5, "one kernel argument"},
		{`["quiet"]`, `["console=tty0"]`, 5, "consoles"},
		{`["e1000e"]`, `["e1000e", "e1000e"]`, 6, "twice"},
		{`["e1000e"]`, `["kernel/e1000e.ko"]`, 6, "not the name of a kernel module"},
		{`1_000_000_000`, `1_000`, 7, "not between"},
		{`512_000_000`, `5_120_000_000_000`, 8, "not between"},
		{`seconds = 30`, `seconds = 1`, 12, "not between"},
		{`seconds = 30`, `seconds = "30"`, 12, ""},
		{`role = "management"`, `role = "both"`, 15, "management or capture"},
		{`order = 1`, `order = -1`, 16, "counts from 1"},
		{`order = 1`, "order = 1\nlink = 1", 15, "in no link"},
		{`driver = "igb"`, "order = 2\nlink = 1", 21, "link 1 has only this port"},
		{`driver = "igb"`, "link = 1", 20, "names one NIC"},
		{`driver = "igb"`, "pairs = true\norder = 3", 20, "several NICs"},
		{`driver = "igb"`, `path = "[03"`, 20, "pattern"},
		{`driver = "igb"`, "driver = 'igb'\n[[led]]\nname = 'green'\nshows = 'hope'", 23, "ready"},
		{`driver = "igb"`, "driver = 'igb'\n[[led]]\nname = '../green'\nshows = 'ready'", 22, "/sys/class/leds"},
		{`driver = "igb"`, "driver = 'igb'\n[[led]]\nname = 'green'\nshows = 'ready'\n[[led]]\nname = 'green'\nshows = 'degraded'", 25, "already"},
		{`driver = "igb"`, "driver = 'igb'\n[[led]]\nname = 'green'\ncolour = 'green'\nshows = 'ready'", 23, "no such key"},
		{`driver = "igb"`, "driver = 'igb'\n[[led]]\nshows = 'ready'", 21, "not the name"},
		{`summary = "a box"`, `summary = "a box`, 1, ""},
	} {
		text := strings.Replace(good, c.old, c.new, 1)
		_, err := Parse("box", []byte(text))
		var e *Error
		if !errors.As(err, &e) || e.Line != c.line || !strings.Contains(e.Text, c.want) {
			t.Errorf("%s: %v, want %q in line %d", c.new, err, c.want, c.line)
		}
	}
}

func nic(name, driver, place string) NIC {
	return NIC{Name: name, Driver: driver, Path: "/sys/devices/pci0000:00/" + place}
}

func TestAssign(t *testing.T) {
	nics := []NIC{
		nic("eth3", "igb", "0000:00:01.0/0000:0a:00.1"), nic("eth0", "e1000e", "0000:00:1f.6"), nic("eth2", "igb", "0000:00:01.0/0000:0a:00.0"),
		nic("eth1", "igb", "0000:00:01.0/0000:09:00.0"), nic("usb", "r8152", "0000:00:14.0/usb1/1-10"),
	}
	for _, c := range []struct {
		name, rules, want string
	}{
		{"first is management, the rest are pairs", "[[port]]\nrole = 'management'\norder = 1\n[[port]]\nrole = 'capture'\npairs = true", "eth1 management 0, eth2 capture 1, eth3 capture 1, usb capture 2, eth0 capture 2"},
		{"by driver", "[[port]]\nrole = 'management'\ndriver = 'e1000e'\n[[port]]\nrole = 'capture'\ndriver = 'igb'\npairs = true", "eth0 management 0, eth1 capture 1, eth2 capture 1, eth3 capture 0"},
		{"by place", "[[port]]\nrole = 'management'\npath = '0000:00:1f.6'\n[[port]]\nrole = 'capture'\npath = '0000:0a:00.*'", "eth0 management 0, eth2 capture 0, eth3 capture 0"},
		{"by driver and order, as a link", "[[port]]\nrole = 'capture'\ndriver = 'igb'\norder = 3\nlink = 1\n[[port]]\nrole = 'capture'\ndriver = 'igb'\norder = 1\nlink = 1", "eth3 capture 1, eth1 capture 1"},
		{"nobody has that driver", "management_fallback = 'first'\n[[port]]\nrole = 'management'\ndriver = 'bnxt_en'\n[[port]]\nrole = 'capture'\ndriver = 'igb'", "eth1 management 0, eth2 capture 0, eth3 capture 0"},
	} {
		head := good[:strings.Index(good, "\n[watchdog]")]
		b, err := Parse("box", []byte(head+c.rules+"\n"))
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		var got []string
		for _, a := range b.Assign(nics) {
			got = append(got, strings.Join([]string{a.Name, string(a.Role), string(rune('0' + a.Link))}, " "))
		}
		if s := strings.Join(got, ", "); s != c.want {
			t.Errorf("%s: %s, want %s", c.name, s, c.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(good))
	for _, name := range Names() {
		text, err := Text(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		b, err := Parse("box", text)
		var e *Error
		if err != nil && !errors.As(err, &e) {
			t.Errorf("%v is not an *Error", err)
		}
		if err == nil {
			b.Assign([]NIC{nic("eth0", "igb", "0000:00:01.0"), nic("eth1", "igb", "0000:00:02.0")})
		}
	})
}
