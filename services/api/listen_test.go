package api

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"galvo/ci/need"
)

// Only the users that were named are heard, whatever the mode of the socket's file; and its group is its folder's.
func TestListen(t *testing.T) {
	need.Root(t)
	const friend, stranger, group = 64211, 64212, 64213
	dir, err := os.MkdirTemp("/tmp", "api")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := errors.Join(os.Chown(dir, 0, group), os.Chmod(dir, 0o755|os.ModeSetgid)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "s")
	if err := os.WriteFile(path, nil, 0o600); err != nil { // what an earlier process left
		t.Fatal(err)
	}
	l, err := Listen(path, friend)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil || st.Gid != group || st.Mode&0o777 != 0o660 {
		t.Errorf("group %d, mode %o, %v", st.Gid, st.Mode, err)
	}
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Write([]byte("welcome"))
			c.Close()
		}
	}()
	for uid, want := range map[int]string{friend: "welcome", stranger: ""} {
		if got := greeting(t, path, uid); got != want {
			t.Errorf("user %d reads %q, want %q", uid, got, want)
		}
	}
}

// greeting connects as another user, on a thread that ends with that identity, and returns what it reads.
func greeting(t *testing.T, path string, uid int) string {
	t.Helper()
	got := make(chan string)
	go func() {
		runtime.LockOSThread()
		if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, ^uintptr(0), uintptr(uid), ^uintptr(0)); errno != 0 {
			t.Error(errno)
		}
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err == nil {
			defer unix.Close(fd)
			err = unix.Connect(fd, &unix.SockaddrUnix{Name: path})
		}
		if err != nil {
			t.Error(err)
			got <- ""
			return
		}
		b := make([]byte, 32)
		n, _ := unix.Read(fd, b)
		got <- string(b[:max(n, 0)])
	}()
	return <-got
}

func TestListenErrors(t *testing.T) {
	if _, err := Listen(filepath.Join(t.TempDir(), "missing", "s")); err == nil {
		t.Error("a socket in a folder that is not there")
	}
	if _, err := Listen(filepath.Join(t.TempDir(), strings.Repeat("long", 30))); err == nil {
		t.Error("a path that is longer than a socket's can be")
	}
}
