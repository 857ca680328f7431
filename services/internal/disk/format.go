package disk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"sync"
)

// A Format says how a disk is to be formatted.
type Format struct {
	Label    string // of the file system, at most 16 bytes
	Password string // encrypts the disk with LUKS2 if it is not empty
}

// keyMemory is what making the key of a password takes, in KiB: cryptsetup would take a gigabyte, which a device that is full of packets does not have when
// the disk is to be opened.
const keyMemory = "65536"

// Format deletes everything on the disk and puts an ext4 file system on all of it. An encrypted disk is open afterwards. progress is called with
// percentages that rise to 100.
func (m *Machine) Format(ctx context.Context, d *Disk, f Format, progress func(percent int)) error {
	if d.InUse != "" {
		return fmt.Errorf("format %s: it is %s", d.Path, d.InUse)
	}
	progress(0)
	if err := wipe(d.Path, d.Bytes); err != nil {
		return fmt.Errorf("delete what is on %s: %w", d.Path, err)
	}
	target := d.Path
	if f.Password != "" {
		err := m.Run(ctx, []byte(f.Password), nil, "cryptsetup", "luksFormat", "--batch-mode", "--type", "luks2", "--pbkdf-memory", keyMemory, "--key-file", "-", d.Path)
		if err != nil {
			return err
		}
		if target, err = m.Open(ctx, d, d.Path, f.Password); err != nil {
			return err
		}
	}
	said := func(b []byte) {
		if p, ok := mkfsProgress(b); ok {
			progress(p)
		}
	}
	// -m 0: no part is kept for root, which would be taken from captures. -E: all of the time is spent now, where progress is shown, and none
	// while packets are recorded.
	err := m.Run(ctx, nil, said, "mkfs.ext4", "-F", "-m", "0", "-L", f.Label, "-E", "lazy_itable_init=0,lazy_journal_init=0", target)
	if err == nil {
		progress(100)
	}
	return err
}

var ofTotal = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`(\d+)/(\d+)`) })

// mkfsProgress reads "Writing inode tables:  12/400", which mkfs overwrites with backspaces.
func mkfsProgress(b []byte) (percent int, ok bool) {
	all := ofTotal().FindAllSubmatch(b, -1)
	if len(all) == 0 {
		return 0, false
	}
	last := all[len(all)-1]
	done, err1 := strconv.Atoi(string(last[1]))
	total, err2 := strconv.Atoi(string(last[2]))
	if err1 != nil || err2 != nil || total == 0 || done > total {
		return 0, false
	}
	return done * 99 / total, true
}

// wipeBytes is how much is overwritten at both ends of a disk: partition tables with their copies, and everything that Identify looks for.
const wipeBytes = 1 << 20

// wipe overwrites both ends of a disk, so that nothing of what it was is found again.
func wipe(path string, size uint64) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_EXCL, 0) // O_EXCL: not while the kernel uses it (open(2))
	if err != nil {
		return err
	}
	zero := make([]byte, min(wipeBytes, size))
	_, err1 := f.WriteAt(zero, 0)
	_, err2 := f.WriteAt(zero, int64(size)-int64(len(zero)))
	return errors.Join(err1, err2, f.Sync(), f.Close())
}

// mapping is the name of the open form of an encrypted disk.
func mapping(id string) string { return "galvo-" + id }

// ErrPassword is in the error of Open if the password is wrong.
var ErrPassword = errors.New("the password is wrong")

// wrongPassword is what cryptsetup(8) exits with then.
const wrongPassword = 2

// Open opens an encrypted disk with its password, and returns the device that its file system is on. One that is open already stays so.
func (m *Machine) Open(ctx context.Context, d *Disk, device, password string) (string, error) {
	if path := m.IsOpen(d); path != "" {
		return path, nil
	}
	// It was pulled while it was open, and has come again.
	if err := m.Close(ctx, d.ID); err != nil {
		return "", fmt.Errorf("open %s: what was open when it was pulled is in use still: %w", device, err)
	}
	if err := m.Run(ctx, []byte(password), nil, "cryptsetup", "open", "--type", "luks", "--key-file", "-", device, mapping(d.ID)); err != nil {
		if status, ok := errors.AsType[*exec.ExitError](err); ok && status.ExitCode() == wrongPassword {
			err = ErrPassword
		}
		return "", fmt.Errorf("open %s: %w", device, err)
	}
	if path := m.IsOpen(d); path != "" {
		return path, nil
	}
	return "", fmt.Errorf("open %s: the kernel does not show it afterwards", device)
}

// IsOpen returns the device that the file system of an open encrypted disk is on, or nothing. What is left of one that was pulled and has come again is nothing.
func (m *Machine) IsOpen(d *Disk) string {
	dir := m.mapped(mapping(d.ID))
	if dir == "" {
		return ""
	}
	below, err := os.ReadDir(filepath.Join(dir, "slaves"))
	if err != nil || !slices.ContainsFunc(below, func(e os.DirEntry) bool { return e.Name() == d.Kernel || e.Name() == filepath.Base(d.Target) }) {
		return ""
	}
	return filepath.Join(m.Dev, filepath.Base(dir)) // the kernel makes it; what is in /dev/mapper needs udev, or a right that we have not
}

// mapped returns the kernel's folder of a mapping, or nothing.
func (m *Machine) mapped(name string) string {
	names, _ := filepath.Glob(m.Sys + "/block/dm-*/dm/name") // its only error is a bad pattern
	for _, n := range names {
		if dir := filepath.Dir(filepath.Dir(n)); m.attribute(dir, "dm/name") == name {
			return dir
		}
	}
	return ""
}

// Close makes an encrypted disk unreadable again.
func (m *Machine) Close(ctx context.Context, id string) error {
	if m.mapped(mapping(id)) == "" {
		return nil
	}
	return m.Run(ctx, nil, nil, "cryptsetup", "close", mapping(id))
}
