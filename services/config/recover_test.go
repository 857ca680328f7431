package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A damaged file gives way to the newest former one that can be read, and to the defaults where there is none.
func TestRecover(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.toml")
	if s, why, err := Recover(path); err != nil || why != "" || s.Current().Device.Name != Default().Device.Name {
		t.Fatalf("a first start: %q, %v", why, err)
	}
	write := func(path, text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(path, "[device]\nname = \"torn")
	if s, why, err := Recover(path); err != nil || !strings.Contains(why, "the defaults") || s.Current().Device.Name != Default().Device.Name {
		t.Errorf("no former one: %q, %v", why, err)
	}
	write(path, "nonsense")
	write(path+".1", "torn too [")
	write(path+".2", "[device]\nname = \"second\"\n")
	s, why, err := Recover(path)
	if err != nil || !strings.Contains(why, "config.toml.2 is used") || s.Current().Device.Name != "second" {
		t.Errorf("a former one: %q, %v", why, err)
	}
	if text, err := os.ReadFile(path + ".damaged"); string(text) != "nonsense" || err != nil {
		t.Errorf("kept: %q, %v", text, err)
	}
	for _, lose := range []func() error{func() error { return os.Remove(path) }, func() error { return os.WriteFile(path, []byte(" \n"), 0o600) }} {
		write(path+".1", "[device]\nname = \"first\"\n")
		if err := lose(); err != nil {
			t.Fatal(err)
		}
		if s, why, err := Recover(path); err != nil || !strings.Contains(why, "config.toml.1 is used") || s.Current().Device.Name != "first" {
			t.Errorf("a file that is gone: %q, %v", why, err)
		}
	}
	write(path, "[device]\nname = \"second\"\n")
	if again, err := Open(path); err != nil || again.Current().Device.Name != "second" {
		t.Errorf("the next start: %v", err)
	}
}
