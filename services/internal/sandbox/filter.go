package sandbox

import (
	"fmt"
	"runtime"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// denied are the system calls that a confined process has no use for, and that gain rights, change the machine, reach other processes, or
// come round this filter (io_uring makes sockets without socket(2)). They fail with EPERM.
var denied = []uint32{
	unix.SYS_EXECVE, unix.SYS_EXECVEAT,
	unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV, unix.SYS_PIDFD_GETFD, unix.SYS_KCMP,
	unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT, unix.SYS_CHROOT, unix.SYS_FSOPEN, unix.SYS_FSMOUNT, unix.SYS_FSPICK,
	unix.SYS_MOVE_MOUNT, unix.SYS_OPEN_TREE, unix.SYS_MOUNT_SETATTR,
	unix.SYS_UNSHARE, unix.SYS_SETNS,
	unix.SYS_IO_URING_SETUP,
	unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN, unix.SYS_USERFAULTFD, unix.SYS_OPEN_BY_HANDLE_AT,
	unix.SYS_KEYCTL, unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY,
	unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_DELETE_MODULE, unix.SYS_KEXEC_LOAD, unix.SYS_REBOOT,
	unix.SYS_SWAPON, unix.SYS_SWAPOFF, unix.SYS_ACCT, unix.SYS_QUOTACTL, unix.SYS_SYSLOG,
	unix.SYS_SETTIMEOFDAY, unix.SYS_CLOCK_SETTIME, unix.SYS_ADJTIMEX, unix.SYS_CLOCK_ADJTIME,
	unix.SYS_SETHOSTNAME, unix.SYS_SETDOMAINNAME,
}

// uring are the system calls that use an io_uring which was made before.
var uring = []uint32{unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER}

// auditArch is what seccomp_data calls the machine (linux/audit.h): calls of another one have other numbers.
var auditArch = map[string]uint32{
	"amd64": unix.AUDIT_ARCH_X86_64,
	"arm64": unix.AUDIT_ARCH_AARCH64,
}

const (
	// Offsets into struct seccomp_data (seccomp(2)) on little-endian machines.
	dataNr   = 0
	dataArch = 4
	dataArg0 = 16

	x32Bit = 0x40000000 // system calls of the x32 ABI

	newNamespaces = unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWCGROUP

	allow = unix.SECCOMP_RET_ALLOW
	eperm = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
	// The C library and Go fall back to clone(2), whose flags can be looked at.
	enosys = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
)

// program returns the filter in classic BPF. Each rule ends with a return, so that no jump is longer than a rule.
func program(arch string, withUring bool) ([]unix.SockFilter, error) {
	audit, ok := auditArch[arch]
	if !ok {
		return nil, fmt.Errorf("no numbers of system calls are known for %s", arch)
	}
	code := []unix.SockFilter{
		load(dataArch),
		jump(unix.BPF_JEQ, audit, 1, 0), give(unix.SECCOMP_RET_KILL_PROCESS),
		load(dataNr),
		jump(unix.BPF_JGE, x32Bit, 0, 1), give(eperm),
		jump(unix.BPF_JEQ, unix.SYS_CLONE3, 0, 1), give(enosys),
		jump(unix.BPF_JEQ, unix.SYS_SOCKET, 0, 4),
		load(dataArg0), jump(unix.BPF_JEQ, unix.AF_UNIX, 0, 1), give(allow), give(eperm),
		jump(unix.BPF_JEQ, unix.SYS_CLONE, 0, 4),
		load(dataArg0), jump(unix.BPF_JSET, newNamespaces, 0, 1), give(eperm), give(allow),
	}
	deny := denied
	if !withUring {
		deny = append(slices.Clip(deny), uring...)
	}
	for _, nr := range deny {
		code = append(code, jump(unix.BPF_JEQ, nr, 0, 1), give(eperm))
	}
	return append(code, give(allow)), nil
}

func load(offset uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
}

func jump(test uint16, k uint32, yes, no uint8) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | test | unix.BPF_K, K: k, Jt: yes, Jf: no}
}

func give(action uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: action}
}

// confine installs the filter on all threads.
func confine(withUring bool) error {
	code, err := program(runtime.GOARCH, withUring)
	if err != nil {
		return err
	}
	prog := unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}
	thread, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&prog)))
	runtime.KeepAlive(code)
	if errno != 0 {
		return errno
	}
	if thread != 0 {
		return fmt.Errorf("thread %d cannot take it", thread)
	}
	return nil
}
