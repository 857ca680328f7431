package boot

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"galvo/services/api"
	"galvo/services/supervise"
)

// A screen is a console that tests can read.
type screen struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *screen) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(b)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

func testMachine(t *testing.T) (*machine, *screen) {
	out := &screen{}
	m := newMachine(Options{Version: "1.2.3", Console: out})
	m.report.path = filepath.Join(t.TempDir(), "boot.json")
	return m, out
}

// A step that only degrades is passed over, and the page gets to know; one that must work ends the start, and so does a panic in it.
func TestPhases(t *testing.T) {
	m, out := testMachine(t)
	ran := ""
	does := func(name string, err error) func(*machine) error {
		return func(*machine) error { ran += name; return err }
	}
	failed := m.boot([]phase{
		{"early", []step{{"mount", must, does("a", nil)}, {"find the disk", degrade, does("b", errors.New("no disk"))}}},
		{"late", []step{{"panic", must, func(*machine) error { panic("at the disco") }}, {"never", must, does("c", nil)}}},
	})
	if failed == nil || failed.what != "panic" || !strings.Contains(failed.err.Error(), "at the disco") || ran != "ab" {
		t.Errorf("failed: %+v; ran %s", failed, ran)
	}
	if got := m.report.list(); len(got) != 2 || !strings.Contains(got[0]+got[1], "could not find the disk: no disk") {
		t.Errorf("problems: %q", got)
	}
	m.console.Flush()
	for _, want := range []string{"find the disk", "degraded\n", "failed"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the console does not say %q:\n%s", want, out.String())
		}
	}
	file, err := os.ReadFile(m.report.path)
	if err != nil || !bytes.Contains(file, []byte(`"step":"mount"`)) {
		t.Errorf("the report is %s, %v", file, err)
	}
}

// The rule of the watchdog, as a table.
func TestJudge(t *testing.T) {
	now := time.Now()
	fresh, late := vital{answered: now, once: true}, vital{answered: now.Add(-patience - time.Second)}
	crashing := vital{answered: now.Add(-time.Minute), ends: manyEnds, reason: "exit status 1, and said: no"}
	recovered := vital{answered: now, once: true, ends: manyEnds}
	for _, test := range []struct {
		name        string
		web, engine vital
		trial       bool
		reboot      bool
		problem     string
	}{
		{"all is well", fresh, fresh, true, false, ""},
		{"engine late, on trial", fresh, late, true, true, ""},
		{"engine late, confirmed", fresh, late, false, false, "engine has not answered"},
		{"engine crashes, on trial", fresh, crashing, true, true, ""},
		{"engine crashes, confirmed", fresh, crashing, false, false, "It ended last with: exit status 1, and said: no"},
		{"engine crashed and is back", fresh, recovered, true, false, ""},
		{"web late, on trial", late, fresh, true, true, ""},
		{"web late, confirmed", late, fresh, false, false, "web has not answered"},
	} {
		v := judge(now, test.web, test.engine, test.trial)
		said := v.problems["web"] + v.problems["engine"]
		if (v.reboot != "") != test.reboot || !strings.Contains(said, test.problem) || test.problem == "" && said != "" || !v.feed {
			t.Errorf("%s: %+v", test.name, v)
		}
	}
}

// The repair of a large file system before does not count against the services: an image on trial would start again for it, each time.
func TestPatienceBeginsWithServices(t *testing.T) {
	began := time.Now()
	h := newHealth(began)
	started := began.Add(2 * patience)
	judged := func(now time.Time) verdict { return judge(now, h.get(api.ServiceWeb), h.get(api.ServiceEngine), true) }
	if judged(started).reboot == "" {
		t.Fatal("patience has no end")
	}
	h.start(started)
	if v := judged(started); v.reboot != "" {
		t.Errorf("the services have just been started, and the device starts again: %s", v.reboot)
	}
	h.start(started.Add(patience)) // once more, since they could not be
	if v := judged(started.Add(patience + time.Second)); v.reboot == "" {
		t.Error("services that cannot be started have patience without end")
	}
}

// What was wrong since the page came late is not wrong any more when it is there.
func TestLateIsForgiven(t *testing.T) {
	m, _ := testMachine(t)
	m.boot([]phase{{"services", []step{{waitForPage, degrade, func(*machine) error { return errors.New("not yet") }}}}})
	now := time.Now()
	m.look(now)
	if got := m.report.list(); len(got) != 1 {
		t.Errorf("before it is there: %q", got)
	}
	m.health.answer(api.ServiceWeb, now)
	m.health.answer(api.ServiceEngine, now)
	m.look(now)
	if got := m.report.list(); len(got) != 0 {
		t.Errorf("when it is there: %q", got)
	}
}

