package handover

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"galvo/ci/need"
	"galvo/services/config"
)

// pair returns both ends of a conversation.
func pair(t *testing.T) (host, engine *Conn) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := Listen(path, os.Getuid())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	accepted := make(chan *Conn, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			t.Error(err)
		}
		accepted <- c
	}()
	engine, err = Dial(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	host = <-accepted
	t.Cleanup(func() { host.Close(); engine.Close() })
	return host, engine
}

func TestMessages(t *testing.T) {
	host, engine := pair(t)
	c := config.Default()
	for len(c.Groups) < 100 {
		c.Groups = append(c.Groups, config.Group{Name: strings.Repeat("g", 64), VLANs: make([]int, 256)})
	}
	toEngine := []Message{
		{Config: &Config{*c, []netip.AddrPort{netip.MustParseAddrPort("[::]:8443")}, 1 << 63}},
		{Port: &Port{ID: 2, Name: "eth1", Direction: "in", State: "absent", Reason: "no such link"}},
		{Stats: &Stats{ID: 2, Time: 5, RxPackets: 1 << 63}},
		{Gone: &Gone{ID: 2, Reason: "removed"}},
		{Restart: &Restart{"asked for"}},
	}
	for _, m := range toEngine {
		if err := host.Send(m); err != nil {
			t.Fatal(err)
		}
		got, err := engine.Next()
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(m, got, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); d != "" {
			t.Error(d)
		}
	}
	if err := engine.Send(Message{Ready: &Ready{Workers: 2}}); err != nil {
		t.Fatal(err)
	}
	if got, err := host.Next(); err != nil || got.Ready == nil || got.Ready.Workers != 2 {
		t.Errorf("Next() = %+v, %v, want ready", got, err)
	}
	engine.Close()
	if _, err := host.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("after Close Next returns %v, want EOF", err)
	}
}

// The sender keeps no copy: when the receiver closes its sockets, the other ends see the end.
func TestSocketsMove(t *testing.T) {
	host, engine := pair(t)
	var sockets, others []int
	for range 64 {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		sockets, others = append(sockets, fds[0]), append(others, fds[1])
	}
	defer closeAll(others)
	if err := host.Send(Message{Port: &Port{ID: 1, Sockets: sockets}}); err != nil {
		t.Fatal(err)
	}
	m, err := engine.Next()
	if err != nil || m.Port == nil || len(m.Port.Sockets) != len(others) {
		t.Fatalf("Next() = %+v, %v, want a port with %d sockets", m, err, len(others))
	}
	for i, fd := range m.Port.Sockets {
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("socket %d would be inherited by children: %v", i, err)
		}
		syscall.Write(fd, []byte{byte(i)})
		syscall.Close(fd)
		b := make([]byte, 2)
		if n, err := syscall.Read(others[i], b); n != 1 || b[0] != byte(i) {
			t.Errorf("socket %d: read %d bytes, %v: sockets are out of order", i, n, err)
		}
		if n, err := syscall.Read(others[i], b); n != 0 || err != nil {
			t.Errorf("socket %d is still open somewhere: read %d bytes, %v", i, n, err)
		}
	}
}

func TestRefusals(t *testing.T) {
	fd, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		body string
		oob  []byte
	}{
		{"not JSON", "{", nil},
		{"no kind", "{}", nil},
		{"two kinds", `{"Gone":{},"Stats":{}}`, nil},
		{"no workers", `{"Ready":{"Workers":0}}`, nil},
		{"too many workers", `{"Ready":{"Workers":254}}`, nil},
		{"sockets without a port", `{"Stats":{}}`, unix.UnixRights(fd)},
	}
	defer unix.Close(fd)
	host, engine := pair(t) // the first one costs the process descriptors that it keeps
	host.Close()
	engine.Close()
	before := descriptors(t)
	for _, test := range tests {
		host, engine := pair(t)
		if _, _, err := engine.unix.WriteMsgUnix([]byte(test.body), test.oob, nil); err != nil {
			t.Fatal(err)
		}
		if m, err := host.Next(); err == nil {
			t.Errorf("%s: accepted as %+v", test.name, m)
		}
		host.Close()
		engine.Close()
	}
	if after := descriptors(t); after != before {
		t.Errorf("%d descriptors before, %d after: a refused message leaves its sockets open", before, after)
	}
	host, _ = pair(t)
	if err := host.Send(Message{Gone: &Gone{Reason: strings.Repeat("x", MaxMessage)}}); err == nil {
		t.Error("a message that is too large was sent")
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	e, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(e)
}

