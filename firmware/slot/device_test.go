package slot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"galvo/firmware/disk"
	"galvo/firmware/gpt"
)

// machine returns a device with disks made of files; each has an image of a version.
func machine(t *testing.T, running string, versions map[string]string) Device {
	t.Helper()
	dir := t.TempDir()
	d := Device{Sys: filepath.Join(dir, "sys"), Dev: filepath.Join(dir, "dev"), ReleaseFile: filepath.Join(dir, "os-release")}
	put := func(path string, content []byte) {
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, content, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	put(filepath.Join(d.Sys, "firmware/efi/fw_platform_size"), []byte("64"))
	put(d.ReleaseFile, fmt.Appendf(nil, "ID=galvo\nGALVO_BOARD=generic-amd64\nGALVO_VERSION=%s\nGALVO_MINIMUM=0.1\nGALVO_BUILD=\"build %s\"\n", running, running))
	for name, v := range versions {
		put(filepath.Join(d.Dev, name), nil)
		f, err := os.OpenFile(filepath.Join(d.Dev, name), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Truncate(80 << 20); err != nil {
			t.Fatal(err)
		}
		size, err := disk.Image(f, name, deviceBytes, []disk.File{{Path: First(v), Content: image(v, "0.1")}})
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
		put(filepath.Join(d.Sys, "block", name, "size"), fmt.Appendln(nil, size/512))
		put(filepath.Join(d.Dev, name+"1"), nil)
	}
	return d
}

func TestBootDisk(t *testing.T) {
	d := machine(t, "1.1.0", map[string]string{"sda": "1.0.0", "sdb": "1.1.0", "sdc": "1.1.0"})
	if found, err := d.BootDisk(); err != nil || found.Name != "sdb" {
		t.Errorf("%+v, %v", found, err)
	}
	// systemd-boot knows better.
	name := []byte{6, 0, 0, 0}
	for _, c := range []byte(gpt.NamedGUID("sdc system").String()) {
		name = append(name, c, 0)
	}
	variable := filepath.Join(d.Sys, loaderPartition)
	if err := errors.Join(os.MkdirAll(filepath.Dir(variable), 0o755), os.WriteFile(variable, append(name, 0, 0), 0o600)); err != nil {
		t.Fatal(err)
	}
	if found, err := d.BootDisk(); err != nil || found.Name != "sdc" {
		t.Errorf("with the loader's variable: %+v, %v", found, err)
	}
	// And what is in use was picked already.
	d.Mounts = filepath.Join(t.TempDir(), "mounts")
	if err := os.WriteFile(d.Mounts, []byte("tmpfs /run tmpfs rw 0 0\n"+filepath.Join(d.Dev, "sdb1")+" /data ext4 rw 0 0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if found, err := d.BootDisk(); err != nil || found.Name != "sdb" {
		t.Errorf("with a disk in use: %+v, %v", found, err)
	}
	if _, err := machine(t, "2.0.0", map[string]string{"sda": "1.0.0"}).BootDisk(); !errors.Is(err, ErrElsewhere) {
		t.Errorf("no disk has it: %v", err)
	}
	// A kernel that was started without UEFI came from no disk.
	if err := os.RemoveAll(filepath.Join(d.Sys, "firmware")); err != nil {
		t.Fatal(err)
	}
	if _, err := d.BootDisk(); !errors.Is(err, ErrElsewhere) {
		t.Errorf("without UEFI: %v", err)
	}
	if changed, err := d.Confirm(); changed || err != nil {
		t.Errorf("confirm: %v, %v", changed, err)
	}
	if left, counted, err := d.TriesLeft(); left != 0 || counted || err != nil {
		t.Errorf("tries: %d, %v, %v", left, counted, err)
	}
	d.ReleaseFile = "/nonexistent"
	if _, err := d.BootDisk(); !errors.Is(err, ErrNotAppliance) {
		t.Errorf("no appliance: %v", err)
	}
}
