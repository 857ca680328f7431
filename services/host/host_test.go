package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"galvo/ci/need"
	"galvo/services/api"
	"galvo/services/internal/handover"
)

// TestMain is also the host service that the tests start in a namespace.
func TestMain(m *testing.M) {
	text := os.Getenv("HOST_TEST_OPTIONS")
	if text == "" {
		os.Exit(m.Run())
	}
	var o Options
	err := json.Unmarshal([]byte(text), &o)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err == nil {
		err = Run(ctx, o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// A rig is a host service in a network namespace of its own, with one veth pair eth1 - peer.
type rig struct {
	*testing.T
	ns      string
	options Options
	cmd     *exec.Cmd
}

func newRig(t *testing.T) *rig {
	need.Root(t)
	need.Tool(t, "ip")
	r := &rig{T: t, ns: fmt.Sprintf("galvo-host-%d", os.Getpid())}
	dir := t.TempDir()
	r.options = Options{Config: filepath.Join(dir, "config.toml"), Run: dir, State: dir, EngineUser: os.Getuid(), WebUser: os.Getuid(),
		Interfaces: []string{"eth1", "eth2"}, Listen: []string{"[::]:8443"}, Instance: 7}
	for _, d := range []string{"host", "handover"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	r.sh("ip netns add " + r.ns)
	t.Cleanup(func() { exec.Command("ip", "netns", "del", r.ns).Run() })
	r.ip("link set lo up")
	r.ip("link add eth1 type veth peer name peer")
	r.ip("link set peer up")
	return r
}

func (r *rig) sh(command string) {
	r.Helper()
	if out, err := exec.Command("sh", "-c", command).CombinedOutput(); err != nil {
		r.Fatalf("%s: %v\n%s", command, err, out)
	}
}

func (r *rig) ip(args string) { r.Helper(); r.sh("ip -n " + r.ns + " " + args) }

func (r *rig) start() {
	r.Helper()
	text, err := json.Marshal(r.options)
	if err != nil {
		r.Fatal(err)
	}
	r.cmd = exec.Command("ip", "netns", "exec", r.ns, os.Args[0])
	r.cmd.Env = append(os.Environ(), "HOST_TEST_OPTIONS="+string(text))
	r.cmd.Stderr = os.Stderr
	if err := r.cmd.Start(); err != nil {
		r.Fatal(err)
	}
	r.Cleanup(r.stop)
}

func (r *rig) stop() {
	r.cmd.Process.Signal(syscall.SIGTERM)
	r.cmd.Wait()
}

// patience is how long something may take that happens at once on a machine that is not busy with other things.
const patience = time.Minute

// connect is a new engine, once the host answers.
func (r *rig) connect() *handover.Conn {
	r.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		c, err := handover.Dial(r.Context(), handover.Path(r.options.Run))
		if err == nil {
			r.Cleanup(func() { c.Close() })
			return c
		}
		if time.Now().After(deadline) {
			r.Fatal(err)
		}
	}
}

// await returns the first message for which is is true.
func (r *rig) await(c *handover.Conn, what string, is func(handover.Message) bool) handover.Message {
	r.Helper()
	stop := time.AfterFunc(patience, func() { c.Close() })
	defer stop.Stop()
	for {
		m, err := c.Next()
		if err != nil {
			r.Fatalf("waiting for %s: %v", what, err)
		}
		if is(m) {
			return m
		}
		if m.Port != nil {
			closeAll(m.Port.Sockets)
		}
	}
}

func isPort(id int, sockets bool) func(handover.Message) bool {
	return func(m handover.Message) bool {
		return m.Port != nil && m.Port.ID == id && (len(m.Port.Sockets) > 0) == sockets
	}
}

func TestPortsOfAnEngine(t *testing.T) {
	r := newRig(t)
	r.start()
	c := r.connect()
	first, err := c.Next()
	if err != nil || first.Config == nil {
		t.Fatalf("the first message is %+v, %v, want the configuration", first, err)
	}
	if first.Config.Instance != 7 || len(first.Config.Config.Ports) != 2 || !containsAddr(first.Config.Listen, "127.0.0.1:8443") {
		t.Errorf("configuration %+v", first.Config)
	}
	if err := c.Send(handover.Message{Ready: &handover.Ready{Workers: 2}}); err != nil {
		t.Fatal(err)
	}
	var p, absent *handover.Port
	r.await(c, "both ports", func(m handover.Message) bool { // in whichever order
		if isPort(1, true)(m) && p == nil {
			kept := *m.Port
			p, m.Port.Sockets = &kept, nil
		} else if isPort(2, false)(m) {
			absent = m.Port
		}
		return p != nil && absent != nil
	})
	if p.Name != "eth1" || p.Driver != "veth" || p.Direction != "in" || len(p.Sockets) != 2 {
		t.Errorf("port %+v", p)
	}
	defer closeAll(p.Sockets)
	if domain, err := unix.GetsockoptInt(p.Sockets[1], unix.SOL_SOCKET, unix.SO_DOMAIN); err != nil || domain != unix.AF_PACKET {
		t.Errorf("socket of domain %d, %v", domain, err)
	}
	if absent.State != "absent" || !strings.Contains(absent.Reason, "ip link") {
		t.Errorf("port without a link: %+v", absent)
	}
	// The kernel may say only after a while that the other end is up.
	stats := r.await(c, "counters", func(m handover.Message) bool { return m.Stats != nil && m.Stats.State == "up" }).Stats
	if stats.ID != 1 || stats.SpeedMbps != 10000 {
		t.Errorf("stats %+v", stats)
	}

	r.ip("link set peer down")
	r.await(c, "loss of carrier", func(m handover.Message) bool {
		return m.Stats != nil && m.Stats.State == "down" && strings.Contains(m.Stats.Reason, "carrier")
	})
	r.ip("link set peer up")
	r.await(c, "carrier", func(m handover.Message) bool {
		if m.Port != nil || m.Gone != nil {
			t.Errorf("a port that only lost its carrier was handed over again: %+v", m)
		}
		return m.Stats != nil && m.Stats.State == "up"
	})

	r.ip("link del eth1")
	r.await(c, "gone", func(m handover.Message) bool { return m.Gone != nil && m.Gone.ID == 1 })
	r.await(c, "absent", isPort(1, false))
	r.ip("link add eth1 type veth peer name peer")
	back := r.await(c, "port 1 back", isPort(1, true)).Port
	if back.Index == p.Index || len(back.Sockets) != 2 {
		t.Errorf("back as %+v", back)
	}
	closeAll(back.Sockets)

	r.ip("addr add 192.0.2.1/24 dev eth1")
	both, own := false, false
	r.await(c, "both directions, and the own address", func(m handover.Message) bool {
		both = both || m.Port != nil && m.Port.Direction == "both"
		own = own || m.Config != nil && containsAddr(m.Config.Listen, "192.0.2.1:8443")
		return both && own
	})
}

// gro reports whether the kernel merges segments that eth1 receives.
func (r *rig) gro() bool {
	r.Helper()
	out, err := exec.Command("ip", "netns", "exec", r.ns, need.Tool(r, "ethtool"), "-k", "eth1").Output()
	if err != nil {
		r.Fatal(err)
	}
	return strings.Contains(string(out), "generic-receive-offload: on")
}

// A NIC gets its settings back when the service ends.
func TestSettingsComeBack(t *testing.T) {
	r := newRig(t)
	if !r.gro() {
		r.sh("ip netns exec " + r.ns + " ethtool -K eth1 gro on")
	}
	r.start()
	c := r.connect()
	if err := c.Send(handover.Message{Ready: &handover.Ready{Workers: 1}}); err != nil {
		t.Fatal(err)
	}
	closeAll(r.await(c, "port", isPort(1, true)).Port.Sockets)
	if r.gro() {
		t.Error("segments are merged on a capture port")
	}
	r.stop()
	if !r.gro() {
		t.Error("the NIC keeps the settings for capturing")
	}
}

func containsAddr(list []netip.AddrPort, want string) bool {
	for _, a := range list {
		if a.String() == want {
			return true
		}
	}
	return false
}

// A new engine gets everything anew, whatever became of the one before it.
func TestNextEngine(t *testing.T) {
	r := newRig(t)
	r.start()
	for range 3 {
		c := r.connect()
		if err := c.Send(handover.Message{Ready: &handover.Ready{Workers: 1}}); err != nil {
			t.Fatal(err)
		}
		r.await(c, "configuration", func(m handover.Message) bool { return m.Config != nil })
		p := r.await(c, "port", isPort(1, true)).Port
		closeAll(p.Sockets)
		c.Close()
	}
}

func TestAPI(t *testing.T) {
	r := newRig(t)
	r.options.Interfaces = nil
	r.start()
	c := r.connect()
	client := api.Transport(api.SocketPath(r.options.Run, api.ServiceHost))
	defer client.CloseIdleConnections()
	call := func(method, path, body string) (int, string) {
		t.Helper()
		status, text, err := plainCall(client, method, path, body)
		if err != nil {
			t.Fatal(err)
		}
		return status, text
	}
	if status, text := call("GET", "/api/v1/config", ""); status != 200 || !strings.Contains(text, "[captures]\n") {
		t.Errorf("GET /config: %d %s", status, text)
	}
	if status, text := call("PUT", "/api/v1/config", "[captures]\nmax = 3\n"); status != 400 || !strings.Contains(text, `"kind":"bad_config","pos":11,"len":7`) {
		t.Errorf("PUT of an impossible value: %d %s", status, text)
	}
	const wanted = "[[port]]\nname = \"eth1\"\n[captures]\nmax = 5\n"
	if status, text := call("POST", "/api/v1/config/check", wanted); status != 200 || !strings.Contains(text, `"field":"captures.max","old":"4","new":"5","takes":"live"`) {
		t.Errorf("check: %d %s", status, text)
	}
	if status, _ := call("POST", "/api/v1/config/check", "nonsense"); status != 200 {
		t.Errorf("check of nonsense: %d", status)
	}
	if err := c.Send(handover.Message{Ready: &handover.Ready{Workers: 1}}); err != nil {
		t.Fatal(err)
	}
	if status, text := call("PUT", "/api/v1/config", wanted); status != 200 {
		t.Errorf("PUT /config: %d %s", status, text)
	}
	r.await(c, "the new configuration", func(m handover.Message) bool { return m.Config != nil && m.Config.Config.Captures.Max == 5 })
	closeAll(r.await(c, "the new port", isPort(1, true)).Port.Sockets)
	if status, text := call("GET", "/api/v1/system/memory", ""); status != 200 || !strings.Contains(text, `"total":`) {
		t.Errorf("memory: %d %s", status, text)
	}
	if status, _ := call("POST", "/api/v1/system/restart-processing", ""); status != 204 {
		t.Errorf("restart: %d", status)
	}
	r.await(c, "restart", func(m handover.Message) bool { return m.Restart != nil })
}

func TestBadConfiguration(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "config.toml")
	if err := errors.Join(os.WriteFile(path, []byte("[captures]\nmax = 1\n"), 0o600), os.Mkdir(filepath.Join(dir, "handover"), 0o700)); err != nil {
		t.Fatal(err)
	}
	err := Run(t.Context(), Options{Config: path, Run: dir})
	if err == nil || !strings.Contains(err.Error(), path+": line 2: captures.max") {
		t.Errorf("Run = %v, want the file, the line and the field", err)
	}
}
