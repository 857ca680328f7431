package host

import (
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"galvo/services/durable"
	"galvo/services/internal/clock"
)

// clockFile remembers that it was at least so late, for machines without an RTC.
const clockFile = "clock"

// newClock returns what keeps the time.
func (k *keeper) newClock() *clock.Clock {
	return &clock.Clock{Kernel: clock.System{}, Query: clock.Ask(nil), Servers: k.timeServers, Floor: k.floor(), Raise: k.options.Appliance, Wake: k.timeWake}
}

// floor returns the time that it cannot be before: that of the program, and the last time that was written down.
func (k *keeper) floor() time.Time {
	floor := k.options.Built
	if info, err := os.Stat(filepath.Join(k.options.State, clockFile)); k.options.Appliance && err == nil && info.ModTime().After(floor) {
		floor = info.ModTime()
	}
	return floor
}

// rememberEvery is how often the time is written down.
const rememberEvery = time.Hour

// rememberTime writes the time down on an appliance. A clock that was never right is not remembered.
func (k *keeper) rememberTime(synced bool) {
	if !k.options.Appliance || !synced || time.Since(k.remembered) < rememberEvery {
		return
	}
	k.remembered = time.Now()
	if err := durable.WriteFile(filepath.Join(k.options.State, clockFile), nil); err != nil {
		slog.Warn("remember the time", "error", err)
	}
}

// timeServersChanged lets the clock ask again when the port that it asks through has changed.
func (k *keeper) timeServersChanged() {
	var now string
	for _, s := range k.timeServers() {
		now += s.Name + " "
	}
	if now == k.timeAsked {
		return
	}
	k.timeAsked = now
	poke(k.timeWake)
}
