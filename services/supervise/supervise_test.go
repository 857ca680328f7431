package supervise

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"kernel.org/pub/linux/libs/security/libcap/cap"

	"galvo/ci/need"
	"galvo/ci/pace"
	"galvo/services/api"
	"galvo/services/internal/sandbox"
)

// TestMain is also each of the services that the tests supervise.
func TestMain(m *testing.M) {
	if os.Getenv("SUPERVISE_TEST") == "" {
		if state := os.Getenv("SUPERVISE_TEST_RUN"); state != "" {
			Run(context.Background(), Options{State: state, Listen: "127.0.0.1:0", Stdout: os.Stdout, Stderr: io.Discard, env: []string{"SUPERVISE_TEST=1"}})
			return
		}
		os.Exit(pace.Main(m))
	}
	if err := role(os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// role is what package main does for a role, without the service.
func role(name string, args []string) error {
	if os.Getenv("SUPERVISE_TEST") == "refuse-"+name {
		return errors.New("line 7: no such thing")
	}
	var users []int
	f := flag.NewFlagSet(name, flag.ContinueOnError)
	user, group, run := f.Int("user", -1, ""), f.Int("group", -1, ""), f.String("run", "", "")
	callers := func(s string) error {
		for _, c := range strings.Split(s, ",") {
			uid, err := strconv.Atoi(c)
			if err != nil {
				return err
			}
			users = append(users, uid)
		}
		return nil
	}
	f.Func("callers", "", callers)
	f.Func("web-user", "", callers)
	ignored := func(string) error { return nil }
	for _, n := range []string{"config", "listen", "instance", "engine-user", "interface", "address"} {
		f.Func(n, "", ignored)
	}
	if err := f.Parse(args); err != nil {
		return err
	}
	policy := sandbox.Unprivileged(*user, *group)
	if name == "host" {
		policy = sandbox.Host()
	}
	if err := sandbox.Enter(policy); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := os.WriteFile("pid", []byte(fmt.Sprint(os.Getpid())), 0o600); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "password %q\n", os.Getenv(PasswordVariable))
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if name == "web" {
			w.WriteHeader(http.StatusUnauthorized)
		}
		fmt.Fprint(w, "[{},{}]")
	})}
	context.AfterFunc(ctx, func() { server.Close() })
	l, err := roleListener(name, *run, append(users, os.Getuid()))
	if err != nil {
		return err
	}
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	fmt.Fprintln(os.Stderr, "ended in order")
	return nil
}

func roleListener(name, run string, users []int) (net.Listener, error) {
	if name != "web" {
		return api.Listen(api.SocketPath(run, api.Service(name)), users...)
	}
	l, err := net.FileListener(os.NewFile(3, "socket"))
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	return tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}), err
}

// A logbook is a writer that tests can read while it is written to.
type logbook struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logbook) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logbook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// A product is a run of the three services.
type product struct {
	*testing.T
	options  Options
	out, err logbook
	ended    chan error
	stop     context.CancelFunc
}

func start(t *testing.T) *product {
	t.Helper()
	// As long a path as anybody may have, which no other user may pass through.
	state := filepath.Join(t.TempDir(), strings.Repeat("long", 30), "state")
	if err := os.MkdirAll(filepath.Dir(state), 0o700); err != nil {
		t.Fatal(err)
	}
	p := &product{T: t, ended: make(chan error, 1)}
	p.options = Options{State: state, Listen: "127.0.0.1:0", Interfaces: []string{"eth1", "eth2"}, Stdout: &p.out, Stderr: &p.err, env: []string{"SUPERVISE_TEST=1"}}
	ctx, stop := context.WithCancel(t.Context())
	p.stop = stop
	go func() { p.ended <- Run(ctx, p.options) }()
	t.Cleanup(stop)
	return p
}

var readyLine = regexp.MustCompile(`(?m)^ready https://127\.0\.0\.1:[0-9]+$`)

func (p *product) awaitReady() {
	p.Helper()
	p.await("ready", func() bool { return readyLine.MatchString(p.out.String()) })
}

func (p *product) await(what string, is func() bool) {
	p.Helper()
	for deadline := time.Now().Add(time.Minute); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			p.Fatalf("no %s:\n%s%s", what, p.out.String(), p.err.String())
		}
	}
}

// pid returns the process of a service, or 0.
func (p *product) pid(service string) int {
	b, err := os.ReadFile(filepath.Join(p.options.State, service, "pid"))
	if err != nil {
		return 0
	}
	pid, _ := strconv.Atoi(string(b))
	if syscall.Kill(pid, 0) != nil {
		return 0
	}
	return pid
}

var names = []string{"host", "engine", "web"}

