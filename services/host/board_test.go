package host

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"galvo/board"
	"galvo/services/config"
)

// The boards of the images say what the NICs of a machine are for, in whatever order the kernel found them.
func TestRolesOfNICs(t *testing.T) {
	b, err := board.Load("qemu-amd64")
	if err != nil {
		t.Fatal(err)
	}
	nic := func(name, place string) board.NIC {
		return board.NIC{Name: name, Driver: "virtio_net", Path: "/sys/devices/pci0000:00/" + place}
	}
	got := rolesOf(b, []board.NIC{nic("eth2", "0000:00:04.0"), nic("eth0", "0000:00:02.0"), nic("eth1", "0000:00:03.0"), nic("eth3", "0000:00:05.0")})
	want := &roles{management: "eth0", ports: []config.Port{{Name: "eth1", Link: 1}, {Name: "eth2", Link: 1}, {Name: "eth3"}}}
	if d := cmp.Diff(want, got, cmp.AllowUnexported(roles{})); d != "" {
		t.Error(d)
	}
	if got := rolesOf(b, nil); got.management != "" || len(got.ports) != 0 {
		t.Errorf("without NICs: %+v", got)
	}
}

func TestNICOf(t *testing.T) {
	root := t.TempDir()
	device := filepath.Join(root, "devices", "0000:00:02.0")
	for _, dir := range []string{device, filepath.Join(root, "drivers", "igb"), filepath.Join(root, "eth0"), filepath.Join(root, "lo")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for from, to := range map[string]string{filepath.Join(root, "eth0", "device"): device, filepath.Join(device, "driver"): filepath.Join(root, "drivers", "igb")} {
		if err := os.Symlink(to, from); err != nil {
			t.Fatal(err)
		}
	}
	n, ok := nicOf(root, "eth0")
	if !ok || n.Driver != "igb" || filepath.Base(n.Path) != "0000:00:02.0" {
		t.Errorf("%+v, %t", n, ok)
	}
	if _, ok := nicOf(root, "lo"); ok {
		t.Error("a link without a device is a NIC")
	}
}
