package module

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Coldplug loads the modules of every device that the kernel shows below /sys, again and again until no new device comes up. It returns the names that were loaded,
// and an error for each module that could not be.
func (x *Index) Coldplug() (loaded []string, err error) {
	return x.coldplug("/sys")
}

func (x *Index) coldplug(sys string) ([]string, error) {
	var errs error
	seen := map[string]bool{}
	for {
		fresh := slices.DeleteFunc(modaliases(sys), func(a string) bool { return seen[a] })
		if len(fresh) == 0 {
			return x.Loaded(), errs
		}
		for _, a := range fresh {
			seen[a] = true
		}
		errs = errors.Join(errs, x.LoadFor(fresh...))
	}
}

// Loaded returns the names of the modules that were asked for, sorted.
func (x *Index) Loaded() []string {
	x.mu.Lock()
	defer x.mu.Unlock()
	var names []string
	for n := range x.loaded {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// deviceFolders have a link to every device that may have a name for drivers, which is much quicker than walking through /sys/devices
// (Documentation/ABI/testing/sysfs-bus, and sysfs-class: input devices are on no bus).
var deviceFolders = []string{"bus/*/devices", "class/*"}

// modaliases returns what the devices are called. Devices come and go while it looks.
func modaliases(sys string) []string {
	var all []string
	for _, pattern := range deviceFolders {
		folders, _ := filepath.Glob(filepath.Join(sys, pattern))
		for _, folder := range folders {
			devices, _ := os.ReadDir(folder)
			for _, d := range devices {
				if text, err := os.ReadFile(filepath.Join(folder, d.Name(), "modalias")); err == nil && len(text) > 0 {
					all = append(all, strings.TrimSpace(string(text)))
				}
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// Events are what the kernel says of devices that come and go. The socket belongs to the machine; nothing comes from a network.
type Events struct{ socket *os.File }

// Watch listens for the kernel's events (netlink(7), NETLINK_KOBJECT_UEVENT).
func Watch() (*Events, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil, fmt.Errorf("watch for devices: %w", err)
	}
	// A burst of devices is lost rather than waited for where this cannot be had; Coldplug finds them then.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 4<<20)
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("watch for devices: %w", err)
	}
	return &Events{os.NewFile(uintptr(fd), "uevents")}, nil
}

// An Event is one message: ACTION, DEVPATH, SUBSYSTEM, MODALIAS and others by name. Overrun says that others were lost before it.
type Event struct {
	Values  map[string]string
	Overrun bool
}

// Next waits for the next event, until Close.
func (e *Events) Next() (Event, error) {
	b := make([]byte, 16<<10)
	n, err := e.socket.Read(b)
	if errors.Is(err, unix.ENOBUFS) {
		return Event{Overrun: true}, nil
	}
	if err != nil {
		return Event{}, err
	}
	return parseEvent(b[:n]), nil
}

// parseEvent reads a message of the form ACTION@PATH NUL KEY=VALUE NUL ...
func parseEvent(b []byte) Event {
	e := Event{Values: map[string]string{}}
	for field := range strings.SplitSeq(string(b), "\x00") {
		if k, v, ok := strings.Cut(field, "="); ok {
			e.Values[k] = v
		}
	}
	return e
}

// Close ends Next.
func (e *Events) Close() error { return e.socket.Close() }
