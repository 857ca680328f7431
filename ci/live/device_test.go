// Package live tests the product as a whole: the binary runs in a network namespace, traffic is played into its ports, and what its API and its
// streams say is compared with what was sent.
package live

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"galvo/ci/need"
	"galvo/ci/rig"
	"galvo/services/api"
)

const password = "correct horse"

// galvo is the binary under test.
var galvo string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "galvo")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	galvo = filepath.Join(dir, "galvo")
	build := exec.Command("go", "build", "-o", galvo, "galvo/services/galvo")
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	if err := build.Run(); err != nil {
		return 1
	}
	if err := os.Chmod(dir, 0o755); err != nil { // the services' own users run it too
		panic(err)
	}
	return m.Run()
}

// A device is a running `galvo run` in a namespace of its own.
type device struct {
	t      testing.TB
	netns  *rig.Netns
	cmd    *exec.Cmd
	state  string
	url    string
	log    *log
	client *http.Client
}

// A log keeps what the device says.
type log struct {
	mu sync.Mutex

	b bytes.Buffer
}

// start runs a device with a configuration in a namespace, and waits until it answers.
func start(t testing.TB, netns *rig.Netns, settings string, ports ...string) *device {
	t.Helper()
	need.Root(t)
	d := &device{t: t, netns: netns, state: filepath.Join(t.TempDir(), "state"), log: &log{}}
	config := filepath.Join(t.TempDir(), "galvo.toml")
	if err := os.WriteFile(config, []byte(settings), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"run", "-config", config, "-state", d.state, "-listen", "127.0.0.1:0"}
	for _, p := range ports {
		args = append(args, "-interface", p)
	}
	d.cmd = exec.Command(galvo, args...)
	d.cmd.Env = append(os.Environ(), "GALVO_ADMIN_PASSWORD="+password)
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := d.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	d.cmd.Stderr = d.log
	if err := netns.Start(d.cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.stop)
	d.url = d.ready(out)
	d.client = &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		DialContext:     d.dial,
	}}
	return d
}

// dial connects from within the device's namespace.
func (d *device) dial(ctx context.Context, network, addr string) (c net.Conn, err error) {
	err = d.netns.Run(func() error {
		var dialer net.Dialer
		c, err = dialer.DialContext(ctx, network, addr)
		return err
	})
	return c, err
}

// ready waits for the line that says where requests are answered.
func (d *device) ready(out io.Reader) string {
	d.t.Helper()
	found := make(chan string, 1)
	go func() {
		in := bufio.NewScanner(out)
		for in.Scan() {
			if url, ok := strings.CutPrefix(in.Text(), "ready "); ok {
				found <- url
			}
		}
		close(found)
	}()
	select {
	case url, ok := <-found:
		if !ok {
			d.t.Fatalf("the device ended without getting ready:\n%s", d.log.tail())
		}
		return url
	case <-time.After(20 * time.Second):
		d.t.Fatalf("the device did not get ready:\n%s", d.log.tail())
	}
	return ""
}

func (d *device) stop() {
	d.cmd.Process.Signal(syscall.SIGTERM)
	ended := make(chan error, 1)
	go func() { ended <- d.cmd.Wait() }()
	select {
	case err := <-ended:
		if err != nil {
			d.t.Errorf("galvo run: %v", err)
		}
	case <-time.After(15 * time.Second):
		syscall.Kill(-d.cmd.Process.Pid, syscall.SIGKILL)
		d.t.Error("galvo run did not stop within 15 s of SIGTERM")
	}
	if d.t.Failed() {
		d.t.Logf("the device said:\n%s", d.log.tail())
	}
}

func (l *log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

// tail returns the end of what was said.
func (l *log) tail() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.b.Bytes()
	return string(b[max(0, len(b)-3000):])
}

// call asks the API.
func (d *device) call(method, path string, body, reply any) error {
	var in io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return err
		}
		in = bytes.NewReader(b)
	}
	req, err := http.NewRequest(method, d.url+path, in)
	if err != nil {
		return err
	}
	req.SetBasicAuth("admin", password)
	req.Header.Set("Content-Type", "application/json")
	resp, err := d.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return api.ReadError(resp)
	}
	if reply == nil {
		return nil
	}
	return json.NewDecoder(resp.Body).Decode(reply)
}

func (d *device) must(method, path string, body, reply any) {
	d.t.Helper()
	if err := d.call(method, path, body, reply); err != nil {
		d.t.Fatalf("%s %s: %v", method, path, err)
	}
}

// wait waits until ok says yes.
func (d *device) wait(what string, ok func() bool) {
	d.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if ok() {
			return
		}
	}
	d.t.Fatalf("it did not happen within 20 s: %s\n%s", what, d.log.tail())
}

// ports waits until all ports are up.
func (d *device) portsUp(n int) {
	d.t.Helper()
	d.wait(fmt.Sprintf("%d ports are up", n), func() bool {
		up := 0
		for _, p := range d.ports() {
			if p.State == "up" {
				up++
			}
		}
		return up == n
	})
}

func (d *device) ports() (list []api.Port) {
	d.call("GET", "/api/v1/ports", nil, &list) // an engine that is just back is asked again
	return list
}

// received returns what the ports account for: every frame is received or lost.
func (d *device) received() (n uint64) {
	for _, p := range d.ports() {
		n += p.RxPackets + p.LostNic + p.LostKernel
	}
	return n
}

func (d *device) captures() (list api.CaptureList) {
	d.t.Helper()
	d.must("GET", "/api/v1/captures", nil, &list)
	return list
}

func (d *device) finished() (list api.CaptureList) {
	d.t.Helper()
	d.must("GET", "/api/v1/captures/finished", nil, &list)
	return list
}

// A download is a curl that takes a capture.
type download struct {
	d    *device
	file string
	cmd  *exec.Cmd
}

// curl starts the capture URL with a query, and waits until the capture runs. rate limits the client, as curl's --limit-rate has it.
func (d *device) curl(query url.Values, rate string) *download {
	d.t.Helper()
	n := len(d.captures().Captures)
	dl := &download{d: d, file: filepath.Join(d.t.TempDir(), "capture.pcapng")}
	args := []string{"-sSkN", "-f", "-u", "admin:" + password, "-o", dl.file}
	if rate != "" {
		args = append(args, "--limit-rate", rate)
	}
	dl.cmd = exec.Command("curl", append(args, d.url+api.CaptureURLPath+"?"+strings.ReplaceAll(query.Encode(), "+", "%20"))...)
	dl.cmd.Stderr = d.log
	if err := d.netns.Start(dl.cmd); err != nil {
		d.t.Fatal(err)
	}
	d.wait("the capture runs", func() bool {
		list := d.captures().Captures
		return len(list) == n+1 && list[0].State != "waiting"
	})
	return dl
}

// settle waits until the captures have looked at everything that was received.
func (d *device) settle(sent uint64) {
	d.t.Helper()
	d.wait(fmt.Sprintf("%d frames are accounted for", sent), func() bool { return d.received() >= sent })
}

// end stops every capture and waits for the downloads.
func (d *device) end(downloads ...*download) {
	d.t.Helper()
	for _, c := range d.captures().Captures {
		d.must("DELETE", "/api/v1/captures/"+c.ID, nil, nil)
	}
	for _, dl := range downloads {
		if err := dl.cmd.Wait(); err != nil {
			d.t.Errorf("curl: %v", err)
		}
	}
}

// sum is what the equation of the five counters adds up.
func sum(c api.Capture) uint64 { return c.Captured + c.Dropped + c.Ignored + c.Held + c.Lost }
