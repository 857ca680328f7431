package disk

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"
)

// A System does to disks what needs the kernel or a program.
type System interface {
	// Mount mounts the ext4 file system of a device at a directory; a device that is write-protected takes a mount only for reading.
	Mount(device, dir string, readOnly bool) error
	// Unmount undoes it. lazy takes it out of sight although it is in use, which is all that can be done for a disk that is gone.
	Unmount(dir string, lazy bool) error
	// Run runs a program with an input, hands what it prints to said, which may be nil, and returns what it complained of.
	Run(ctx context.Context, input []byte, said func([]byte), name string, args ...string) error
}

// Linux is the System of this machine.
type Linux struct{}

// Mount implements System. Nothing on the device may be a program or a device, and reading writes nothing.
func (Linux) Mount(device, dir string, readOnly bool) error {
	flags := uintptr(unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_NOATIME)
	if readOnly {
		flags |= unix.MS_RDONLY
	}
	if err := unix.Mount(device, dir, "ext4", flags, ""); err != nil {
		return fmt.Errorf("mount %s: %w", device, err)
	}
	return nil
}

// Unmount implements System.
func (Linux) Unmount(dir string, lazy bool) error {
	flags := unix.UMOUNT_NOFOLLOW
	if lazy {
		flags |= unix.MNT_DETACH
	}
	if err := unix.Unmount(dir, flags); err != nil {
		return fmt.Errorf("unmount %s: %w", dir, err)
	}
	return nil
}

// ErrNoProgram is in the error of Run if the machine does not have the program.
var ErrNoProgram = errors.New("the program is not installed")

// packages are the Debian packages of the programs that are run.
var packages = map[string]string{"mkfs.ext4": "e2fsprogs", "cryptsetup": "cryptsetup-bin"}

// Run implements System.
func (Linux) Run(ctx context.Context, input []byte, said func([]byte), name string, args ...string) error {
	path, err := find(name)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Stdin = bytes.NewReader(input)
	cmd.Env = []string{"LC_ALL=C", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	if said != nil {
		cmd.Stdout = writer(said)
	}
	if err := cmd.Run(); err != nil {
		return &runError{name, strings.TrimSpace(complaint.String()), err}
	}
	return nil
}

// A runError is that of a program, with what it complained of.
type runError struct {
	name, complaint string
	err             error
}

func (e *runError) Error() string { return e.name + ": " + cmp.Or(e.complaint, e.err.Error()) }

func (e *runError) Unwrap() error { return e.err }

// find looks where administration programs are: a service's PATH may lack them.
func find(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin/", "/sbin/"} {
		if path, err := exec.LookPath(dir + name); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%w: %s, of the package %s", ErrNoProgram, name, packages[name])
}

type writer func([]byte)

func (w writer) Write(b []byte) (int, error) {
	w(b)
	return len(b), nil
}
