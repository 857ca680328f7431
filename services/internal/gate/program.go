package gate

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// An instruction is a struct bpf_insn (linux/bpf.h) on a little-endian machine.
type instruction struct {
	code byte
	regs byte // destination, and source << 4
	off  int16
	imm  int32
}

// What the programs are made of (RFC 9669), and what they know of the kernel.
const (
	moveImm   = unix.BPF_ALU64 | unix.BPF_MOV | unix.BPF_K // dst = imm
	loadWord  = unix.BPF_LDX | unix.BPF_MEM | unix.BPF_W   // dst = *(u32 *)(src + off)
	storeWord = unix.BPF_STX | unix.BPF_MEM | unix.BPF_W   // *(u32 *)(dst + off) = src
	jumpEqual = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K   // if dst == imm skip off instructions
	call      = unix.BPF_JMP | unix.BPF_CALL
	exit      = unix.BPF_JMP | unix.BPF_EXIT

	r0, r1, r2 = 0, 1, 2

	redirectFunc = 23 // BPF_FUNC_redirect

	markAt = 8 // of struct __sk_buff

	pass = 0 // TC_ACT_OK
	shot = 2 // TC_ACT_SHOT
)

// drop drops every frame.
var drop = []instruction{
	{code: moveImm, regs: r0, imm: shot},
	{code: exit},
}

// marked lets through what carries Mark.
var marked = []instruction{
	{code: loadWord, regs: r2 | r1<<4, off: markAt},
	{code: moveImm, regs: r0, imm: pass},
	{code: jumpEqual, regs: r2, off: 1, imm: Mark},
	{code: moveImm, regs: r0, imm: shot},
	{code: exit},
}

// redirect marks every frame and sends it out of a port: return bpf_redirect(to, 0).
func redirect(to int) []instruction {
	return []instruction{
		{code: moveImm, regs: r2, imm: Mark},
		{code: storeWord, regs: r1 | r2<<4, off: markAt},
		{code: moveImm, regs: r1, imm: int32(to)},
		{code: moveImm, regs: r2, imm: 0},
		{code: call, imm: redirectFunc},
		{code: exit},
	}
}

// progLoad is the part of union bpf_attr that BPF_PROG_LOAD needs.
type progLoad struct {
	kind    uint32
	count   uint32
	code    uint64
	licence uint64
	_       [3]uint32 // log
	_       uint32    // kernel version
	_       [8]byte
}

// load gives a program to the kernel and returns its descriptor.
func load(code []instruction) (int, error) {
	licence := []byte("Apache-2.0\x00")
	attr := progLoad{
		kind: unix.BPF_PROG_TYPE_SCHED_CLS, count: uint32(len(code)),
		code: uint64(uintptr(unsafe.Pointer(&code[0]))), licence: uint64(uintptr(unsafe.Pointer(&licence[0]))),
	}
	fd, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_LOAD, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
	runtime.KeepAlive(code)
	runtime.KeepAlive(licence)
	if errno != 0 {
		return -1, fmt.Errorf("load an eBPF program: %w", errno)
	}
	return int(fd), nil
}
