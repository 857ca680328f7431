// Package qemu boots the appliance in QEMU for tests, without root: serial console, port forward, capture ports whose wires the test holds, disks, the
// control socket QMP, power cuts.
//
// A Machine describes the hardware and outlives power cuts; Boot gives one run of it. Frames go over -netdev stream sockets: the test listens, QEMU
// connects, and both push back, so that nothing is lost on the wire. Everything is emulated (TCG) unless KVM has proved to boot the kernel. Times are scaled by
// the machine's load. All of a run ends with the test.
package qemu

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"galvo/ci/need"
)

// A Machine is the hardware. The zero value is not useful: Direct and Flashed make one.
type Machine struct {
	Arch       string // amd64 or arm64
	Image      Image
	UEFI       bool     // firmware, boot loader and disk, instead of the kernel handed over by QEMU
	Append     []string // kernel arguments, of a direct boot only
	MemoryMB   int
	Disks      []Disk // the first is what UEFI boots from
	Ports      int    // capture ports, whose wires are VM.Wires
	Network    Network
	Model      Model   // of the management port's NIC
	PortModels []Model // of the capture ports' NICs, by turns; none is virtio's
	Watchdog   bool    // i6300esb, which resets the machine
	Clock      string  // what it shows at power on, as 2001-02-03T04:05:06; empty is the time
	NoReboot   bool    // QEMU ends where the machine would start again
	Dir        string
}

// A Disk is a disk of the machine.
type Disk struct {
	Path      string // raw file, or nbd:unix:PATH
	Bus       Bus
	Removable bool // of virtio or NVMe: behind a port of its own, so that it can be pulled (PullDisk)
	ReadOnly  bool // write-protected
}

// A Network is what the management port is connected to.
type Network string

const (
	// User is QEMU's own: a DHCP server, and a forwarded port to HTTPS.
	User Network = ""
	// Wired is a wire that the test holds: VM.Management.
	Wired Network = "wire"
	// Unplugged is nothing.
	Unplugged Network = "unplugged"
)

// An Image is what `make image` has built for a board.
type Image struct{ Dir string }

// Kernel, Initramfs and Disk are paths of files in Dir; they need not exist.
func (i Image) Kernel() string    { return filepath.Join(i.Dir, "vmlinuz") }
func (i Image) Initramfs() string { return filepath.Join(i.Dir, "initramfs.zst") }
func (i Image) Disk() string      { return filepath.Join(i.Dir, "disk.img") }

// CommandLine returns what the image's boot loader tells the kernel, so that a direct boot tells it the same; nothing if the image's manifest does not say.
func (i Image) CommandLine() string {
	var manifest struct {
		CommandLine string `json:"commandLine"`
	}
	text, err := os.ReadFile(filepath.Join(i.Dir, "manifest.json"))
	if err != nil || json.Unmarshal(text, &manifest) != nil {
		return ""
	}
	return manifest.CommandLine
}

// ImageFor returns the image of a board, or skips the test.
func ImageFor(t testing.TB, board string) Image {
	t.Helper()
	top, err := root()
	if err != nil {
		t.Fatal(err)
	}
	i := imageOf(top, board)
	for _, f := range []string{i.Kernel(), i.Initramfs()} {
		if _, err := os.Stat(f); err != nil {
			need.Missing(t, "qemu", "no image of the board "+board+": `make image BOARD="+board+"` builds it")
		}
	}
	return i
}

func imageOf(top, board string) Image {
	return Image{filepath.Join(top, "build", "image", board)}
}

// root returns the top folder of the module.
func root() (string, error) {
	dir, err := os.Getwd()
	for ; err == nil && dir != "/"; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
	}
	return "", errors.Join(err, errors.New("not inside the module"))
}

// Direct returns a machine that starts the image's kernel by itself.
func Direct(t testing.TB, arch string) *Machine {
	t.Helper()
	need.QEMU(t, program(arch))
	return &Machine{Arch: arch, Image: ImageFor(t, "qemu-"+arch), MemoryMB: 1024, Dir: t.TempDir()}
}

// Flashed returns a machine whose first disk is a copy of the image for flashing, and which starts through UEFI. The disk is grown to size bytes.
func Flashed(t testing.TB, arch string, size int64) *Machine {
	t.Helper()
	return FlashedBoard(t, arch, "qemu-"+arch, size)
}

// FlashedBoard is Flashed with the image of any board.
func FlashedBoard(t testing.TB, arch, board string, size int64) *Machine {
	t.Helper()
	need.QEMU(t, program(arch))
	m := &Machine{Arch: arch, Image: ImageFor(t, board), MemoryMB: 1024, Dir: t.TempDir(), UEFI: true}
	disk := filepath.Join(m.Dir, "disk.img")
	if err := copySparse(disk, m.Image.Disk(), size); err != nil {
		need.Missing(t, "qemu", err.Error())
	}
	m.Disks = []Disk{{Path: disk}}
	return m
}

