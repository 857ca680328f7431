package boot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"galvo/board"
)

// ledFolder is where the kernel has a machine's LEDs (Documentation/leds/leds-class.rst).
const ledFolder = "/sys/class/leds"

// A condition is what lamps can show.
type condition struct {
	well      bool // web and engine answer
	problems  bool // something is wrong
	capturing bool // a capture runs
}

// shows says when a lamp is on, by the word of the board's file.
var shows = map[board.LampState]func(condition) bool{
	board.LampReady:     func(c condition) bool { return c.well },
	board.LampDegraded:  func(c condition) bool { return c.problems },
	board.LampCapturing: func(c condition) bool { return c.capturing },
}

// A lamp is an LED of the machine.
type lamp struct {
	path  string
	state board.LampState
	on    string // what full brightness is called
	last  string // what was written; empty is nothing yet
}

// findLamps takes the LEDs that the board names from what they show by themselves, and switches them off.
func (m *machine) findLamps() (err error) {
	m.lamps, err = lampsOf(ledFolder, m.board.Lamps)
	m.health.capturesWanted = slices.ContainsFunc(m.lamps, func(l *lamp) bool { return l.state == board.LampCapturing })
	return err
}

func lampsOf(folder string, wanted []board.Lamp) (lamps []*lamp, errs error) {
	for _, w := range wanted {
		l := &lamp{path: filepath.Join(folder, w.Name), state: w.Shows}
		most, err := os.ReadFile(filepath.Join(l.path, "max_brightness"))
		if errors.Is(err, os.ErrNotExist) {
			err = fmt.Errorf("this machine has no LED %q; it has %s", w.Name, namesIn(folder))
		}
		if err == nil {
			l.on = trim(most)
			// One that the kernel blinks does not obey. Those without triggers do.
			err = os.WriteFile(filepath.Join(l.path, "trigger"), []byte("none"), 0)
			if errors.Is(err, os.ErrNotExist) {
				err = nil
			}
		}
		if err == nil {
			err = l.set(false)
		}
		if err != nil {
			errs = errors.Join(errs, fmt.Errorf("%s line %d: %w", board.Path, w.Line, err))
			continue
		}
		lamps = append(lamps, l)
	}
	return lamps, errs
}

// namesIn lists a folder for a person.
func namesIn(folder string) string {
	entries, err := os.ReadDir(folder)
	if err != nil || len(entries) == 0 {
		return "none"
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return strings.Join(names, ", ")
}

// light lets the lamps show how the machine is. One that cannot be switched is left out from then on.
func (m *machine) light(c condition) {
	m.lamps = slices.DeleteFunc(m.lamps, func(l *lamp) bool {
		err := l.set(shows[l.state](c))
		if err != nil {
			m.say("a lamp stays as it is: %v", err)
		}
		return err != nil
	})
}

func (l *lamp) set(on bool) error {
	value := "0"
	if on {
		value = l.on
	}
	if value == l.last {
		return nil
	}
	l.last = value
	return os.WriteFile(filepath.Join(l.path, "brightness"), []byte(value), 0)
}
