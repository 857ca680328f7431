// Package disk finds the disks of the machine, says what is on them, and mounts, encrypts and formats them: one device at a time, and at once.
//
// It reads /sys/block (Documentation/ABI/testing/sysfs-block of Linux) rather than a database of udev's, which an appliance does not have, and the
// first sectors of a disk. It watches nothing: who wants to follow what is plugged and pulled calls Disks again. It keeps no state and decides
// nothing about who may do what to which disk; mount(2) and the programs of e2fsprogs and cryptsetup stand behind the interface System, so
// that tests run against a tree of files.
package disk

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// A Machine is where disks are looked for. The zero value is no machine; Local returns this one.
type Machine struct {
	Sys  string // usually /sys
	Dev  string // usually /dev
	Proc string // usually /proc
	System
}

// Local returns this machine.
func Local() *Machine { return &Machine{"/sys", "/dev", "/proc", Linux{}} }

// A Disk is one disk as it is now. Its sizes are bytes.
type Disk struct {
	ID        string // of the hardware: "ata-MODEL_SERIAL"; the kernel's name where it says neither, or another disk says the same
	Kernel    string // "sda"
	Path      string // "/dev/sda"
	Model     string
	Serial    string
	Transport string // nvme, sata, usb, virtio, mmc, scsi, iscsi, other
	Bytes     uint64
	ReadOnly  bool
	Removable bool

	Target     string // device with the file system: Path, or that of the first partition
	FileSystem string // of Target: "ext4", "luks", ...; empty is none that is known
	Blank      bool   // nothing at all was found on the disk
	Unreadable string // why it cannot be known what is on the disk; empty is that it can
	InUse      string // what of the machine uses the disk: "mounted at /"; empty is nothing
}

// Encrypted reports whether the disk has to be opened with a password.
func (d *Disk) Encrypted() bool { return d.FileSystem == "luks" }

// hidden are the names of block devices that are no disks: memory, mappings of other devices, optical and floppy drives. A loop device is shown
// only to who asks for it by name.
var hidden = []string{"ram", "zram", "dm-", "md", "sr", "fd", "nbd", "loop"}

// Disks returns the machine's disks in the order of their names. wanted are kernel names that are looked at although they are hidden. own are
// mount points below this directory, which do not count as use by the machine.
func (m *Machine) Disks(wanted []string, own string) ([]Disk, error) {
	entries, err := os.ReadDir(filepath.Join(m.Sys, "block"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // containers have none
	}
	if err != nil {
		return nil, fmt.Errorf("list the disks: %w", err)
	}
	uses, err := m.uses(own)
	if err != nil {
		return nil, err
	}
	var disks []Disk
	for _, e := range entries {
		if !slices.Contains(wanted, e.Name()) && slices.ContainsFunc(hidden, func(p string) bool { return strings.HasPrefix(e.Name(), p) }) {
			continue
		}
		d, ok := m.look(e.Name(), uses)
		if !ok {
			continue
		}
		if slices.ContainsFunc(disks, func(o Disk) bool { return o.ID == d.ID }) {
			d.ID = d.Kernel // cheap sticks all have one serial number
		}
		disks = append(disks, d)
	}
	return disks, nil
}

// look describes one disk, or says that there is none: a drive without a medium, one that is just being pulled, or one of the paths of an NVMe disk, which has no device file.
func (m *Machine) look(name string, uses map[string]string) (Disk, bool) {
	dir := filepath.Join(m.Sys, "block", name)
	removable := m.attribute(dir, "removable") == "1"
	sectors, err := m.sectors(dir)
	if err == nil && sectors == 0 && removable {
		// The kernel looks whether there is a medium now when somebody opens the drive.
		if f, err := os.Open(filepath.Join(m.Dev, name)); err == nil {
			f.Close()
		}
		sectors, err = m.sectors(dir)
	}
	if err != nil || sectors == 0 || m.attribute(dir, "hidden") == "1" {
		return Disk{}, false
	}
	d := Disk{
		Kernel: name, Path: filepath.Join(m.Dev, name),
		Bytes:     sectors * 512, // whatever the disk's own sectors are
		ReadOnly:  m.attribute(dir, "ro") == "1",
		Removable: removable,
		Model:     strings.TrimSpace(m.attribute(dir, "device/vendor") + " " + m.attribute(dir, "device/model")),
		Serial:    m.serial(dir),
	}
	if d.Model == "" {
		d.Model = m.attribute(dir, "device/name") // of SD cards
	}
	if strings.HasPrefix(d.Model, "0x") { // of virtio, whose vendor is a number
		d.Model = ""
	}
	d.Transport = transport(name, dir)
	d.ID = id(&d, m.part(dir, d.Transport))
	m.inspect(&d, dir, uses)
	return d, true
}

// sectors returns the size of a disk in units of 512 bytes.
func (m *Machine) sectors(dir string) (uint64, error) {
	return strconv.ParseUint(m.attribute(dir, "size"), 10, 64)
}

func (m *Machine) attribute(dir, name string) string {
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(strings.Trim(string(b), "\x00"))
}

// serial returns what the disk's own bus calls its serial number.
func (m *Machine) serial(dir string) string {
	for _, name := range []string{"device/serial", "serial"} {
		if s := m.attribute(dir, name); s != "" {
			return s
		}
	}
	// Vital product data page 80h (SPC-4 section 7.8.15): four bytes of head, then the number.
	if b, err := os.ReadFile(filepath.Join(dir, "device", "vpd_pg80")); err == nil && len(b) > 4 {
		return printable(b[4:])
	}
	return m.usbSerial(dir)
}

// usbSerial returns the serial number of the USB device that a disk is, or nothing. Many of them do not say it in any other way.
func (m *Machine) usbSerial(dir string) string {
	path, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return ""
	}
	for ; len(path) > len(m.Sys); path = filepath.Dir(path) {
		if m.attribute(path, "idVendor") != "" {
			return m.attribute(path, "serial")
		}
	}
	return ""
}

