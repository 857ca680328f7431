//go:build vmtest

package qemu

import (
	"bytes"
	"fmt"
	"net/http"
	"os/exec"
	"testing"
	"time"

	"galvo/ci/need"
	"galvo/ci/rig"
	"galvo/services/api"
)

// hasDevice skips the test where this QEMU does not emulate a device.
func hasDevice(t *testing.T, arch string, device string) {
	t.Helper()
	said, err := exec.Command(program(arch), "-device", "help").Output()
	if err != nil {
		t.Fatal(err)
	}
	if device != "" && !bytes.Contains(said, []byte(`name "`+device+`"`)) {
		need.Missing(t, "qemu-"+device, "this QEMU emulates no "+device)
	}
}

// The images for real machines boot from the flashable disk through UEFI on everything that QEMU has of real hardware: each NIC captures, and each disk is seen.
func TestHardware(t *testing.T) {
	for _, h := range []struct {
		name, arch string
		management Model
		ports      []Model
		system     Bus   // of the disk that is booted from
		others     []Bus // of more disks
	}{
		{"virtio", "amd64", VirtioNet, []Model{VirtioNet}, VirtioBlk, []Bus{VirtioSCSI}},
		{"e1000e and NVMe", "amd64", E1000e, []Model{E1000e}, NVMe, []Bus{MegaRAID}},
		{"VMXNET3 and AHCI", "amd64", VMXNET3, []Model{VMXNET3, E1000e}, AHCI, []Bus{UAS, PVSCSI}},
		{"e1000 and USB", "amd64", E1000, []Model{E1000, VirtioNet}, USB, nil},
		{"igb", "amd64", IGB, []Model{IGB}, NVMe, nil},
		{"virtio", "arm64", VirtioNet, []Model{VirtioNet}, VirtioBlk, []Bus{VirtioSCSI}},
		{"e1000e and NVMe", "arm64", E1000e, []Model{E1000e, E1000}, NVMe, []Bus{MegaRAID}},
		{"AHCI and USB", "arm64", E1000, []Model{VMXNET3, VirtioNet}, USB, []Bus{AHCI}},
		{"igb", "arm64", IGB, []Model{IGB}, NVMe, nil},
	} {
		t.Run(h.arch+" "+h.name, func(t *testing.T) {
			m := FlashedBoard(t, h.arch, "generic-"+h.arch, diskBytes)
			hasDevice(t, h.arch, string(h.management))
			m.Model, m.PortModels, m.Ports = h.management, h.ports, 2
			m.Disks[0].Bus = h.system
			for _, b := range h.others {
				d := m.BlankDisk(t, 64<<20)
				d.Bus = b
				m.Disks = append(m.Disks, d)
			}
			v := m.Boot(t)
			c := v.Client(v.Password())
			if err := v.Console.Await(Patience(t), "ready https://"); err != nil { // before that it may have no ports yet
				t.Fatal(err)
			}
			c.Well()
			t.Logf("answers %.1f s after power on, with the machine's load at %.1f\n%s", time.Since(v.Started).Seconds(), load(), phases(v))
			if !v.Console.Has("configuration and state are on /dev/") {
				t.Error("the state is not on the disk")
			}
			for i, p := range c.PortsUp(2) {
				if p.Driver != m.model(i).Driver() {
					t.Errorf("port %d has the driver %q, want %q", i+1, p.Driver, m.model(i).Driver())
				}
			}
			for i, w := range v.Wires {
				frames := ordinary(data(rig.Mix(uint64(i), 1000)))
				same(t, capture(t, c, w, frames), frames)
			}
			silent(t, v)
			for i := range m.Disks {
				want := "unformatted"
				if i == 0 {
					want = "system"
				}
				if got := diskState(c, fmt.Sprintf("galvo-d%d", i)); got != want {
					t.Errorf("disk %d at %q is %q, want %q", i, m.Disks[i].Bus, got, want)
				}
			}
			v.PressPower()
			v.AwaitOff()
		})
	}
}

// ordinary returns frames as NICs of real hardware get them: none longer than an MTU of 1500 allows, and QEMU fills those shorter than 60 bytes up with zeros.
func ordinary(frames [][]byte) (fit [][]byte) {
	for _, f := range frames {
		if len(f) <= 1514 {
			fit = append(fit, append(f[:len(f):len(f)], make([]byte, max(0, 60-len(f)))...))
		}
	}
	return fit
}

// diskState returns the state of the disk with a serial number, or nothing if there is none.
func diskState(c *Client, serial string) string {
	var list api.StorageList
	c.Must(http.MethodGet, api.ListStorage.Path, nil, &list)
	for _, d := range list.Devices {
		if d.Serial == serial {
			return d.State
		}
	}
	return ""
}
