package boot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// watchdogTimeout is what the hardware waits before it resets the machine, where the board says nothing. Hardware that can wait for less time only is taken as it is.
const watchdogTimeout = 60 * time.Second

// A watchdog is hardware that resets the machine unless it is fed (Documentation/watchdog/watchdog-api.rst). A nil one needs no food.
type watchdog struct {
	file    *os.File
	timeout time.Duration
}

func openWatchdog(path string, timeout time.Duration) (*watchdog, error) {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	w := &watchdog{f, timeout}
	if err := unix.IoctlSetPointerInt(int(f.Fd()), unix.WDIOC_SETTIMEOUT, int(timeout.Seconds())); err != nil {
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

// startWatchdog takes the machine's watchdog: the first of the board's, whose last resort is the kernel's own timer, which sees services that hang and no kernel that does.
func (m *machine) startWatchdog() error {
	timeout := watchdogTimeout
	if m.board.Watchdog.Seconds > 0 {
		timeout = time.Duration(m.board.Watchdog.Seconds) * time.Second
	}
	errs := errors.New("this machine has no watchdog, so that one which hangs stays so")
	for _, name := range append([]string{""}, m.board.Watchdog.Modules...) {
		if name != "" && m.modules != nil {
			if err := m.modules.Load(name); err != nil {
				errs = errors.Join(errs, err)
			}
		}
		found, _ := filepath.Glob("/dev/watchdog[0-9]*")
		for _, path := range found {
			w, err := openWatchdog(path, timeout)
			if err != nil {
				errs = errors.Join(errs, err)
				continue
			}
			m.watchdog = w
			identity, _ := os.ReadFile(filepath.Join("/sys/class/watchdog", filepath.Base(path), "identity"))
			m.say("watchdog: %s resets the machine after %s without a sign of life", trim(identity), w.timeout)
			return nil
		}
	}
	return errs
}
