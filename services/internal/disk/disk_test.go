package disk

import (
	"context"
	"encoding/binary"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"galvo/ci/need"
)

// A tree is a machine made of files.
type tree struct {
	t *testing.T
	*Machine
}

func newTree(t *testing.T) *tree {
	dir := t.TempDir()
	m := &tree{t, &Machine{Sys: dir + "/sys", Dev: dir + "/dev", Proc: dir + "/proc", System: Linux{}}}
	m.file("proc/self/mountinfo", "22 1 8:2 / / rw,relatime - ext4 /dev/sda2 rw\n31 22 7:0 / /var/lib/galvo/storage/x rw - ext4 /dev/sdb rw\n")
	m.file("proc/swaps", "Filename Type Size Used Priority\n/dev/sdc1 partition 1000 0 -2\n")
	return m
}

// file writes a file of the machine.
func (m *tree) file(name, text string) {
	m.t.Helper()
	path := filepath.Join(filepath.Dir(m.Sys), name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
		m.t.Fatal(err)
	}
}

// disk puts a disk on a bus, with attributes as NAME=VALUE.
func (m *tree) disk(bus, name string, sectors string, attributes ...string) {
	m.t.Helper()
	at := "sys/devices/" + bus + "/block/" + name + "/"
	m.file(at+"size", sectors+"\n")
	for _, a := range attributes {
		k, v, _ := strings.Cut(a, "=")
		m.file(at+k, v)
	}
	if err := errors.Join(os.MkdirAll(m.Sys+"/block", 0o755), os.Symlink("../devices/"+bus+"/block/"+name, m.Sys+"/block/"+name)); err != nil {
		m.t.Fatal(err)
	}
}

// ext4 is the beginning of a file system.
func ext4() string {
	b := make([]byte, 1<<17)
	binary.LittleEndian.PutUint16(b[1024+56:], 0xef53)
	binary.LittleEndian.PutUint32(b[1024+96:], 0x2c2)
	return string(b)
}

func TestDisks(t *testing.T) {
	m := newTree(t)
	m.disk("pci0/ata1/host0", "sda", "1000", "dev=8:0", "device/model=SSD 870  ", "device/vendor=ATA", "device/vpd_pg80=\x00\x80\x00\x06 S5Y1 ", "sda1/partition=1", "sda1/dev=8:1", "sda2/partition=2", "sda2/dev=8:2")
	m.disk("pci0/usb1/1-2/host4", "sdb", "2000", "dev=7:0", "device/model=Ultra", "device/vendor=SanDisk", "removable=1", "device/serial=4C53")
	m.file("dev/sdb", ext4())
	m.disk("pci0/usb1/1-3/host5", "sdc", "3000", "dev=8:32", "sdc10/partition=10", "sdc1/partition=1", "sdc1/dev=8:33")
	m.file("sys/devices/pci0/usb1/serial", "0000:00:14.0") // the hub's, which is not the disk's
	m.file("sys/devices/pci0/usb1/idVendor", "1d6b")
	m.disk("pci0/usb1/1-5/1-5:1.0/host7", "sde", "7000", "dev=8:64")
	m.file("sys/devices/pci0/usb1/1-5/idVendor", "0781")
	m.file("sys/devices/pci0/usb1/1-5/serial", "0401\n")
	m.file("sys/devices/pci0/usb1/1-3/idVendor", "0781")
	m.disk("pci0/0000:01:00.0/nvme/nvme0", "nvme0n1", "4000", "dev=259:0", "device/model=WD  \n", "device/serial=21\n", "ro=1", "nvme0n1p1/partition=1", "nvme0n1p1/dev=259:1")
	m.file("dev/nvme0n1", strings.Repeat("\x00", 1<<17))
	m.file("dev/nvme0n1p1", ext4())
	m.disk("pci0/virtio3", "vda", "5000", "dev=254:0", "serial=data", "device/vendor=0x1af4")
	m.file("dev/vda", strings.Repeat("\x00", 1<<17))
	m.disk("pci0/virtio4", "vdb", "5000", "dev=254:16", "holders/dm-0/x=")
	m.disk("virtual", "loop3", "6000", "dev=7:3")
	m.disk("virtual", "zram0", "6000", "dev=252:0")
	m.disk("pci0/usb1/1-4/host6", "sdd", "0", "dev=8:48") // a card reader without a card
	disks, err := m.Disks([]string{"loop3"}, "/var/lib/galvo/storage")
	if err != nil {
		t.Fatal(err)
	}
	type row struct {
		id, kernel, model, transport, target, fs, use string
		blank, ro, removable                          bool
	}
	var got []row
	for _, d := range disks {
		got = append(got, row{d.ID, d.Kernel, d.Model, d.Transport, filepath.Base(d.Target), d.FileSystem, d.InUse, d.Blank, d.ReadOnly, d.Removable})
	}
	want := []row{
		{"loop3", "loop3", "", "other", "loop3", "", "", false, false, false},
		{"nvme-WD_21", "nvme0n1", "WD", "nvme", "nvme0n1p1", "ext4", "", false, true, false},
		{"ata-ATA_SSD_870_S5Y1", "sda", "ATA SSD 870", "sata", "sda1", "", "mounted at /", false, false, false},
		{"usb-SanDisk_Ultra_4C53", "sdb", "SanDisk Ultra", "usb", "sdb", "ext4", "", false, false, true},
		{"sdc", "sdc", "", "usb", "sdc1", "", "swap space", false, false, false},
		{"usb-0401", "sde", "", "usb", "sde", "", "", false, false, false},
		{"virtio-data", "vda", "", "virtio", "vda", "", "", true, false, false},
		{"vdb", "vdb", "", "virtio", "vdb", "", "part of dm-0", false, false, false},
	}
	if !slices.Equal(got, want) {
		t.Errorf("Disks() =\n%+v, want\n%+v", got, want)
	}
	if disks[2].Bytes != 512_000 {
		t.Errorf("%d bytes, want 512000", disks[2].Bytes)
	}
	if d := &disks[3]; !d.Is("/dev/disk/by-id/usb-SanDisk_Ultra_4C53") || !d.Is(m.Dev+"/sdb") || d.Is("/dev/sdq") || d.Name() != "/dev/disk/by-id/usb-SanDisk_Ultra_4C53" {
		t.Errorf("%+v is not what it is called", d)
	}
}

