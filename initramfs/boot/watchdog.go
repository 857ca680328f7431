package boot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// watchdogTimeout is what the hardware waits before it resets the machine. Hardware that can wait for less time only is taken as it is.
const watchdogTimeout = 60 * time.Second

// A watchdog is hardware that resets the machine unless it is fed (Documentation/watchdog/watchdog-api.rst). A nil one needs no food.
type watchdog struct {
	file    *os.File
	timeout time.Duration
}

func openWatchdog(path string) (*watchdog, error) {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	w := &watchdog{f, watchdogTimeout}
	if err := unix.IoctlSetPointerInt(int(f.Fd()), unix.WDIOC_SETTIMEOUT, int(watchdogTimeout.Seconds())); err != nil {
		seconds, err := unix.IoctlGetInt(int(f.Fd()), unix.WDIOC_GETTIMEOUT)
		if err != nil || seconds < 2 {
			w.close()
			return nil, fmt.Errorf("the watchdog %s resets the machine after %d s, which is too soon: %w", path, seconds, err)
		}
		w.timeout = time.Duration(seconds) * time.Second
	}
	return w, nil
}

// feed keeps the machine alive for another timeout.
func (w *watchdog) feed() {
	if w != nil {
		w.file.Write([]byte{0})
	}
}

// close ends the watch: a V says that it is meant so.
func (w *watchdog) close() {
	w.file.Write([]byte("V"))
	w.file.Close()
}

// startWatchdog takes the machine's watchdog, or the kernel's own timer where there is no hardware: that one sees services that hang, and no kernel that does.
func (m *machine) startWatchdog() error {
	found, _ := filepath.Glob("/dev/watchdog[0-9]*")
	if len(found) == 0 && m.modules != nil {
		if err := m.modules.Load("softdog"); err != nil {
			return fmt.Errorf("this machine has no watchdog, and the kernel's own timer is not there either: %w", err)
		}
		found, _ = filepath.Glob("/dev/watchdog[0-9]*")
	}
	var errs error
	for _, path := range found {
		w, err := openWatchdog(path)
		if err == nil {
			m.watchdog = w
			identity, _ := os.ReadFile(filepath.Join("/sys/class/watchdog", filepath.Base(path), "identity"))
			m.say("watchdog: %s resets the machine after %s without a sign of life", trim(identity), w.timeout)
			return nil
		}
		errs = errors.Join(errs, err)
	}
	return errs
}
