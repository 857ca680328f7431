package slot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"aead.dev/minisign"

	"galvo/firmware/bundle"
	"galvo/firmware/disk"
	"galvo/firmware/uki"
)

// A Device is where things of an appliance are; Appliance returns the real one.
type Device struct {
	Sys, Dev    string        // /sys and /dev
	Mounts      string        // /proc/self/mounts
	ReleaseFile string        // os-release of the image that runs
	KeyFolder   string        // public keys that updates may be signed with
	Patience    time.Duration // how long the disk may take to come up
}

// Appliance returns where things are on an appliance.
func Appliance() Device {
	return Device{Sys: "/sys", Dev: "/dev", Mounts: "/proc/self/mounts", ReleaseFile: "/etc/os-release", KeyFolder: "/etc/galvo/keys", Patience: 15 * time.Second}
}

// ErrNotAppliance is the error on a machine that was not started from an image.
var ErrNotAppliance = errors.New("this machine does not run Galvo's firmware: update the program as it was installed")

// Release returns what the image that runs says of itself.
func (d Device) Release() (bundle.Release, error) {
	text, err := os.ReadFile(d.ReleaseFile)
	if err != nil {
		return bundle.Release{}, fmt.Errorf("%w (%w)", ErrNotAppliance, err)
	}
	r, err := bundle.ParseRelease(uki.ParseOSRelease(text))
	if err != nil {
		return r, ErrNotAppliance
	}
	return r, nil
}

// Keys returns the public keys that updates may be signed with.
func (d Device) Keys() ([]minisign.PublicKey, error) {
	files, err := filepath.Glob(filepath.Join(d.KeyFolder, "*.pub"))
	if err != nil {
		return nil, err
	}
	var keys []minisign.PublicKey
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			return nil, fmt.Errorf("read the keys of updates: %w", err)
		}
		k, err := bundle.ParseKey(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f, err)
		}
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return nil, errors.New("this firmware trusts no key, so it takes no update: build an image with a key, and write it to the disk")
	}
	return keys, nil
}

// BootDisk returns the disk with the image that runs. A machine that was not started by UEFI firmware was started from no disk.
func (d Device) BootDisk() (*disk.Disk, error) {
	r, err := d.Release()
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(d.Sys, "firmware/efi")); err != nil {
		return nil, ErrElsewhere
	}
	for deadline := time.Now().Add(d.Patience); ; time.Sleep(50 * time.Millisecond) {
		disks, err := disk.Find(d.Sys, d.Dev)
		if err != nil {
			return nil, err
		}
		disks = slices.DeleteFunc(disks, func(c disk.Disk) bool { return !has(c, r.Build) })
		if len(disks) > 0 {
			return d.loadedFrom(disks), nil
		}
		if time.Now().After(deadline) {
			return nil, ErrElsewhere
		}
	}
}

// loaderPartition is the variable in which systemd-boot leaves the identifier of the partition that it was loaded from (systemd, Boot Loader Interface).
const loaderPartition = "firmware/efi/efivars/LoaderDevicePartUUID-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"

// loadedFrom picks among disks with the same image, as the stick that a machine was installed from and its own disk: the one whose data is in use, which was picked before and has got identifiers of its own
// since; the one that systemd-boot names; or else the first.
func (d Device) loadedFrom(disks []disk.Disk) *disk.Disk {
	mounts, _ := os.ReadFile(d.Mounts)
	for line := range strings.Lines(string(mounts)) {
		device, _, _ := strings.Cut(line, " ")
		for i := range disks {
			if slices.Contains(disks[i].Partitions, device) {
				return &disks[i]
			}
		}
	}
	text, err := os.ReadFile(filepath.Join(d.Sys, loaderPartition))
	if err == nil && len(text) > 4 {
		// Four bytes of attributes, then UTF-16.
		id := strings.ReplaceAll(strings.Trim(string(text[4:]), "\x00"), "\x00", "")
		for i := range disks {
			if strings.EqualFold(disks[i].Table.Partitions[0].ID.String(), id) {
				return &disks[i]
			}
		}
	}
	return &disks[0]
}