// Disks that say the same of themselves are all there: slots of a card reader, namespaces, sticks with one serial number for all. One of the paths to an NVMe disk is none.
func TestDisksOfOneSerial(t *testing.T) {
	m := newTree(t)
	for _, slot := range []struct{ kernel, lun string }{{"sda", "0"}, {"sdb", "1"}} {
		m.disk("pci0/usb1/1-1/host0/"+slot.lun, slot.kernel, "1000", "removable=1")
		m.file("sys/devices/pci0/usb1/1-1/host0/0:0:0:"+slot.lun+"/model", "Reader")
		if err := os.Symlink("../../../0:0:0:"+slot.lun, m.Sys+"/devices/pci0/usb1/1-1/host0/"+slot.lun+"/block/"+slot.kernel+"/device"); err != nil {
			t.Fatal(err)
		}
	}
	m.file("sys/devices/pci0/usb1/1-1/idVendor", "0781")
	m.file("sys/devices/pci0/usb1/1-1/serial", "77")
	for _, stick := range []string{"sdc", "sdd"} {
		m.disk("pci0/usb1/2-"+stick+"/host1", stick, "1000", "device/model=Stick", "device/serial=0123456789")
	}
	m.disk("virtual/nvme-subsystem/nvme-subsys0", "nvme0n1", "1000", "device/model=SSD", "device/serial=9", "nsid=1")
	m.disk("virtual/nvme-subsystem/nvme-subsys0", "nvme0n2", "1000", "device/model=SSD", "device/serial=9", "nsid=2")
	m.disk("pci0/0000:01:00.0/nvme/nvme0", "nvme0c0n1", "1000", "device/model=SSD", "device/serial=9", "hidden=1")
	disks, err := m.Disks(nil, "")
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, d := range disks {
		got[d.Kernel] = d.ID
	}
	want := map[string]string{
		"nvme0n1": "nvme-SSD_9", "nvme0n2": "nvme-SSD_9_2", "sda": "usb-Reader_77", "sdb": "usb-Reader_77-0:1", "sdc": "usb-Stick_0123456789", "sdd": "sdd",
	}
	if !maps.Equal(got, want) {
		t.Errorf("Disks() = %v, want %v", got, want)
	}
}

// A disk that gives an error is not one that holds nothing.
func TestUnreadable(t *testing.T) {
	m := newTree(t)
	m.disk("pci0/ata1/host0", "sda", "1000", "device/model=SSD", "device/serial=1")
	if err := os.MkdirAll(m.Dev+"/sda", 0o755); err != nil { // reading a directory gives one
		t.Fatal(err)
	}
	disks, err := m.Disks(nil, "")
	if err != nil {
		t.Fatal(err)
	}
	if d := disks[0]; !strings.Contains(d.Unreadable, "is a directory") || d.Blank {
		t.Errorf("%+v", d)
	}
}