// TestMain is also the engine of TestOtherProcess.
func TestMain(m *testing.M) {
	path := os.Getenv("HANDOVER_TEST_SOCKET")
	if path == "" {
		os.Exit(m.Run())
	}
	if err := readOneSocket(path); err != nil {
		os.Stderr.WriteString(err.Error())
		os.Exit(1)
	}
}

func readOneSocket(path string) error {
	c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		return err
	}
	conn := newConn(c)
	if err := conn.Send(Message{Ready: &Ready{Workers: 1}}); err != nil {
		return err
	}
	m, err := conn.Next()
	if err != nil {
		return err
	}
	_, err = io.Copy(os.Stdout, os.NewFile(uintptr(m.Port.Sockets[0]), "socket"))
	return err
}

// A process of the right user gets the sockets, one of another user is turned away.
func TestOtherProcess(t *testing.T) {
	need.Root(t)
	const engineUID, otherUID = 64210, 64211
	dir, err := os.MkdirTemp("/tmp", "handover")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "s")
	l, err := Listen(path, engineUID)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	// The socket is opened to all here, so that it is the credentials that decide and not the file's mode.
	if err := errors.Join(os.Chmod(dir, 0o755), os.Chmod(path, 0o666)); err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- serveOne(l, "from the host") }()
	if out, err := engineProcess(t, path, otherUID); err == nil {
		t.Errorf("another user's process got %q", out)
	}
	if out, err := engineProcess(t, path, engineUID); err != nil || out != "from the host" {
		t.Errorf("the engine got %q, %v", out, err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}

func serveOne(l *Listener, text string) error {
	c, err := l.Accept()
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Next(); err != nil {
		return err
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if err := c.Send(Message{Port: &Port{ID: 1, Sockets: fds[:1]}}); err != nil {
		return err
	}
	_, err = unix.Write(fds[1], []byte(text))
	return errors.Join(err, unix.Close(fds[1]))
}

func engineProcess(t *testing.T, path string, uid uint32) (string, error) {
	t.Helper()
	var out bytes.Buffer
	// The test's binary lies in a folder of its own user, so it is run through a descriptor.
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	cmd := exec.Command("/proc/self/fd/3")
	cmd.ExtraFiles = []*os.File{self}
	cmd.Dir = "/"
	cmd.Env = []string{"HANDOVER_TEST_SOCKET=" + path}
	cmd.Stdout = &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	err = cmd.Run()
	return out.String(), err
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"Ready":{"Workers":2}}`), 0)
	f.Add([]byte(`{"Port":{"ID":1,"Addresses":["10.0.0.1"]}}`), 2)
	f.Fuzz(func(t *testing.T, b []byte, sockets int) {
		m, err := decode(b, sockets)
		if err == nil && m.Ready != nil && (m.Ready.Workers < 1 || m.Ready.Workers > maxSockets) {
			t.Errorf("%q asks for %d workers", b, m.Ready.Workers)
		}
	})
}

// Every kind of message is taken by the other end.
func TestEveryKind(t *testing.T) {
	kinds := reflect.TypeFor[Message]()
	for i := range kinds.NumField() {
		var m Message
		field := reflect.ValueOf(&m).Elem().Field(i)
		field.Set(reflect.New(field.Type().Elem()))
		if m.Ready != nil {
			m.Ready.Workers = 1
		}
		b, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := decode(b, 0); err != nil || reflect.ValueOf(got).Field(i).IsNil() {
			t.Errorf("%s: %+v, %v", kinds.Field(i).Name, got, err)
		}
	}
}
