package host

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"reflect"
	"sync"
	"time"

	"galvo/services/config"
	"galvo/services/durable"
)

// confirmTime is how long a new way of reaching the device may stay without somebody who says that it works.
const confirmTime = 60 * time.Second

// A trial is a change of the management settings that is undone unless somebody confirms it, because a wrong one cannot be undone by who is
// locked out. What was before lies in a file: a restart undoes the change too.
type trial struct {
	store *config.Store
	file  string
	poke  func()                    // after an undoing
	rules func(*config.Config) bool // whether a configuration has a management port; a plain host's way is its own

	mu     sync.Mutex
	before *config.Config // nil while there is no trial
	end    time.Time
	timer  *time.Timer
}

// openTrial undoes a change that nobody confirmed before the service ended.
func openTrial(store *config.Store, file string, poke func(), rules func(*config.Config) bool) (*trial, error) {
	t := &trial{store: store, file: file, poke: poke, rules: rules}
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return t, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the settings before an unconfirmed change: %w", err)
	}
	before, err := config.Parse(text)
	if err != nil {
		slog.Error("an unconfirmed change of the management settings cannot be undone", "file", file, "error", err)
		return t, os.Remove(file)
	}
	t.before = before
	return t, t.undo()
}

// replace makes c the configuration, and begins a trial if the way of reaching the device changes. It returns how long there is to confirm it; 0 is no
// need. Another change during a trial goes on with what was before the first.
func (t *trial) replace(c *config.Config) (time.Duration, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.store.Current()
	if reflect.DeepEqual(normal(now), normal(c)) || !t.rules(now) && !t.rules(c) {
		return t.left(), t.store.Replace(c)
	}
	before := now
	if t.before != nil {
		before = t.before
	}
	if err := durable.WriteFile(t.file, before.Encode()); err != nil {
		return 0, err
	}
	if err := t.store.Replace(c); err != nil {
		if t.before == nil {
			os.Remove(t.file)
		}
		return 0, err
	}
	t.stop()
	t.before, t.end = before, time.Now().Add(confirmTime)
	t.timer = time.AfterFunc(confirmTime, t.expire)
	return confirmTime, nil
}

// settle makes c the configuration without a trial: who resets a device wants it to be as it was, whoever reaches it then.
func (t *trial) settle(c *config.Config) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.store.Replace(c); err != nil {
		return err
	}
	t.stop()
	t.before = nil
	if err := os.Remove(t.file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("settle the management settings: %w", err)
	}
	return nil
}

// normal is what counts as the same settings.
func normal(c *config.Config) config.Management {
	m := c.Management
	if len(m.DNS) == 0 {
		m.DNS = nil
	}
	return m
}

// left needs t.mu.
func (t *trial) left() time.Duration {
	if t.before == nil {
		return 0
	}
	return max(time.Until(t.end), 0)
}

// Left returns how long there is to confirm; 0 is nothing to confirm.
func (t *trial) Left() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.left()
}

// confirm ends the trial, and reports whether there was one.
func (t *trial) confirm() (bool, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.before == nil {
		return false, nil
	}
	if err := os.Remove(t.file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return true, fmt.Errorf("confirm the management settings: %w", err)
	}
	t.stop()
	t.before = nil
	return true, nil
}

func (t *trial) stop() {
	if t.timer != nil {
		t.timer.Stop()
	}
}

func (t *trial) expire() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.before == nil || time.Now().Before(t.end) {
		return
	}
	if err := t.undo(); err != nil {
		slog.Error("undo the management settings", "error", err)
	}
	t.poke()
}

// undo brings the management settings back; others that changed meanwhile stay, unless they do not go together. It needs t.mu.
func (t *trial) undo() error {
	before := t.before
	t.before = nil
	slog.Warn("nobody confirmed the new management settings: they are undone")
	c := *t.store.Current()
	c.Management = before.Management
	if c.Validate() != nil {
		c = *before
	}
	if err := t.store.Replace(&c); err != nil {
		return err
	}
	return os.Remove(t.file)
}

// close ends the timer. The file stays: a trial that nobody confirmed ends with the process.
func (t *trial) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stop()
}