// A data partition that is full has problems until there is room; one that gives errors is lost.
func TestDataFull(t *testing.T) {
	m, out := testMachine(t)
	m.mounted = "/dev/sda2"
	if m.tryData("/dev/full") || m.dataLost.Load() {
		t.Error("a full one is lost")
	}
	if got := m.report.list(); len(got) != 1 || !strings.Contains(got[0], "is full") {
		t.Errorf("problems: %q", got)
	}
	if m.tryData(filepath.Join(t.TempDir(), ".alive")) || len(m.report.list()) != 0 {
		t.Errorf("with room: %q", m.report.list())
	}
	if !m.tryData(filepath.Join(t.TempDir(), "none", ".alive")) || !m.dataLost.Load() || len(m.report.list()) != 1 {
		t.Errorf("one that cannot be written: %q", m.report.list())
	}
	m.console.Flush()
	if !strings.Contains(out.String(), "is full") {
		t.Errorf("the console says\n%s", out.String())
	}
}

func TestHealthForgetsEnds(t *testing.T) {
	h := newHealth(time.Now())
	for range manyEnds {
		h.end("engine", "killed", time.Second)
	}
	if got := h.get(api.ServiceEngine).ends; got != manyEnds {
		t.Errorf("%d ends", got)
	}
	h.end("engine", "killed", patience)
	if got := h.get(api.ServiceEngine).ends; got != 1 {
		t.Errorf("%d ends after a long life", got)
	}
	h.end("stranger", "", 0)
}

// A web that hangs does not make the engine look as if it stayed away.
func TestAskedForItself(t *testing.T) {
	h := newHealth(time.Now())
	ctx, stop := context.WithCancel(t.Context())
	h.ask(ctx, map[api.Service]func(context.Context) error{
		api.ServiceWeb:    func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
		api.ServiceEngine: func(context.Context) error { stop(); return nil },
	})
	if !h.get(api.ServiceEngine).once || h.get(api.ServiceWeb).once {
		t.Errorf("engine %+v, web %+v", h.get(api.ServiceEngine), h.get(api.ServiceWeb))
	}
}

func TestHung(t *testing.T) {
	now := time.Now()
	long := now.Add(-patience - time.Second)
	for _, test := range []struct {
		name string
		v    vital
		want bool
	}{
		{"answers", vital{answered: now, began: long, pid: 7}, false},
		{"silent", vital{answered: long, began: long, pid: 7}, true},
		{"just started", vital{answered: long, began: now, pid: 7}, false},
		{"not there", vital{answered: long, began: long}, false},
	} {
		if got := test.v.hung(now); got != test.want {
			t.Errorf("%s: hung %t", test.name, got)
		}
	}
}

func TestContentOf(t *testing.T) {
	disk := make([]byte, looked)
	if got := contentOf(disk); got != blank {
		t.Errorf("zeros are %d", got)
	}
	disk[510] = 0x55
	if got := contentOf(disk); got != foreign {
		t.Errorf("a boot record is %d", got)
	}
	disk[magicOffset], disk[magicOffset+1] = 0x53, 0xef
	if got := contentOf(disk); got != foreign {
		t.Errorf("somebody's ext4 is %d", got)
	}
	copy(disk[labelOffset:], dataLabel)
	if got := contentOf(disk); got != ext4 {
		t.Errorf("our ext4 is %d", got)
	}
}

func TestPowerKey(t *testing.T) {
	for bitmap, want := range map[string]bool{"10000000000000 0": true, "0 10000000000000 0": true, "0": false, "": false, "zz 0": false, "ffffffffffffffff": false} {
		if got := hasKey(bitmap, keyPower); got != want {
			t.Errorf("%q has the key: %t", bitmap, got)
		}
	}
	event := make([]byte, eventBytes)
	event[16], event[18], event[20] = evKey, keyPower, 1
	if !pressed(event, keyPower) || pressed(event, 30) {
		t.Error("the event is not understood")
	}
	event[20] = 0
	if pressed(event, keyPower) {
		t.Error("a key that is let go is pressed")
	}
}

func TestLogs(t *testing.T) {
	l := newLogs()
	if _, err := l.text("engine"); err == nil {
		t.Error("a log of nothing")
	}
	line := strings.Repeat("x", 1000)
	for i := range 2 * logBytes / 1000 {
		l.add("engine", strconv.Itoa(i)+" "+line)
	}
	text, err := l.text("engine")
	if err != nil || len(text) > logBytes || !strings.Contains(text, " 523 x") || strings.Contains(text, " 1 x") {
		t.Errorf("%d bytes are kept, %v", len(text), err)
	}
}

// Nobody waits for a console that takes nothing.
func TestSlowConsole(t *testing.T) {
	r, w := io.Pipe()
	c := newConsole(w)
	done := make(chan struct{})
	go func() {
		for range 10_000 {
			io.WriteString(c, "line\n")
		}
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatal("a writer waits")
	}
	b := make([]byte, 1<<20)
	text := ""
	for !strings.Contains(text, "left out") {
		n, err := r.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		text += string(b[:n])
	}
}

