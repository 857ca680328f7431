package qemu

import (
	"fmt"
	"strings"
)

// A Model is a NIC that QEMU emulates, by the name that QEMU gives it. The zero value is virtio's.
type Model string

// Models of NICs that the boards have drivers for.
const (
	VirtioNet Model = ""
	E1000     Model = "e1000"
	E1000e    Model = "e1000e"
	IGB       Model = "igb" // from QEMU 8.0 on
	VMXNET3   Model = "vmxnet3"
)

// models say what is particular about some.
var models = map[Model]struct {
	driver  string // of Linux
	options string
}{
	VirtioNet: {"virtio_net", ",host_mtu=9216"},
	E1000:     {"e1000", ""},
	E1000e:    {"e1000e", ""},
	IGB:       {"igb", ""},
	VMXNET3:   {"vmxnet3", ""},
}

// Driver is what Linux calls its driver.
func (m Model) Driver() string { return models[m].driver }

// arguments returns the device on a netdev of the id, at a place of the root bus, with the i-th address.
func (m Model) arguments(id string, place, i int) string {
	name := string(m)
	if m == VirtioNet {
		name = "virtio-net-pci"
	}
	return fmt.Sprintf("%s,netdev=%s,id=nic-%s,romfile=,addr=0x%x,mac=%s%s", name, id, id, place, mac(i), models[m].options)
}

// A Bus is what a disk hangs on. The zero value is virtio.
type Bus string

// Buses of disks.
const (
	VirtioBlk  Bus = ""
	VirtioSCSI Bus = "virtio-scsi"
	NVMe       Bus = "nvme"
	AHCI       Bus = "ahci"
	USB        Bus = "usb"
	UAS        Bus = "uas"
	MegaRAID   Bus = "megaraid"
	PVSCSI     Bus = "pvscsi"
)

// buses are the devices of a disk, the disk last. DRIVE stands for the name of what it holds, DEVICE for the disk's own, SLOT for where it is plugged in.
var buses = map[Bus][]string{
	VirtioBlk:  {"virtio-blk-pci,drive=DRIVE,id=DEVICE,serial=galvo-DRIVESLOT"},
	VirtioSCSI: {"virtio-scsi-pci,id=bus-DRIVE", "scsi-hd,drive=DRIVE,id=DEVICE,serial=galvo-DRIVE,bus=bus-DRIVE.0"},
	NVMe:       {"nvme,drive=DRIVE,id=DEVICE,serial=galvo-DRIVESLOT"},
	AHCI:       {"ich9-ahci,id=bus-DRIVE", "ide-hd,drive=DRIVE,id=DEVICE,serial=galvo-DRIVE,bus=bus-DRIVE.0"},
	USB:        {"qemu-xhci,id=bus-DRIVE", "usb-storage,drive=DRIVE,id=DEVICE,serial=galvo-DRIVE,bus=bus-DRIVE.0"},
	UAS:        {"qemu-xhci,id=xhci-DRIVE", "usb-uas,id=bus-DRIVE,bus=xhci-DRIVE.0", "scsi-hd,drive=DRIVE,id=DEVICE,serial=galvo-DRIVE,bus=bus-DRIVE.0"},
	MegaRAID:   {"megasas,id=bus-DRIVE", "scsi-hd,drive=DRIVE,id=DEVICE,serial=galvo-DRIVE,bus=bus-DRIVE.0"},
	PVSCSI:     {"pvscsi,id=bus-DRIVE", "scsi-hd,drive=DRIVE,id=DEVICE,serial=galvo-DRIVE,bus=bus-DRIVE.0"},
}

// devices returns those of a disk, the disk last.
func (b Bus) devices(drive, device, slot string) (devices []string) {
	names := strings.NewReplacer("DRIVE", drive, "DEVICE", device, "SLOT", slot)
	for _, d := range buses[b] {
		devices = append(devices, names.Replace(d))
	}
	return devices
}

// model returns that of the i-th capture port, from 0.
func (m *Machine) model(i int) Model {
	if len(m.PortModels) == 0 {
		return VirtioNet
	}
	return m.PortModels[i%len(m.PortModels)]
}
