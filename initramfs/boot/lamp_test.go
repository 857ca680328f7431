package boot

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"galvo/board"
)

// leds makes LEDs as the kernel has them.
func leds(t *testing.T, names ...string) string {
	t.Helper()
	folder := t.TempDir()
	for _, n := range names {
		for file, text := range map[string]string{"max_brightness": "255\n", "brightness": "7\n", "trigger": "none [heartbeat]\n"} {
			if err := os.MkdirAll(filepath.Join(folder, n), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(folder, n, file), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	return folder
}

// Each lamp shows its state, is taken from what the kernel showed by it, and an LED that is not there is said with the line.
func TestLamps(t *testing.T) {
	folder := leds(t, "green:status", "red:alarm", "blue:traffic")
	lamps, err := lampsOf(folder, []board.Lamp{
		{Name: "green:status", Shows: board.LampReady}, {Name: "red:alarm", Shows: board.LampDegraded}, {Name: "blue:traffic", Shows: board.LampCapturing},
		{Name: "white:none", Shows: board.LampReady, Line: 31},
	})
	if len(lamps) != 3 || err == nil || !strings.Contains(err.Error(), `line 31: this machine has no LED "white:none"; it has blue:traffic, green:status, red:alarm`) {
		t.Fatalf("%d lamps, %v", len(lamps), err)
	}
	m, _ := testMachine(t)
	m.lamps = lamps
	read := func(name, file string) string {
		b, _ := os.ReadFile(filepath.Join(folder, name, file))
		return trim(b)
	}
	for _, c := range []struct {
		is   condition
		want string
	}{
		{condition{}, "0 0 0"},
		{condition{well: true}, "255 0 0"},
		{condition{well: true, problems: true}, "255 255 0"},
		{condition{well: true, capturing: true}, "255 0 255"},
		{condition{problems: true}, "0 255 0"},
	} {
		m.light(c.is)
		if got := strings.Join([]string{read("green:status", "brightness"), read("red:alarm", "brightness"), read("blue:traffic", "brightness")}, " "); got != c.want {
			t.Errorf("%+v: %s, want %s", c.is, got, c.want)
		}
	}
	if got := read("red:alarm", "trigger"); got != "none" {
		t.Errorf("the kernel still has the lamp: %q", got)
	}
	os.RemoveAll(filepath.Join(folder, "red:alarm"))
	m.light(condition{})
	if len(m.lamps) != 2 {
		t.Errorf("%d lamps are left", len(m.lamps))
	}
	for _, s := range board.LampStates() {
		if shows[s] == nil {
			t.Errorf("nothing says when a lamp that shows %s is on", s)
		}
	}
}
