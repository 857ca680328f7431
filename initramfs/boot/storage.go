package boot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Where the state is.
const (
	dataMount = "/data"
	diskState = "/data/galvo"
	ramState  = "/run/galvo-state"
)

// dataLabel is what the file system is called.
const dataLabel = "galvo-data"

// mountData finds the data partition, makes a file system on it at the first boot, repairs it if need be, and mounts it. Without one the device keeps its state in
// memory, and says so.
func (m *machine) mountData() error {
	device, err := m.dataDevice()
	if err == nil {
		err = m.mountDevice(device)
	}
	if err == nil {
		m.state, m.mounted = diskState, device
		err = os.MkdirAll(m.state, 0o711)
	}
	if err == nil {
		m.say("configuration and state are on %s", device)
		return nil
	}
	m.state = ramState
	if e := os.MkdirAll(m.state, 0o711); e != nil {
		return errors.Join(err, e)
	}
	return fmt.Errorf("%w; so configuration and state are in memory only, and gone with the power", err)
}

// dataDevice returns the partition, or disk, for the data.
func (m *machine) dataDevice() (string, error) {
	if name := m.argument("galvo.data"); name != "" {
		return name, m.awaitFile(name)
	}
	return m.options.Slots.Adopt(m.board.SystemBytes)
}

// argument returns a parameter of the kernel's command line.
func (m *machine) argument(name string) string {
	text, _ := os.ReadFile("/proc/cmdline")
	for word := range strings.FieldsSeq(string(text)) {
		if value, ok := strings.CutPrefix(word, name+"="); ok {
			return value
		}
	}
	return ""
}

// diskPatience is how long a disk may take to come up: those behind USB do seconds.
const diskPatience = 15 * time.Second

func (m *machine) awaitFile(path string) error {
	for deadline := time.Now().Add(diskPatience); ; time.Sleep(20 * time.Millisecond) {
		if _, err := os.Stat(path); err == nil || time.Now().After(deadline) {
			return err
		}
	}
}

// mountDevice mounts the data from a device, which is made ready where it is blank.
func (m *machine) mountDevice(device string) error {
	kind, err := fileSystem(device)
	if err != nil {
		return err
	}
	switch kind {
	case blank:
		if err := m.format(device); err != nil {
			return err
		}
	case foreign:
		return fmt.Errorf("%s holds something that is not Galvo's, and is left alone", device)
	case ext4:
		if err := m.repair(device); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(dataMount, 0o755); err != nil {
		return err
	}
	flags := uintptr(unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_NOATIME)
	if err := unix.Mount(device, dataMount, "ext4", flags, "errors=remount-ro"); err != nil {
		return fmt.Errorf("mount %s: %w", device, err)
	}
	return nil
}

// format makes the file system. It is done at the first boot of a disk, and says so for a person who wonders.
func (m *machine) format(device string) error {
	m.say("making the file system for configuration, state and captures on %s", device)
	_, err := m.program("/sbin/mke2fs", "-q", "-F", "-t", "ext4", "-L", dataLabel, "-m", "1", "-E", "nodiscard,lazy_itable_init=1,lazy_journal_init=1", device)
	return err
}

// repair replays the journal, and looks at the whole file system where it was not left in order. What e2fsck can put right without losing anything it puts right by itself; beyond
// that a person decides.
func (m *machine) repair(device string) error {
	code, err := m.program("/sbin/e2fsck", "-p", device)
	// e2fsck(8). Preening does not open a file system whose superblock was torn by a power cut; a repair takes one of the copies of it.
	const corrected, rebootWanted, left, unopened = 1, 2, 4, 8
	switch {
	case err == nil:
		return nil
	case code == corrected || code == rebootWanted || code == corrected|rebootWanted:
		m.say("the file system on %s was put in order", device)
		return nil
	case code > 0 && code&(left|unopened) != 0:
		m.say("the file system on %s is damaged; repairing it", device)
		if code, err = m.program("/sbin/e2fsck", "-y", device); err == nil || code&^(corrected|rebootWanted) == 0 {
			m.say("the file system on %s was repaired; what lost its name is in lost+found", device)
			return nil
		}
	}
	return fmt.Errorf("the file system on %s cannot be repaired: %w", device, err)
}

// programPatience ends a program that hangs, as on a disk that does not answer.
const programPatience = 10 * time.Minute

// program runs a program of the image to its end, while the watchdog is fed. The error holds what it said.
func (m *machine) program(path string, args ...string) (code int, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), programPatience)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := m.children.Start(cmd); err != nil {
		return -1, fmt.Errorf("run %s: %w", filepath.Base(path), err)
	}
	ended := make(chan error, 1)
	go guard("program", func() { ended <- m.children.Wait(cmd) })
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			m.watchdog.feed()
		case err := <-ended:
			if err != nil {
				err = fmt.Errorf("%s: %w: %s", filepath.Base(path), err, strings.Join(strings.Fields(said.String()), " "))
			}
			return cmd.ProcessState.ExitCode(), err
		}
	}
}

// What a device may hold.
type content int

const (
	blank   content = iota
	ext4            // or its predecessors
	foreign         // anything else
)

// From the ext4 superblock (Documentation/filesystems/ext4/super.rst).
const (
	superOffset = 1024
	magicOffset = superOffset + 0x38
	labelOffset = superOffset + 0x78
)

// looked is how much of a device's beginning must be zero for it to be blank: partition tables, file systems and volume managers all write there.
const looked = 1 << 20

// fileSystem says what is on a device.
func fileSystem(device string) (content, error) {
	f, err := os.Open(device)
	if err != nil {
		return foreign, err
	}
	defer f.Close()
	b := make([]byte, looked)
	n, err := f.ReadAt(b, 0)
	if n < labelOffset+16 {
		return foreign, fmt.Errorf("read %s: %w", device, err)
	}
	return contentOf(b[:n]), nil
}

func contentOf(b []byte) content {
	label := string(bytes.TrimRight(b[labelOffset:labelOffset+16], "\x00"))
	switch {
	case b[magicOffset] == 0x53 && b[magicOffset+1] == 0xef && label == dataLabel:
		return ext4
	case len(bytes.TrimLeft(b, "\x00")) == 0:
		return blank
	}
	return foreign
}

// unmountData takes the data partition from the machine, so that nothing has to be put in order at the next boot.
func (m *machine) unmountData() {
	if m.mounted == "" {
		return
	}
	unix.Sync()
	if err := unix.Unmount(dataMount, 0); err != nil {
		m.say("unmount the data partition: %v", err)
		unix.Mount("", dataMount, "", unix.MS_REMOUNT|unix.MS_RDONLY, "")
	}
}
