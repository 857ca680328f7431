package sandbox

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"galvo/ci/need"
)

const user, group = 64210, 64210

// A report is what a process in the sandbox finds out about itself.
type report struct {
	Entered string
	Status  []string          // /proc/self/task/*/status, the lines of interest
	Tried   map[string]string // what was tried, and what came of it
}

// attempts are tried in the sandbox.
var attempts = map[string]func() error{
	"AF_UNIX":    func() error { return socket(unix.AF_UNIX, unix.SOCK_STREAM) },
	"AF_INET":    func() error { return socket(unix.AF_INET, unix.SOCK_STREAM) },
	"AF_INET6":   func() error { return socket(unix.AF_INET6, unix.SOCK_DGRAM) },
	"AF_PACKET":  func() error { return socket(unix.AF_PACKET, unix.SOCK_RAW) },
	"AF_NETLINK": func() error { return socket(unix.AF_NETLINK, unix.SOCK_RAW) },
	"chown":      func() error { return os.Chown("/proc/self/exe", 0, 0) },
	"mount":      func() error { return unix.Mount("none", "/mnt", "tmpfs", 0, "") },
	"unshare":    func() error { return unix.Unshare(unix.CLONE_NEWUSER) },
	"exec":       func() error { return syscall.Exec("/bin/true", []string{"true"}, nil) },
	"setuid":     func() error { return syscall.Setuid(0) },
	"io_uring": func() error {
		_, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, 1, 0, 0)
		return errno
	},
	// The descriptor is wrong on purpose: a process that may call gets EBADF.
	"io_uring_enter": func() error {
		_, _, errno := unix.Syscall6(unix.SYS_IO_URING_ENTER, ^uintptr(0), 0, 0, 0, 0, 0)
		return errno
	},
	"ptrace": func() error { return unix.PtraceAttach(os.Getppid()) },
	"thread": func() error {
		var wg sync.WaitGroup
		wg.Go(runtime.LockOSThread) // ends a thread, after it was made
		wg.Wait()
		return nil
	},
}

func socket(family, kind int) error {
	fd, err := unix.Socket(family, kind, 0)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

// TestMain is also the process in the sandbox.
func TestMain(m *testing.M) {
	var p Policy
	text := os.Getenv("SANDBOX_TEST_POLICY")
	if text == "" {
		os.Exit(m.Run())
	}
	var r report
	var threads sync.WaitGroup
	quit := make(chan struct{})
	for range 8 {
		threads.Go(func() { runtime.LockOSThread(); <-quit })
	}
	status, err := os.Open("/proc/self/task")
	if err == nil {
		err = json.Unmarshal([]byte(text), &p)
	}
	if err == nil {
		err = Enter(p)
	}
	if err != nil {
		r.Entered = err.Error()
	} else {
		r.Tried = map[string]string{}
		for name, try := range attempts {
			// What a process that is not confined would succeed with is not tried.
			if p.Confine || name == "AF_PACKET" || name == "ptrace" {
				r.Tried[name] = result(try())
			}
		}
		names, _ := status.Readdirnames(-1)
		for _, n := range names {
			if s := statusOf("/proc/self/task/" + n + "/status"); s != "" {
				r.Status = append(r.Status, s)
			}
		}
	}
	close(quit)
	json.NewEncoder(os.Stdout).Encode(r)
}

func result(err error) string {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return unix.ErrnoName(errno)
	}
	return "ok"
}

// statusOf returns the lines about rights, in one; nothing for a thread that has just ended.
func statusOf(path string) string {
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return ""
	}
	if err != nil {
		return err.Error()
	}
	var lines []string
	for _, l := range strings.Split(string(b), "\n") {
		f := strings.Fields(l)
		if len(f) > 1 && slices.Contains([]string{"Uid:", "Gid:", "Groups:", "CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:", "NoNewPrivs:", "Seccomp:"}, f[0]) {
			lines = append(lines, strings.Join(f, " "))
		}
	}
	return strings.Join(lines, "; ")
}

func enter(t *testing.T, p Policy) report {
	t.Helper()
	text, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	cmd := exec.Command(os.Args[0])
	cmd.Env = []string{"SANDBOX_TEST_POLICY=" + string(text)}
	cmd.Stdout, cmd.Stderr = &out, os.Stderr
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	var r report
	if err := json.Unmarshal(out.Bytes(), &r); err != nil || r.Entered != "" {
		t.Fatalf("%v %s", err, out.Bytes())
	}
	if len(r.Status) < 8 {
		t.Errorf("%d threads", len(r.Status))
	}
	return r
}

func TestUnprivileged(t *testing.T) {
	need.Root(t)
	for name, p := range map[string]Policy{"web": Unprivileged(user, group), "engine": Engine(user, group)} {
		t.Run(name, func(t *testing.T) { unprivileged(t, enter(t, p), p.Uring) })
	}
}

func unprivileged(t *testing.T, r report, uring bool) {
	const want = "Uid: 64210 64210 64210 64210; Gid: 64210 64210 64210 64210; CapInh: 0000000000000000; CapPrm: 0000000000000000; " +
		"CapEff: 0000000000000000; CapBnd: 0000000000000000; CapAmb: 0000000000000000; NoNewPrivs: 1; Seccomp: 2"
	for _, s := range r.Status {
		if s != want {
			t.Errorf("a thread has %s\nwant         %s", s, want)
		}
	}
	for name, got := range r.Tried {
		want := "EPERM"
		if name == "AF_UNIX" || name == "thread" {
			want = "ok"
		}
		if name == "io_uring_enter" && uring {
			want = "EBADF"
		}
		if got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

func TestHost(t *testing.T) {
	need.Root(t)
	r := enter(t, Host())
	// NET_ADMIN NET_RAW SYS_ADMIN SYS_TIME CHOWN FOWNER DAC_OVERRIDE
	const caps = "000000000220300b"
	want := "Uid: 0 0 0 0; Gid: 0 0 0 0; CapInh: 0000000000000000; CapPrm: " + caps + "; CapEff: " + caps + "; CapBnd: " + caps + "; CapAmb: 0000000000000000; NoNewPrivs: 1; Seccomp: 0"
	for _, s := range r.Status {
		if strings.Replace(s, "Groups: 0; ", "", 1) != want {
			t.Errorf("a thread has %s\nwant         %s", s, want)
		}
	}
	if r.Tried["AF_PACKET"] != "ok" || r.Tried["ptrace"] != "EPERM" {
		t.Errorf("tried: %v", r.Tried)
	}
}

// Every machine that is built for has a program that the kernel would take.
func TestProgram(t *testing.T) {
	for arch := range auditArch {
		code, err := program(arch, false)
		if err != nil || len(code) > 4096 {
			t.Errorf("%s: %d instructions, %v", arch, len(code), err)
		}
		for i, in := range code {
			if last := i + 1 + int(max(in.Jt, in.Jf)); in.Code&0x07 == unix.BPF_JMP && last >= len(code) {
				t.Errorf("%s: instruction %d jumps out of the program", arch, i)
			}
		}
	}
	if _, err := program("pdp11", false); err == nil {
		t.Error("a program for an unknown machine")
	}
}