// has reports whether the disk has the image with a build.
func has(d disk.Disk, build string) bool {
	f, err := os.Open(d.Path)
	if err != nil {
		return false
	}
	defer f.Close()
	p, err := Open(disk.Section(f, d.Table.Partitions[0]))
	if err != nil {
		return false
	}
	_, err = p.Running(build)
	return err == nil
}

// Adopt finds the disk that the device was started from, makes it complete if this is its first boot, and returns the path of its data partition. It must be
// called before any partition of that disk is in use. SystemBytes is the board's.
func (d Device) Adopt(systemBytes int64) (dataPartition string, err error) {
	found, err := d.BootDisk()
	if err != nil {
		return "", err
	}
	f, err := os.OpenFile(found.Path, os.O_RDWR, 0)
	if err != nil {
		return "", fmt.Errorf("open the disk: %w", err)
	}
	defer f.Close()
	table, changed, err := disk.Adopt(f, found.Bytes, systemBytes)
	if err != nil {
		return "", fmt.Errorf("%s: %w", found.Path, err)
	}
	if changed {
		if err := disk.Reread(f); err != nil {
			return "", err
		}
	}
	for i, p := range table.Partitions {
		if p.Name != disk.DataName {
			continue
		}
		path := disk.PartitionPath(found.Path, i+1)
		// The kernel makes the device a moment after it read the table.
		for deadline := time.Now().Add(d.Patience); ; time.Sleep(20 * time.Millisecond) {
			if _, err := os.Stat(path); err == nil {
				return path, nil
			} else if time.Now().After(deadline) {
				return "", fmt.Errorf("wait for the data partition: %w", err)
			}
		}
	}
	return "", fmt.Errorf("the disk %s has no room for a data partition", found.Path)
}

// System calls do with the system partition of the disk that the device was started from.
func (d Device) System(do func(p *Partition, now bundle.Release) error) error {
	now, err := d.Release()
	if err != nil {
		return err
	}
	found, err := d.BootDisk()
	if err != nil {
		return err
	}
	if len(found.Partitions) == 0 || found.Partitions[0] == "" {
		return fmt.Errorf("the kernel does not show the system partition of %s", found.Path)
	}
	f, err := os.OpenFile(found.Partitions[0], os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("open the system partition: %w", err)
	}
	defer f.Close()
	p, err := Open(f)
	if err != nil {
		return fmt.Errorf("%s: %w", found.Partitions[0], err)
	}
	return do(p, now)
}

// Confirm marks the image that runs as good, and reports whether it had to. On a machine without slots there is nothing to do.
func (d Device) Confirm() (changed bool, err error) {
	err = d.System(func(p *Partition, now bundle.Release) (err error) {
		changed, err = p.Confirm(now)
		return err
	})
	return changed, withoutSlots(err)
}

// TriesLeft returns how often the image that runs will still be started before the one before is taken again. Counted is false once it was confirmed, and where
// there are no slots.
func (d Device) TriesLeft() (left int, counted bool, err error) {
	err = d.System(func(p *Partition, now bundle.Release) error {
		s, err := p.Running(now.Build)
		left, counted = s.TriesLeft, s.Counted
		return err
	})
	return left, counted, withoutSlots(err)
}

// withoutSlots passes over the errors of a machine that has none.
func withoutSlots(err error) error {
	if errors.Is(err, ErrElsewhere) || errors.Is(err, ErrNotAppliance) {
		return nil
	}
	return err
}

// Install verifies the bundle of size bytes in r and installs it. Nothing is written unless all of it is right.
func (d Device) Install(r *os.File, size int64) (Slot, error) {
	keys, err := d.Keys()
	if err != nil {
		return Slot{}, err
	}
	b, err := bundle.Open(r, size, keys)
	if err != nil {
		return Slot{}, &Refusal{strings.TrimSpace(err.Error())}
	}
	var s Slot
	err = d.System(func(p *Partition, now bundle.Release) (err error) {
		s, err = p.Install(now, b)
		return err
	})
	return s, err
}