// BlankDisk makes an empty disk of size bytes and returns it.
func (m *Machine) BlankDisk(t testing.TB, size int64) Disk {
	t.Helper()
	f, err := os.CreateTemp(m.Dir, "disk-*.img")
	if err == nil {
		err = f.Truncate(size)
		f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return Disk{Path: f.Name()}
}

func program(arch string) string {
	return map[string]string{"amd64": "qemu-system-x86_64", "arm64": "qemu-system-aarch64"}[arch]
}

// hardware is what the two architectures differ in.
var hardware = map[string]struct {
	machine, cpu string
	code, vars   string // UEFI, from Debian
}{
	"amd64": {"q35", "Nehalem", "/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"},
	"arm64": {"virt", "cortex-a72", "/usr/share/AAVMF/AAVMF_CODE.fd", "/usr/share/AAVMF/AAVMF_VARS.fd"},
}

// arguments returns QEMU's command line, with its sockets in dir.
func (m *Machine) arguments(dir, accel, cpu string, forward int) []string {
	hw := hardware[m.Arch]
	args := []string{
		"-M", hw.machine, "-cpu", cpu, "-smp", "2", "-m", strconv.Itoa(m.MemoryMB), "-accel", accel,
		"-display", "none", "-serial", "stdio", "-monitor", "none", "-nodefaults",
		"-qmp", "unix:" + filepath.Join(dir, "qmp") + ",server=on,wait=off",
		"-device", "virtio-rng-pci",
	}
	if m.Clock != "" {
		args = append(args, "-rtc", "base="+m.Clock)
	}
	if m.NoReboot {
		args = append(args, "-no-reboot")
	}
	if m.UEFI {
		args = append(args,
			"-drive", "if=pflash,unit=0,format=raw,readonly=on,file="+hw.code,
			"-drive", "if=pflash,unit=1,format=raw,file="+m.variables())
	} else {
		kernel := append([]string{m.Image.CommandLine()}, m.Append...)
		args = append(args, "-kernel", m.Image.Kernel(), "-initrd", m.Image.Initramfs(), "-append", strings.Join(kernel, " "))
	}
	switch m.Network {
	case User:
		args = append(args, "-netdev", fmt.Sprintf("user,id=m0,hostfwd=tcp:127.0.0.1:%d-:443", forward))
	case Wired:
		args = append(args, "-netdev", streamNetdev("m0", filepath.Join(dir, "m0")))
	}
	if m.Network != Unplugged {
		args = append(args, "-device", m.Model.arguments("m0", 3, 0))
	}
	for i := range m.Ports {
		id := fmt.Sprintf("c%d", i+1)
		args = append(args, "-netdev", streamNetdev(id, filepath.Join(dir, id)),
			"-device", m.model(i).arguments(id, 8+i, i+1))
	}
	for i, d := range m.Disks {
		args = append(args, d.arguments(i)...)
	}
	if m.Watchdog {
		args = append(args, "-device", "i6300esb", "-watchdog-action", "reset")
	}
	return args
}

// streamNetdev is a netdev whose frames go over a unix socket on which the test listens. QEMU as the server would crash when a client leaves early.
func streamNetdev(id, path string) string {
	return fmt.Sprintf("stream,id=%s,server=off,addr.type=unix,addr.path=%s", id, path)
}

func mac(i int) string { return fmt.Sprintf("52:54:00:00:00:%02x", i) }

func (d Disk) arguments(i int) []string {
	id := fmt.Sprintf("d%d", i)
	file := "file.driver=file,file.filename=" + d.Path
	if path, ok := strings.CutPrefix(d.Path, "nbd:unix:"); ok {
		file = "file.driver=nbd,file.server.type=unix,file.server.path=" + path
	}
	if d.ReadOnly {
		file += ",read-only=on"
	}
	args := []string{"-blockdev", fmt.Sprintf("driver=raw,node-name=%s,%s", id, file)}
	if d.Removable {
		// The root bus takes no plugging while it runs.
		args = append(args, "-device", fmt.Sprintf("pcie-root-port,id=slot-%s,chassis=%d", id, i+1))
	}
	for _, device := range d.devices(i) {
		args = append(args, "-device", device)
	}
	return args
}

// devices returns what the i-th disk consists of, the disk itself last.
func (d Disk) devices(i int) []string {
	id, slot := fmt.Sprintf("d%d", i), ""
	if d.Removable {
		slot = ",bus=slot-" + id
	}
	return d.Bus.devices(id, "dev-"+id, slot)
}

// variables returns the machine's own copy of the UEFI variables.
func (m *Machine) variables() string {
	path := filepath.Join(m.Dir, "variables.fd")
	if _, err := os.Stat(path); err != nil {
		if err := copySparse(path, hardware[m.Arch].vars, 0); err != nil {
			return hardware[m.Arch].vars // QEMU says what is wrong with it
		}
	}
	return path
}

// Patience is how long something in a machine may take on this one: two and a half minutes where it is idle, longer under load, and never longer than the test may
// take as a whole, so that it says what is wrong.
func Patience(t testing.TB) time.Duration {
	load := 0.0
	if text, err := os.ReadFile("/proc/loadavg"); err == nil {
		if f := strings.Fields(string(text)); len(f) > 0 {
			load, _ = strconv.ParseFloat(f[0], 64)
		}
	}
	patience := time.Duration(min(4, max(1, load/float64(runtime.NumCPU()))) * float64(150*time.Second))
	if d, ok := t.(interface{ Deadline() (time.Time, bool) }); ok {
		if deadline, ok := d.Deadline(); ok {
			patience = min(patience, time.Until(deadline)-10*time.Second)
		}
	}
	return patience
}
