package qemu

import (
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// emulated is QEMU's own emulation, a thread for each processor.
const emulated = "tcg,thread=multi"

// accelerator returns kvm, with the processor that it takes, where KVM has proved to boot the kernel, and emulation else.
func accelerator(m *Machine) (accel, cpu string) {
	if m.Arch == runtime.GOARCH && kvmBoots() {
		return "kvm", "host"
	}
	return emulated, hardware[m.Arch].cpu
}

// kvmBoots tries, once in a process, whether the kernel reaches init under KVM in the time that emulation takes. A device that can be opened proves nothing: a
// virtual machine's own KVM often lacks a register or stumbles over an instruction.
var kvmBoots = sync.OnceValue(func() bool {
	top, err := root()
	if err != nil {
		return false
	}
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return false
	}
	f.Close()
	dir, err := os.MkdirTemp("", "galvo-kvm")
	if err != nil {
		return false
	}
	defer os.RemoveAll(dir)
	m := &Machine{Arch: runtime.GOARCH, Image: imageOf(top, "qemu-"+runtime.GOARCH), MemoryMB: 1024, Dir: dir, NoReboot: true, Network: Unplugged}
	console := newConsole()
	cmd := exec.Command(program(m.Arch), m.arguments(dir, "kvm", "host", 0)...)
	cmd.Stdout, cmd.Stderr = console, console
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		return false
	}
	ended := make(chan struct{})
	go func() { cmd.Wait(); close(ended) }()
	defer func() { cmd.Process.Kill(); <-ended }()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		select {
		case <-ended:
			return false
		default:
		}
		if console.Await(200*time.Millisecond, initLine) == nil {
			return true
		}
	}
	return false
})
