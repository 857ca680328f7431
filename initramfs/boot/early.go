package boot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A mount is a file system that the kernel offers.
type mount struct {
	kind, at string
	flags    uintptr
	data     string
	optional bool // a kernel or machine may have none
}

const secure = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC

// kernelMounts is what everything else needs, in order.
func kernelMounts() []mount {
	return []mount{
		{kind: "proc", at: "/proc", flags: secure},
		{kind: "sysfs", at: "/sys", flags: secure},
		// A kernel with CONFIG_DEVTMPFS_MOUNT has it there already.
		{kind: "devtmpfs", at: "/dev", flags: unix.MS_NOSUID, data: "mode=0755"},
		{kind: "devpts", at: "/dev/pts", flags: unix.MS_NOSUID | unix.MS_NOEXEC, data: "mode=0620,ptmxmode=0666", optional: true},
		{kind: "tmpfs", at: "/dev/shm", flags: unix.MS_NOSUID | unix.MS_NODEV, data: "mode=1777,size=10%", optional: true},
		{kind: "tmpfs", at: "/run", flags: unix.MS_NOSUID | unix.MS_NODEV, data: "mode=0755,size=10%"},
		{kind: "tmpfs", at: "/tmp", flags: unix.MS_NOSUID | unix.MS_NODEV, data: "mode=1777,size=10%"},
		{kind: "cgroup2", at: "/sys/fs/cgroup", flags: secure, optional: true},
	}
}

func (m *machine) mountKernel() error {
	for _, k := range kernelMounts() {
		if err := os.MkdirAll(k.at, 0o755); err != nil && !k.optional {
			return fmt.Errorf("make %s: %w", k.at, err)
		}
		err := unix.Mount(k.kind, k.at, k.kind, k.flags, k.data)
		if err != nil && !errors.Is(err, unix.EBUSY) && !k.optional {
			return fmt.Errorf("mount %s on %s: %w", k.kind, k.at, err)
		}
	}
	// What programs expect to be there beside the kernel's own devices.
	for _, l := range [][2]string{{"/proc/self/fd", "/dev/fd"}, {"fd/0", "/dev/stdin"}, {"fd/1", "/dev/stdout"}, {"fd/2", "/dev/stderr"}} {
		if err := os.Symlink(l[0], l[1]); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	if err := os.MkdirAll(filepath.Dir(reportPath), 0o711); err != nil {
		return err
	}
	// Ctrl-Alt-Del is for init to hear, not for the kernel to obey at once (reboot(2)).
	return unix.Reboot(unix.LINUX_REBOOT_CMD_CAD_OFF)
}

// mountVariables mounts the variables of UEFI, in which the boot loader says what disk it came from. They are only read: one that is deleted by mistake can end a machine.
func (m *machine) mountVariables() error {
	if _, err := os.Stat("/sys/firmware/efi"); err != nil {
		return nil // started in another way
	}
	const at = "/sys/firmware/efi/efivars"
	if err := unix.Mount("efivarfs", at, "efivarfs", secure|unix.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("mount %s: %w", at, err)
	}
	return nil
}

// leastMemory is what a device needs whose board says nothing of it: below it the services would be killed again and again.
const leastMemory = 800_000_000

func (m *machine) checkMemory() error {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return err
	}
	total, err := memoryTotal(string(text))
	if err != nil {
		return err
	}
	if least := uint64(m.board.MemoryFloorBytes); total < least {
		return fmt.Errorf("this machine has %d MB of memory that the kernel can give out, and Galvo needs %d MB: give it 1 GiB or more", total/1e6, least/1e6)
	}
	return nil
}

// memoryTotal returns MemTotal of /proc/meminfo (proc(5)) in bytes.
func memoryTotal(meminfo string) (uint64, error) {
	for line := range strings.Lines(meminfo) {
		if f := strings.Fields(line); len(f) >= 2 && f[0] == "MemTotal:" {
			kib, err := strconv.ParseUint(f[1], 10, 64)
			return kib * 1024, err
		}
	}
	return 0, errors.New("/proc/meminfo has no MemTotal")
}

// parameters are the kernel's, below /proc/sys, with the reason.
var parameters = []struct{ name, value, why string }{
	{"kernel/modprobe", "/bin/modprobe", "until now there was none at the kernel's own place: what its parts look for before init is not in the image, and a process each would take seconds"},
	{"kernel/panic", "10", "a kernel that stops starts again, so that an update that does so falls back"},
	{"kernel/panic_on_oops", "1", "half a kernel is none"},
	{"kernel/hung_task_timeout_secs", "120", "said on the console, as the log of a disk that hangs"},
	{"kernel/kptr_restrict", "2", "services have no use for kernel addresses"},
	{"kernel/dmesg_restrict", "1", "nor for the kernel's log"},
	{"kernel/unprivileged_bpf_disabled", "1", "nor for programs in the kernel"},
	{"net/core/bpf_jit_enable", "1", "the fanout program runs for every frame"},
	{"net/core/default_qdisc", "pfifo_fast", "the simplest one"},
	{"vm/panic_on_oom", "0", "a service that takes too much is killed, not the device"},
}

func (m *machine) setParameters() error {
	var errs error
	for _, p := range parameters {
		// A kernel without the parameter does not need it.
		if err := os.WriteFile("/proc/sys/"+p.name, []byte(p.value), 0); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = errors.Join(errs, fmt.Errorf("set %s to %s: %w", p.name, p.value, err))
		}
	}
	return errs
}

// loopback lets this machine reach itself: init asks the page so. Any socket takes the request (netdevice(7)), a unix one too.
func (m *machine) loopback() error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	r, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, r)
}

// kernelStart returns when the kernel started.
func kernelStart() time.Time {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return time.Now()
	}
	return time.Now().Add(-time.Duration(ts.Nano()))
}
