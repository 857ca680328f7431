package boot

import (
	"errors"
	"fmt"
	"log/slog"

	"galvo/initramfs/module"
)

func (m *machine) coldplug() error {
	index, err := module.Here()
	if err != nil {
		return err
	}
	m.modules = index
	// First, so that a device which comes up in between is seen twice rather than never.
	events, err := module.Watch()
	if err != nil {
		return err
	}
	loaded, err := index.Coldplug()
	m.say("%d kernel modules for the devices of this machine", len(loaded))
	err = errors.Join(err, index.Load(m.board.Load...))
	go guard("devices", func() { m.follow(events) })
	return err
}

// follow loads the modules of devices that come up later, and looks at new input devices.
func (m *machine) follow(events *module.Events) {
	defer events.Close()
	for {
		e, err := events.Next()
		if err != nil {
			slog.Error("new devices are not seen any more", "error", err)
			return
		}
		switch {
		case e.Overrun:
			m.modules.Coldplug()
		case e.Values["ACTION"] != "add":
		case e.Values["MODALIAS"] != "":
			if err := m.modules.LoadFor(e.Values["MODALIAS"]); err != nil {
				slog.Warn("a new device has no driver", "device", e.Values["DEVPATH"], "error", err)
			}
		case e.Values["SUBSYSTEM"] == "input" && e.Values["DEVNAME"] != "":
			go guard("button", func() { m.watchButton("/dev/" + e.Values["DEVNAME"]) })
		}
	}
}

// Modprobe is `galvo modprobe`: the kernel calls it as `modprobe -q -- NAME` for what it wants by itself.
func Modprobe(names []string) error {
	index, err := module.Here()
	if err != nil {
		return err
	}
	var errs error
	for _, n := range names {
		if err := index.Load(n); err != nil {
			errs = errors.Join(errs, fmt.Errorf("modprobe: %w", err))
		}
	}
	return errs
}
