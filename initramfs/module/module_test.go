package module

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// files are the indexes of a small kernel.
var files = map[string]string{
	"modules.dep": `kernel/fs/ext4/ext4.ko: kernel/fs/jbd2/jbd2.ko kernel/fs/mbcache.ko
kernel/fs/jbd2/jbd2.ko:
kernel/fs/mbcache.ko:
kernel/fs/xfs/xfs.ko:
kernel/crypto/crc32c_generic.ko:
kernel/drivers/net/virtio_net.ko: kernel/net/core/net-failover.ko
kernel/net/core/net-failover.ko:
kernel/drivers/input/evdev.ko:
kernel/drivers/absent.ko:
`,
	"modules.alias": `# Aliases
alias fs-ext4 ext4
alias crypto-crc32c crc32c_generic
alias virtio:d00000001v* virtio_net
alias input:b*v*p*e*-e*k* evdev
alias acpi*:LNXPWRBN:* evdev
alias acpi*:LNXABSENT:* absent
`,
	"modules.softdep": "softdep xfs pre: crypto-crc32c post: evdev\nsoftdep evdev pre: xfs\n",
	"modules.builtin": "kernel/drivers/virtio/virtio_pci.ko\n",
}

// before is what must be there before a module.
var before = map[string][]string{"ext4": {"jbd2", "mbcache"}, "virtio_net": {"net_failover"}, "xfs": {"crc32c_generic"}, "evdev": {"xfs"}}

// index opens them, and returns the modules that are inserted.
func index(t *testing.T, broken ...string) (*Index, *[]string) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	x, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var inserted []string
	x.insert = func(path string) error {
		mu.Lock()
		defer mu.Unlock()
		name := nameOf(path)
		if slices.Contains(broken, name) {
			return errors.New("broken")
		}
		for _, first := range before[name] {
			if !slices.Contains(inserted, first) {
				t.Errorf("%s was inserted, and %s was not", name, first)
			}
		}
		inserted = append(inserted, name)
		return nil
	}
	return x, &inserted
}

func TestLoad(t *testing.T) {
	for _, test := range []struct{ name, want string }{
		{"ext4", "ext4 jbd2 mbcache"},
		{"fs-ext4", "ext4 jbd2 mbcache"},
		{"xfs", "crc32c_generic evdev xfs"},
		{"virtio-net", "net_failover virtio_net"},
		{"virtio:d00000001v00001AF4", "net_failover virtio_net"},
		{"input:b0019v0000p0001e0000-e0,1,k74,ramlsfw", "crc32c_generic evdev xfs"},
		{"acpi:LNXPWRBN:", "crc32c_generic evdev xfs"},
		{"virtio_pci", ""},
	} {
		x, inserted := index(t)
		if err := x.Load(test.name); err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
		if err := x.Load(test.name); err != nil {
			t.Errorf("%s once more: %v", test.name, err)
		}
		slices.Sort(*inserted)
		if got := strings.Join(*inserted, " "); got != test.want {
			t.Errorf("%s loads %q, want %q", test.name, got, test.want)
		}
	}
	x, _ := index(t, "jbd2")
	if err := x.Load("ext4"); err == nil || !strings.Contains(err.Error(), "load jbd2: broken, which ext4 needs") {
		t.Errorf("a dependency that is broken: %v", err)
	}
	if err := x.Load("pci:v00008086d"); !errors.Is(err, ErrUnknown) {
		t.Errorf("an unknown device: %v", err)
	}
	if _, err := Open(t.TempDir()); err == nil {
		t.Error("a kernel without modules.dep")
	}
}

// A device whose module brings another device up has that one's module loaded too.
func TestColdplug(t *testing.T) {
	dir := t.TempDir()
	device := func(name, alias string) {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name, "modalias"), []byte(alias+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	x, inserted := index(t)
	insert := x.insert
	x.insert = func(path string) error {
		switch nameOf(path) {
		case "absent":
			return unix.ENODEV // as a driver says whose device firmware names, and the machine does not have
		case "virtio_net":
			device("class/input/input0", "input:b0019v0000p0001e0000-e0,1,k74,ramlsfw")
		}
		return insert(path)
	}
	device("bus/virtio/devices/virtio0", "virtio:d00000001v00001AF4")
	device("bus/pci/devices/other", "pci:unknown")
	device("bus/acpi/devices/absent", "acpi:LNXABSENT:")
	loaded, err := x.coldplug(dir)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"absent", "crc32c_generic", "evdev", "net_failover", "virtio_net", "xfs"}; !slices.Equal(loaded, want) || len(*inserted) != 5 {
		t.Errorf("loaded %v, inserted %v, want %v", loaded, *inserted, want)
	}
}

func TestMatch(t *testing.T) {
	for _, test := range []struct {
		pattern, s string
		want       bool
	}{
		{"pci:v*d*", "pci:v1d2", true}, {"pci:v*d*", "pci:v1", false}, {"*", "", true}, {"a?c", "abc", true}, {"a?c", "ac", false},
		{"a[0-4]c", "a3c", true}, {"a[0-4]c", "a5c", false}, {"a[xy", "ax", false}, {"", "", true}, {"", "a", false}, {"a*b*c", "aXbYc", true},
	} {
		if got := match(test.pattern, test.s); got != test.want {
			t.Errorf("match(%q, %q) = %t", test.pattern, test.s, got)
		}
	}
}

func TestParseEvent(t *testing.T) {
	e := parseEvent([]byte("add@/devices/x\x00ACTION=add\x00DEVPATH=/devices/x\x00MODALIAS=virtio:d1\x00junk\x00"))
	if e.Values["ACTION"] != "add" || e.Values["MODALIAS"] != "virtio:d1" || len(e.Values) != 3 {
		t.Errorf("%v", e.Values)
	}
}

// Whatever the indexes hold, they are read to their end, and loading ends.
func FuzzIndex(f *testing.F) {
	f.Add(files["modules.dep"], files["modules.alias"], files["modules.softdep"], "ext4")
	f.Add("a.ko: a.ko\n", "alias * a\n", "softdep a pre: a post: a\n", "b")
	f.Add("", "alias [ x\nalias *?* y", "softdep x post: pre:", "[")
	f.Fuzz(func(t *testing.T, deps, patterns, soft, name string) {
		if strings.Count(patterns, "*") > 8 || len(name) > 64 {
			return // the kernel's are not like this, and a pattern of many stars takes long
		}
		x := &Index{modules: map[string]entry{}, soft: map[string]softdeps{}, builtin: map[string]bool{}, loaded: map[string]bool{}}
		x.aliases = map[string][]alias{}
		x.insert = func(string) error { return nil }
		for line := range strings.Lines(deps) {
			x.addDep(strings.TrimSpace(line))
		}
		for line := range strings.Lines(patterns) {
			x.addAlias(line)
		}
		for line := range strings.Lines(soft) {
			x.addSoftdep(line)
		}
		_ = x.Load(name)
	})
}