// Every console shows everything, also what was said before it was there, and one that cannot be opened costs nothing but itself.
func TestConsoles(t *testing.T) {
	first, second := &screen{}, &screen{}
	c := newConsoles(first)
	io.WriteString(c, "early\n")
	err := c.add([]string{"ttyS0", "ttyS1"}, func(path string) (io.Writer, error) {
		if path == "/dev/ttyS1" {
			return nil, os.ErrNotExist
		}
		return second, nil
	})
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a console that does not exist: %v", err)
	}
	io.WriteString(c, "late\n")
	c.Flush()
	for _, s := range []*screen{first, second} {
		if got := s.String(); got != "early\nlate\n" {
			t.Errorf("a console shows %q", got)
		}
	}
	if got := strings.Join(c.devices(), " "); got != "/dev/console /dev/ttyS0" {
		t.Errorf("consoles %s", got)
	}
}

func TestCommands(t *testing.T) {
	m, _ := testMachine(t)
	m.logs.add("engine", "said something")
	ask := func(line string) string {
		here, there := net.Pipe()
		go m.answer(there)
		io.WriteString(here, line+"\n")
		b, _ := io.ReadAll(here)
		return string(b)
	}
	if got := ask("log engine"); !strings.HasPrefix(got, "ok\n") || !strings.Contains(got, "said something") {
		t.Errorf("log: %q", got)
	}
	for _, line := range []string{"log nobody", "log", "halt", "", "reboot now"} {
		if got := ask(line); !strings.HasPrefix(got, "error ") {
			t.Errorf("%q: %q", line, got)
		}
	}
	if got := ask("problem clock It runs backwards."); got != "ok\n" || len(m.report.list()) != 1 || m.report.list()[0] != "It runs backwards." {
		t.Errorf("problem: %q, %q", got, m.report.list())
	}
	if got := ask("problem clock"); got != "ok\n" || len(m.report.list()) != 0 {
		t.Errorf("no problem: %q, %q", got, m.report.list())
	}
	for range 10 { // more than anybody takes
		if got := ask("reboot"); got != "ok\n" {
			t.Errorf("reboot: %q", got)
		}
	}
	if r := <-m.power; r.what != restart {
		t.Errorf("%+v", r)
	}
}

// Processes whose parents have ended are waited for, and those of os/exec are left to it.
func TestReap(t *testing.T) {
	if os.Getenv("BOOT_TEST_REAP") == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^TestReap$", "-test.v")
		cmd.Env = append(os.Environ(), "BOOT_TEST_REAP=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	becomeReaper(t)
	c := &supervise.Children{}
	stop := make(chan struct{})
	reaped := make(chan int)
	go func() {
		n := 0
		for {
			select {
			case <-stop:
				reaped <- n
				return
			default:
				n += c.Reap()
				runtime.Gosched()
			}
		}
	}()
	for i := range 20 {
		// The shell ends at once; its child becomes ours, and ends.
		cmd := exec.Command("/bin/sh", "-c", "sleep 0.05 & exit "+strconv.Itoa(i))
		if err := c.Start(cmd); err != nil {
			t.Fatal(err)
		}
		var exit *exec.ExitError
		if err := c.Wait(cmd); i > 0 && (!errors.As(err, &exit) || exit.ExitCode() != i) {
			t.Fatalf("process %d ended with %v", i, err)
		}
	}
	for deadline := time.Now().Add(time.Minute); zombiesOrChildren() > 0 && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
	}
	close(stop)
	if n := <-reaped; n != 20 {
		t.Errorf("%d strangers were waited for, want 20", n)
	}
}

func TestFingerprint(t *testing.T) {
	path := filepath.Join(t.TempDir(), "certificate.pem")
	if fingerprint(path) != "" {
		t.Error("a fingerprint of nothing")
	}
	os.WriteFile(path, []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), 0o600)
	if got := fingerprint(path); !strings.HasPrefix(got, "70:9E:80:C8:") {
		t.Errorf("fingerprint %q", got)
	}
}

func TestMemoryTotal(t *testing.T) {
	if n, err := memoryTotal("MemFree: 1 kB\nMemTotal:   470000 kB\n"); n != 481_280_000 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if _, err := memoryTotal(""); err == nil {
		t.Error("no total is no error")
	}
}

// The copy has the small files with their modes, and what was there before is replaced.
func TestCopyState(t *testing.T) {
	from, to := t.TempDir(), filepath.Join(t.TempDir(), "copy")
	os.MkdirAll(filepath.Join(from, "web"), 0o711)
	os.WriteFile(filepath.Join(from, "web", "users"), []byte("admin"), 0o640)
	os.WriteFile(filepath.Join(from, "large"), make([]byte, shadowBytes+1), 0o600)
	os.Symlink("/etc/passwd", filepath.Join(from, "link"))
	for _, text := range []string{"admin", "admin and others"} {
		os.WriteFile(filepath.Join(from, "web", "users"), []byte(text), 0o640)
		if err := copyState(to, from); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(to, "web", "users"))
		info, _ := os.Stat(filepath.Join(to, "web", "users"))
		if string(got) != text || err != nil || info.Mode().Perm() != 0o640 {
			t.Errorf("%q, %v", got, err)
		}
	}
	for _, name := range []string{"large", "link"} {
		if _, err := os.Lstat(filepath.Join(to, name)); err == nil {
			t.Errorf("%s is copied", name)
		}
	}
}
