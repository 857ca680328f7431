package boot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// shadowEvery is how often the small files of the state are copied into memory.
	shadowEvery = time.Minute
	// shadowBytes is the largest file that is: configuration, users, certificate, lists.
	shadowBytes = 1 << 20
	// tryEvery is how often the disk is written to, to see whether it can be.
	tryEvery = 5 * time.Second
)

// watchData sees whether the data partition can still be written, and keeps copies of the small files of the state in memory, so that services which end after the disk is
// gone find something to start with. It ends when the disk is gone.
func (m *machine) watchData() {
	copied := time.Time{}
	for {
		if time.Since(copied) > shadowEvery {
			if err := copyState(ramState, diskState); err != nil {
				m.report.problem("shadow", fmt.Sprintf("The state cannot be copied into memory: %v.", err))
			}
			copied = time.Now()
		}
		time.Sleep(tryEvery)
		if lost := m.tryData(filepath.Join(m.state, ".alive")); lost {
			return
		}
	}
}

// tryData says what is wrong with the data partition, and reports whether it is lost for this run. One that is full is not: somebody can make room.
func (m *machine) tryData(path string) (lost bool) {
	text := ""
	err := tryDisk(path)
	switch {
	case errors.Is(err, unix.ENOSPC):
		text = fmt.Sprintf("The data partition on %s is full: %v. Changes of the configuration cannot be kept: delete files, or a packet ring buffer, on it.", m.mounted, err)
	case err != nil:
		text = fmt.Sprintf("The data partition on %s cannot be written any more: %v. Captures on it are interrupted, and changes of the configuration are lost with the power.", m.mounted, err)
		m.dataLost.Store(true)
		lost = true
	}
	if m.report.problem("data", text) && text != "" {
		m.say("%s", text)
	}
	return lost
}

// tryDisk writes a file through to the disk.
func tryDisk(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(time.Now().UTC().Format(time.RFC3339))
	return errors.Join(err, f.Sync(), f.Close())
}

// leaveDisk lets the services go on with the copy of the state in memory. The rescue console knows both places.
func (m *machine) leaveDisk() {
	m.say("the services go on with a copy of their state in memory")
	m.stop()
	<-m.services
	unix.Unmount(dataMount, unix.MNT_DETACH)
	m.state, m.mounted = ramState, ""
	m.startServices()
}

// copyState copies the small files below from, with their owners. A file that has changed in between is copied the next time.
func copyState(to, from string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		owner, ok := info.Sys().(*syscall.Stat_t)
		target := filepath.Join(to, rel)
		switch {
		case !ok:
			return nil
		case d.IsDir():
			if err := os.MkdirAll(target, 0o700); err != nil {
				return err
			}
		case !info.Mode().IsRegular() || info.Size() > shadowBytes:
			return nil
		default:
			text, err := os.ReadFile(path)
			if err == nil {
				err = os.WriteFile(target+".new", text, 0o600)
			}
			if err == nil {
				err = os.Rename(target+".new", target)
			}
			if err != nil {
				return err
			}
		}
		return errors.Join(os.Lchown(target, int(owner.Uid), int(owner.Gid)), os.Chmod(target, info.Mode().Perm()))
	})
}