func TestLife(t *testing.T) {
	need.Root(t)
	t.Setenv(PasswordVariable, "secret")
	p := start(t)
	p.awaitReady()
	for _, victim := range names {
		pace.Within(t, 2*time.Second, func() time.Duration { return p.kill(victim) })
	}
	p.stop()
	if err := <-p.ended; err != nil {
		t.Errorf("Run = %v", err)
	}
	for _, n := range names {
		if pid := p.pid(n); pid != 0 {
			t.Errorf("%s still runs as %d", n, pid)
		}
	}
	log := p.err.String()
	web, engine, host := strings.LastIndex(log, "web: ended in order"), strings.LastIndex(log, "engine: ended in order"), strings.LastIndex(log, "host: ended in order")
	if web < 0 || engine < web || host < engine {
		t.Errorf("not stopped in reverse order:\n%s", log)
	}
	for line, want := range map[string]bool{`web: password "secret"`: true, `host: password "secret"`: false, `engine: password "secret"`: false} {
		if strings.Contains(log, line) != want {
			t.Errorf("%q in the log: %t, want %t", line, !want, want)
		}
	}
}

// kill kills a service and returns how long it was away. The others must not notice.
func (p *product) kill(victim string) time.Duration {
	p.Helper()
	before := map[string]int{}
	for _, n := range names {
		before[n] = p.pid(n)
	}
	killed := time.Now()
	if err := syscall.Kill(before[victim], syscall.SIGKILL); err != nil {
		p.Fatal(err)
	}
	p.await(victim+" back", func() bool { now := p.pid(victim); return now != 0 && now != before[victim] })
	took := time.Since(killed)
	for _, n := range names {
		if n != victim && p.pid(n) != before[n] {
			p.Errorf("%s was killed, and %s is another process", victim, n)
		}
	}
	return took
}

// Without the process that supervises them the services end too.
func TestNoOrphans(t *testing.T) {
	need.Root(t)
	p := &product{T: t, options: Options{State: t.TempDir()}}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "SUPERVISE_TEST_RUN="+p.options.State)
	cmd.Stdout = &p.out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.awaitReady()
	before := map[string]int{}
	for _, n := range names {
		before[n] = p.pid(n)
	}
	cmd.Process.Kill()
	// The pipe of the process is inherited by web, so that this returns when that has ended.
	cmd.Wait()
	p.await("end of the services", func() bool { return p.pid("host")+p.pid("engine")+p.pid("web") == 0 })
	if before["host"]*before["engine"]*before["web"] == 0 {
		t.Errorf("not all services were there: %v", before)
	}
	// The next run with this state takes over what is left in the runtime directory, and removes it.
	left, err := prepare(p.options.State, "")
	if err != nil {
		t.Fatal(err)
	}
	left.close()
	if _, err := os.Stat(left.run); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is left: %v", left.run, err)
	}
}

// What each process may do, as the kernel says.
func TestRights(t *testing.T) {
	need.Root(t)
	p := start(t)
	p.awaitReady()
	const none = "0000000000000000"
	engine, web := lookup("galvo-engine", engineID), lookup("galvo-web", webID)
	tests := map[string]map[string]string{
		"host":   {"Uid": "0 0 0 0", "CapEff": "000000000220300b", "CapPrm": "000000000220300b", "CapBnd": "000000000220300b", "NoNewPrivs": "1"},
		"engine": {"Uid": strings.TrimSpace(strings.Repeat(fmt.Sprint(engine.user, " "), 4)), "CapEff": none, "CapPrm": none, "CapBnd": none, "CapAmb": none, "NoNewPrivs": "1", "Seccomp": "2"},
		"web":    {"Uid": strings.TrimSpace(strings.Repeat(fmt.Sprint(web.user, " "), 4)), "CapEff": none, "CapPrm": none, "CapBnd": none, "CapAmb": none, "NoNewPrivs": "1", "Seccomp": "2"},
	}
	for service, want := range tests {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.pid(service)))
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		for _, line := range strings.Split(string(b), "\n") {
			k, v, _ := strings.Cut(line, ":")
			got[k] = strings.Join(strings.Fields(v), " ")
		}
		for k, v := range want {
			if got[k] != v {
				t.Errorf("%s: %s is %q, want %q", service, k, got[k], v)
			}
		}
	}
	own, err1 := os.Readlink("/proc/self/ns/net")
	engines, err2 := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", p.pid("engine")))
	if err1 != nil || err2 != nil || own == engines {
		t.Errorf("the engine's network namespace is %s, this one's %s; %v %v", engines, own, err1, err2)
	}
	p.stop()
	<-p.ended
}

