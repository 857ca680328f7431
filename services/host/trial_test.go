package host

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"galvo/services/config"
)

// A trialRig is a store with a trial, whose clock runs as fast as the test.
type trialRig struct {
	*testing.T
	store *config.Store
	trial *trial
	file  string
	poked int
	plain bool // there is no management port
}

func newTrial(t *testing.T) *trialRig {
	t.Helper()
	dir := t.TempDir()
	store, err := config.Open(filepath.Join(dir, "config.toml"))
	if err != nil {
		t.Fatal(err)
	}
	r := &trialRig{T: t, store: store, file: filepath.Join(dir, "unconfirmed.toml")}
	r.open()
	return r
}

func (r *trialRig) open() {
	r.Helper()
	var err error
	if r.trial, err = openTrial(r.store, r.file, func() { r.poked++ }, func(*config.Config) bool { return !r.plain }); err != nil {
		r.Fatal(err)
	}
}

// change replaces the configuration by a changed one, and returns how long there is to confirm it.
func (r *trialRig) change(f func(*config.Config)) time.Duration {
	r.Helper()
	c := *r.store.Current()
	f(&c)
	left, err := r.trial.replace(&c)
	if err != nil {
		r.Fatal(err)
	}
	return left
}

func static(address string) func(*config.Config) {
	return func(c *config.Config) { c.Management.IPv4, c.Management.Address = "static", address }
}

func (r *trialRig) is(ipv4, address string) {
	r.Helper()
	if m := r.store.Current().Management; m.IPv4 != ipv4 || m.Address != address {
		r.Errorf("the management port is %s %q, want %s %q", m.IPv4, m.Address, ipv4, address)
	}
}

func TestTrial(t *testing.T) {
	t.Run("undone", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newTrial(t)
			if left := r.change(static("10.0.0.1/24")); left != confirmTime {
				t.Errorf("%s to confirm", left)
			}
			time.Sleep(59 * time.Second)
			r.is("static", "10.0.0.1/24")
			if left := r.trial.Left(); left != time.Second {
				t.Errorf("%s left", left)
			}
			// What is changed meanwhile stays.
			r.change(func(c *config.Config) { c.Captures.Max = 9 })
			time.Sleep(2 * time.Second)
			synctest.Wait()
			r.is("dhcp", "")
			if r.poked != 1 || r.store.Current().Captures.Max != 9 || r.trial.Left() != 0 {
				t.Errorf("poked %d times, captures %d", r.poked, r.store.Current().Captures.Max)
			}
			if _, err := os.Stat(r.file); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the file is left: %v", err)
			}
		})
	})
	t.Run("confirmed", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newTrial(t)
			r.change(static("10.0.0.1/24"))
			if was, err := r.trial.confirm(); !was || err != nil {
				t.Errorf("confirm = %t, %v", was, err)
			}
			if was, err := r.trial.confirm(); was || err != nil {
				t.Errorf("confirmed again: %t, %v", was, err)
			}
			time.Sleep(time.Hour)
			r.is("static", "10.0.0.1/24")
			r.open()
			r.is("static", "10.0.0.1/24")
		})
	})
	t.Run("changed again", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newTrial(t)
			r.change(static("10.0.0.1/24"))
			time.Sleep(50 * time.Second)
			r.change(static("10.0.0.2/24"))
			time.Sleep(50 * time.Second)
			r.is("static", "10.0.0.2/24")
			time.Sleep(20 * time.Second)
			synctest.Wait()
			r.is("dhcp", "")
		})
	})
	t.Run("restarted", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newTrial(t)
			r.change(static("10.0.0.1/24"))
			r.trial.close()
			r.open()
			r.is("dhcp", "")
			again, err := config.Open(filepath.Join(filepath.Dir(r.file), "config.toml"))
			if err != nil || again.Current().Management.IPv4 != "dhcp" {
				t.Errorf("on disk: %v", err)
			}
		})
	})
	t.Run("no network setting", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newTrial(t)
			if left := r.change(func(c *config.Config) { c.Captures.Max = 7 }); left != 0 {
				t.Errorf("%s to confirm", left)
			}
		})
	})
	t.Run("plain host", func(t *testing.T) {
		r := newTrial(t)
		r.plain = true
		if left := r.change(static("10.0.0.1/24")); left != 0 {
			t.Errorf("%s to confirm what nothing depends on", left)
		}
	})
	t.Run("settled", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newTrial(t)
			r.change(static("10.0.0.1/24"))
			if err := r.trial.settle(config.Default()); err != nil {
				t.Fatal(err)
			}
			r.is("dhcp", "")
			if r.change(static("10.0.0.2/24")); r.trial.Left() == 0 {
				t.Error("no trial after a reset")
			}
		})
	})
	t.Run("refused", func(t *testing.T) {
		r := newTrial(t)
		c := *r.store.Current()
		c.Management.IPv4 = "static"
		if _, err := r.trial.replace(&c); err == nil {
			t.Error("an impossible setting is taken")
		}
		if _, err := os.Stat(r.file); !errors.Is(err, fs.ErrNotExist) || r.trial.Left() != 0 {
			t.Errorf("a refused change is on trial: %v", err)
		}
	})
}
