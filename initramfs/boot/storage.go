package boot

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// Where the state is.
const (
	dataMount = "/data"
	diskState = "/data/galvo"
	ramState  = "/run/galvo-state"
)

func (m *machine) mountData() error {
	if err := os.MkdirAll(m.state, 0o711); err != nil {
		return err
	}
	return errors.New("there is no disk for configuration and state, which are in memory and gone with the power")
}

// unmountData takes the data partition from the machine.
func (m *machine) unmountData() {
	if m.mounted {
		unix.Sync()
		if err := unix.Unmount(dataMount, 0); err != nil {
			m.say("unmount the data partition: %v", err)
			unix.Mount("", dataMount, "", unix.MS_REMOUNT|unix.MS_RDONLY, "")
		}
	}
}