func TestWithoutRoot(t *testing.T) {
	if os.Getuid() == 0 {
		runAsNobody(t)
		return
	}
	p := start(t)
	p.awaitReady()
	p.stop()
	if err := <-p.ended; err != nil {
		t.Error(err)
	}
}

// again is the environment variable that a test has that was started by runAgain.
const again = "GALVO_TEST_AGAIN"

// TestContainer has root's rights as most containers give them, with those to capture and no more.
func TestContainer(t *testing.T) {
	need.Root(t)
	if os.Getenv(again) == "" {
		rights := "-all,+chown,+dac_override,+fowner,+fsetid,+kill,+setgid,+setuid,+setpcap,+net_bind_service,+net_raw,+net_admin"
		runAgain(t, nil, "setpriv", "--bounding-set="+rights, "--inh-caps="+rights)
		return
	}
	p := start(t)
	p.awaitReady()
	rights := &places{root: true, apart: may(cap.SYS_ADMIN), raw: may(cap.NET_RAW)}
	if lacks := rights.lacks(); len(lacks) != 1 || !strings.HasPrefix(lacks[0], "without the capability SYS_ADMIN the engine has no network namespace") {
		t.Errorf("it says %q", lacks)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.pid("engine")))
	if err != nil || !regexp.MustCompile(`(?m)^CapEff:\t0+$`).Match(status) || !bytes.Contains(status, []byte("Seccomp:\t2\n")) {
		t.Errorf("the engine is not confined: %v\n%s", err, status)
	}
	p.stop()
	if err := <-p.ended; err != nil {
		t.Error(err)
	}
}

// runAsNobody runs the test that calls it once more, as another user. The program lies where that user cannot read, so it goes by a descriptor.
func runAsNobody(t *testing.T) {
	t.Helper()
	runAgain(t, &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}})
}

// runAgain runs the test that calls it once more, with a command before it that may take rights away.
func runAgain(t *testing.T, attributes *syscall.SysProcAttr, before ...string) {
	t.Helper()
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	line := append(before, "/proc/self/fd/3", "-test.run=^"+t.Name()+"$", "-test.v")
	cmd := exec.Command(line[0], line[1:]...)
	cmd.ExtraFiles, cmd.Dir = []*os.File{self}, "/"
	cmd.Env = []string{"TMPDIR=/tmp", again + "=1"}
	cmd.SysProcAttr = attributes
	if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
		t.Errorf("with less rights: %v\n%s", err, out)
	}
}

func TestTwoRunsOfOneState(t *testing.T) {
	need.Root(t)
	p := start(t)
	p.awaitReady()
	err := Run(t.Context(), p.options)
	if err == nil || !strings.Contains(err.Error(), "another galvo runs") {
		t.Errorf("a second Run = %v", err)
	}
	p.stop()
	<-p.ended
}

func TestAddressInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	err = Run(t.Context(), Options{State: t.TempDir(), Listen: l.Addr().String()})
	if err == nil || !strings.Contains(err.Error(), "another program listens on "+l.Addr().String()) {
		t.Errorf("Run = %v", err)
	}
}

// A service that cannot start, as host with a damaged configuration, ends the run with what it said.
func TestFirstStartFails(t *testing.T) {
	need.Root(t)
	for _, name := range []string{"host", "web"} {
		var out, log logbook
		err := Run(t.Context(), Options{State: t.TempDir(), Listen: "127.0.0.1:0", Stdout: &out, Stderr: &log, env: []string{"SUPERVISE_TEST=refuse-" + name}})
		if err == nil || !strings.Contains(err.Error(), name+": exit status 1, and said: line 7: no such thing") {
			t.Errorf("Run = %v\n%s", err, log.String())
		}
		if strings.Contains(out.String(), "ready") {
			t.Error("it said that it is ready")
		}
	}
}

// TestEngineFails has an engine that ends at once, as one does that finds too little memory: the page comes all the same, and does not wait for it.
func TestEngineFails(t *testing.T) {
	need.Root(t)
	var out, log logbook
	state := t.TempDir()
	ctx, stop := context.WithTimeout(t.Context(), startTimeout/2)
	defer stop()
	ended := make(chan error, 1)
	go func() {
		ended <- Run(ctx, Options{State: state, Listen: "127.0.0.1:0", Stdout: &out, Stderr: &log, env: []string{"SUPERVISE_TEST=refuse-engine"}})
	}()
	err := poll(ctx, func() error {
		_, err := os.Stat(filepath.Join(state, "web", "pid"))
		return err
	})
	if err != nil {
		t.Errorf("web is not there after %s: %v\n%s", startTimeout/2, err, log.String())
	}
	stop()
	<-ended
}
