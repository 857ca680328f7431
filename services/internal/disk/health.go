package disk

import (
	"fmt"
	"os"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The answers to how a disk is.
const (
	Good    = "good"
	Failing = "failing"
	Unknown = "unknown"
)

// Health asks the disk itself. note is what it says, or why nothing is known.
func (m *Machine) Health(d *Disk) (health, note string) {
	if d.Transport != "nvme" {
		return Unknown, "only NVMe disks are asked about their health"
	}
	f, err := os.Open(d.Path)
	if err != nil {
		return Unknown, "the disk cannot be asked: " + err.Error()
	}
	defer f.Close()
	page, err := smartLog(f)
	if err != nil {
		return Unknown, "the disk does not answer: " + err.Error()
	}
	return readSmartLog(page)
}

const (
	nvmeAdminCommand = 0xc0484e41 // _IOWR('N', 0x41, struct nvme_admin_cmd), linux/nvme_ioctl.h
	nvmeGetLogPage   = 0x02
	nvmeSmartLog     = 0x02
	nvmeAll          = 0xffffffff
	smartLogBytes    = 512
)

// An adminCommand is struct nvme_passthru_cmd of linux/nvme_ioctl.h.
type adminCommand struct {
	opcode, flags                            uint8
	_                                        uint16
	namespace                                uint32
	_, _                                     uint32
	_, addr                                  uint64
	_, dataLen                               uint32
	cdw10, cdw11, cdw12, cdw13, cdw14, cdw15 uint32
	timeout, result                          uint32
}

func smartLog(f *os.File) ([]byte, error) {
	page := make([]byte, smartLogBytes)
	c := adminCommand{
		opcode: nvmeGetLogPage, namespace: nvmeAll, addr: uint64(uintptr(unsafe.Pointer(&page[0]))), dataLen: smartLogBytes,
		cdw10: nvmeSmartLog | (smartLogBytes/4-1)<<16, timeout: 2000,
	}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), nvmeAdminCommand, uintptr(unsafe.Pointer(&c))); errno != 0 {
		return nil, errno
	}
	return page, nil
}

// warnings are the bits of the first byte of the SMART log page (NVM Express Base Specification 2.0, figure 207).
var warnings = []string{"few spare blocks are left", "its temperature is out of bounds", "its reliability has suffered", "it takes no more writes", "its backup of volatile memory has failed"}

// readSmartLog reads the SMART log page of an NVMe disk.
func readSmartLog(page []byte) (health, note string) {
	if len(page) < 6 {
		return Unknown, "the disk's answer is too short"
	}
	var said []string
	for i, w := range warnings {
		if page[0]&(1<<i) != 0 {
			said = append(said, w)
		}
	}
	kelvin := int(page[1]) | int(page[2])<<8
	note = fmt.Sprintf("%d %% of its life is used, %d %% of its spare blocks are left", page[5], page[3])
	if kelvin > 0 {
		note += fmt.Sprintf(", %d °C", kelvin-273)
	}
	if len(said) > 0 {
		return Failing, strings.Join(said, ", ") + "; " + note
	}
	return Good, note
}