func printable(b []byte) string {
	return strings.TrimSpace(string(bytes.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, b)))
}

// transports are what the path of a device below /sys/devices has in it, most telling first: USB disks are SCSI disks too.
var transports = []struct{ part, name string }{
	{"/usb", "usb"}, {"/nvme", "nvme"}, {"/ata", "sata"}, {"/virtio", "virtio"}, {"/mmc", "mmc"}, {"/session", "iscsi"}, {"/host", "scsi"},
}

func transport(name, dir string) string {
	path, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return "other"
	}
	for _, t := range transports {
		if strings.Contains(strings.TrimSuffix(path, name), t.part) {
			return t.name
		}
	}
	return "other"
}

// part tells the disks apart that are behind one serial number, as udev does: the further namespaces of an NVMe disk, and the further slots of a USB card reader.
func (m *Machine) part(dir, transport string) string {
	switch transport {
	case "nvme":
		if n := m.attribute(dir, "nsid"); n != "" && n != "1" {
			return "_" + n
		}
	case "usb":
		// The device of a SCSI disk is called HOST:CHANNEL:TARGET:LUN.
		device, err := filepath.EvalSymlinks(filepath.Join(dir, "device"))
		if f := strings.Split(filepath.Base(device), ":"); err == nil && len(f) == 4 && f[3] != "0" {
			return "-0:" + f[3]
		}
	}
	return ""
}

// id names the hardware, and part of it, in the way of /dev/disk/by-id.
func id(d *Disk, part string) string {
	bus := d.Transport
	if bus == "sata" {
		bus = "ata"
	}
	parts := []string{}
	for _, s := range []string{d.Model, d.Serial} {
		if s != "" {
			parts = append(parts, s)
		}
	}
	if d.Serial == "" || bus == "other" {
		return d.Kernel
	}
	return bus + "-" + strings.Map(func(r rune) rune {
		switch {
		case r >= '0' && r <= '9', r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', strings.ContainsRune("-._", r):
			return r
		}
		return '_'
	}, strings.Join(parts, "_")) + part
}

// Is reports whether the path of a configuration, as /dev/disk/by-id/..., means the disk.
func (d *Disk) Is(path string) bool {
	if path == d.Path || filepath.Base(path) == d.ID {
		return true
	}
	real, err := filepath.EvalSymlinks(path)
	return err == nil && real == d.Path
}

// Name is what a configuration should call the disk, so that it is found again in another slot or after another boot.
func (d *Disk) Name() string {
	if d.ID == d.Kernel {
		return d.Path
	}
	return "/dev/disk/by-id/" + d.ID
}
