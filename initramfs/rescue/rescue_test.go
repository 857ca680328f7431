package rescue

import (
	"bytes"
	"context"
	"os"
	"strings"
	"testing"
)

// talk lets a person type the lines, and returns what the console says until they end.
func talk(t *testing.T, allowed bool, lines ...string) string {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	go func() {
		for _, l := range lines {
			w.WriteString(l + "\n")
		}
		w.Close()
	}()
	var out bytes.Buffer
	err = Run(context.Background(), Options{
		In: r, Out: &out,
		Allowed: func() bool { return allowed },
		Check:   func(password string) (bool, error) { return password == "secret", nil },
		Init:    func(command string) (string, error) { return "init was asked: " + command + "\n", nil },
	})
	if err == nil {
		t.Error("it ended without the end of the terminal")
	}
	return out.String()
}

func TestRescue(t *testing.T) {
	dir := t.TempDir()
	said := talk(t, true, "", "secret", "echo hello > "+dir+"/f", "cat "+dir+"/f", "for i in 1 2; do", "echo $i$i", "done", "nothing-like-it", "log engine", "kill", "help", "exit", "", "wrong", "", "secret", "echo again")
	for _, want := range []string{"hello\n", "11\n22\n", "nothing-like-it", "init was asked: log engine", "kill: name a process", "list the processes", "Wrong.", "> ", "again\n"} {
		if !strings.Contains(said, want) {
			t.Errorf("it does not say %q:\n%s", want, said)
		}
	}
	if said := talk(t, false, "", "secret", "echo in"); strings.Contains(said, "galvo# ") || !strings.Contains(said, "device.rescueConsole") {
		t.Errorf("somebody is in:\n%s", said)
	}
	if said := talk(t, true, "", "guess", "echo in"); strings.Contains(said, "galvo# ") {
		t.Errorf("somebody is in:\n%s", said)
	}
}
