// Package device runs the product for tests: the binary, built once per test process, as `galvo run` in a network namespace, until the test ends.
package device

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"galvo/ci/need"
	"galvo/ci/rig"
)

// Password is that of the user admin.
const Password = "correct horse"

// Patience is how long a test waits for something that should be there at once: the machine may be busy with ten other things, and only a failure waits so long.
const Patience = time.Minute

// A Device is a running `galvo run`.
type Device struct {
	Galvo string // path of the binary
	URL   string // https://HOST:PORT, within Netns
	Netns *rig.Netns
	State string // the state directory
	Pid   int    // of `galvo run`

	t    testing.TB
	said *output
}

// Start runs a device in a namespace, with a configuration and with ports named by their interfaces, and waits until it answers.
func Start(t testing.TB, netns *rig.Netns, config string, ports ...string) *Device {
	t.Helper()
	return StartAt(t, netns, "127.0.0.1:0", config, ports...)
}

// StartAt is Start with an address to listen at.
func StartAt(t testing.TB, netns *rig.Netns, listen, config string, ports ...string) *Device {
	t.Helper()
	need.Root(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "galvo.toml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	binary, err := build()
	if err != nil {
		t.Fatal(err)
	}
	d := &Device{Galvo: binary, Netns: netns, State: filepath.Join(dir, "state"), t: t, said: &output{}}
	args := []string{"run", "-config", file, "-state", d.State, "-listen", listen}
	for _, p := range ports {
		args = append(args, "-interface", p)
	}
	cmd := exec.Command(binary, args...)
	cmd.Env = append(os.Environ(), "GALVO_ADMIN_PASSWORD="+Password)
	out := &output{}
	cmd.Stdout, cmd.Stderr = out, d.said
	if err := netns.Start(cmd); err != nil {
		t.Fatal(err)
	}
	d.Pid = cmd.Process.Pid
	t.Cleanup(func() { d.stop(cmd) })
	Wait(t, "the device is ready", func() (ok bool) {
		d.URL, ok = out.after("ready ")
		return ok
	})
	return d
}

func (d *Device) stop(cmd *exec.Cmd) {
	cmd.Process.Signal(syscall.SIGTERM)
	timer := time.AfterFunc(Patience, func() { cmd.Process.Kill() })
	defer timer.Stop()
	if err := cmd.Wait(); err != nil || d.t.Failed() {
		d.t.Errorf("galvo run ended with %v; the last that it said:\n%s", err, d.said.tail())
	}
}

// Wait waits until ok says yes, for Patience at most.
func Wait(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(Patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("it did not happen within %s: %s", Patience, what)
}

// Service returns the process of one of the device's services, or 0 while there is none.
func (d *Device) Service(name string) int {
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", d.Pid))
	for _, list := range lists {
		children, _ := os.ReadFile(list) // the thread may have ended
		for child := range strings.FieldsSeq(string(children)) {
			line, _ := os.ReadFile("/proc/" + child + "/cmdline")
			if args := strings.Split(string(line), "\x00"); len(args) > 1 && args[1] == name {
				pid, _ := strconv.Atoi(child)
				return pid
			}
		}
	}
	return 0
}

// Signal sends a signal to one of the device's services.
func (d *Device) Signal(service string, signal syscall.Signal) {
	d.t.Helper()
	pid := d.Service(service)
	if pid == 0 {
		d.t.Fatalf("the device has no process %s", service)
	}
	if err := syscall.Kill(pid, signal); err != nil {
		d.t.Fatal(err)
	}
}

// build makes the binary, in a folder that the services' own users can reach. Whoever cleans the system's folder for temporary files
// removes it.
var build = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "galvo")
	if err != nil {
		return "", err
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return "", err
	}
	binary := filepath.Join(dir, "galvo")
	if out, err := exec.Command("go", "build", "-o", binary, "galvo/services/galvo").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, out)
	}
	return binary, nil
})

// An output keeps what a process says.
type output struct {
	mu sync.Mutex

	text bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(b)
}

// tail returns the end of what was said.
func (o *output) tail() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	b := o.text.Bytes()
	return string(b[max(0, len(b)-3000):])
}

// after returns the rest of the first line that begins so.
func (o *output) after(prefix string) (string, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	in := bufio.NewScanner(bytes.NewReader(o.text.Bytes()))
	for in.Scan() {
		if rest, ok := strings.CutPrefix(in.Text(), prefix); ok {
			return rest, true
		}
	}
	return "", false
}