func TestNoDisks(t *testing.T) {
	if disks, err := newTree(t).Disks(nil, ""); err != nil || disks != nil {
		t.Errorf("Disks() = %v, %v where there is no /sys/block", disks, err)
	}
}

func TestReadMounts(t *testing.T) {
	got := readMounts(strings.NewReader("36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 - ext3 /dev/ro\\134ot rw\nnonsense\n40 35 0:5 / /proc rw - proc proc rw\n"))
	want := []mount{{"98:0", "/mnt 2", `/dev/ro\ot`, []string{"rw", "noatime", "rw"}}, {"0:5", "/proc", "proc", []string{"rw", "rw"}}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("readMounts() = %+v, want %+v", got, want)
	}
}

func TestMkfsProgress(t *testing.T) {
	for _, c := range []struct {
		said string
		want int
		ok   bool
	}{
		{"Writing inode tables:  0/40\b\b\b\b\b10/40", 24, true},
		{"400/400", 99, true},
		{"done\n", 0, false},
		{"7/0", 0, false},
		{"99999999999999999999/1", 0, false},
	} {
		if got, ok := mkfsProgress([]byte(c.said)); got != c.want || ok != c.ok {
			t.Errorf("mkfsProgress(%q) = %d, %v, want %d, %v", c.said, got, ok, c.want, c.ok)
		}
	}
}

// What mkfs and cryptsetup make is what Identify says it is.
func TestFormatFile(t *testing.T) {
	need.Tool(t, "mkfs.ext4")
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, slices.Repeat([]byte("junk"), 8<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	m := &Machine{System: Linux{}}
	if kind, blank, err := m.identify(path); err != nil || kind != "" || blank {
		t.Errorf("junk is %q, blank %v", kind, blank)
	}
	var percents []int
	d := &Disk{ID: "x", Path: path, Bytes: 32 << 20}
	if err := m.Format(context.Background(), d, Format{Label: "galvo"}, func(p int) { percents = append(percents, p) }); err != nil {
		t.Fatal(err)
	}
	if kind, _, _ := m.identify(path); kind != "ext4" {
		t.Errorf("what was formatted is %q", kind)
	}
	if len(percents) < 2 || !slices.IsSorted(percents) || percents[len(percents)-1] != 100 {
		t.Errorf("progress: %v", percents)
	}
	d.InUse = "mounted at /"
	if err := m.Format(context.Background(), d, Format{}, func(int) {}); err == nil {
		t.Error("a disk in use was formatted")
	}
	if err := wipe(path, 32<<20); err != nil {
		t.Fatal(err)
	}
	if kind, blank, err := m.identify(path); err != nil || kind != "" || !blank {
		t.Errorf("a wiped disk is %q, blank %v", kind, blank)
	}
	need.Tool(t, "cryptsetup")
	if err := m.Run(context.Background(), []byte("pw"), nil, "cryptsetup", "luksFormat", "--batch-mode", "--type", "luks2", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--key-file", "-", path); err != nil {
		t.Fatal(err)
	}
	if kind, _, _ := m.identify(path); kind != "luks" {
		t.Errorf("an encrypted disk is %q", kind)
	}
	if err := m.Run(context.Background(), nil, nil, "mkfs.none"); !errors.Is(err, ErrNoProgram) {
		t.Errorf("a program that is not there: %v", err)
	}
}

func TestSmartLog(t *testing.T) {
	page := make([]byte, smartLogBytes)
	page[1], page[2], page[3], page[5] = 0x2f, 0x01, 90, 7
	if health, note := readSmartLog(page); health != Good || note != "7 % of its life is used, 90 % of its spare blocks are left, 30 °C" {
		t.Errorf("%s: %s", health, note)
	}
	page[0] = 5
	if health, note := readSmartLog(page); health != Failing || !strings.Contains(note, "reliability") {
		t.Errorf("%s: %s", health, note)
	}
	if health, _ := readSmartLog(nil); health != Unknown {
		t.Error("an empty answer says something")
	}
}

func FuzzIdentify(f *testing.F) {
	f.Add([]byte(ext4()))
	f.Add([]byte("LUKS\xba\xbe"))
	f.Fuzz(func(t *testing.T, head []byte) {
		if kind, blank := Identify(head); kind != "" && blank {
			t.Errorf("%s and blank", kind)
		}
	})
}
