package afpacket

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"galvo/ci/rig"
	"galvo/services/internal/pipeline"
)

// asChild makes the test binary a process that has no rights and receives frames on sockets it is given.
const asChild = "GALVO_TEST_UNPRIVILEGED"

func TestMain(m *testing.M) {
	var err error
	if does := os.Getenv(asReceiver); does != "" {
		err = receiver(os.Args[1], does)
	} else if os.Getenv(asChild) != "" {
		err = child()
	} else {
		os.Exit(m.Run())
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

const (
	childFrames  = 500
	childWorkers = 2
)

// child says who it is, takes sockets from file descriptor 3, and receives.
func child() error {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(status)) {
		if strings.HasPrefix(line, "CapEff") || strings.HasPrefix(line, "Uid") {
			fmt.Print(line)
		}
	}
	if _, err := Open(1, 1); err == nil {
		return fmt.Errorf("the process can open packet sockets itself")
	}
	room := make([]byte, unix.CmsgSpace(4*childWorkers))
	_, n, _, _, err := unix.Recvmsg(3, make([]byte, 1), room, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return err
	}
	messages, err := unix.ParseSocketControlMessage(room[:n])
	if err != nil {
		return err
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return err
	}
	ps := NewPorts(childWorkers)
	port, err := ps.Add(pipeline.Interface{Port: 1}, fds, Options{Direction: Both})
	if err != nil {
		return err
	}
	fmt.Println("ready")
	var b pipeline.Batch
	got := 0
	for deadline := time.Now().Add(patience); got < childFrames && time.Now().Before(deadline); {
		for w := range childWorkers {
			if err := ps.Source(w).Next(context.Background(), &b); err != nil {
				return err
			}
			got += len(b.Packets)
		}
	}
	fmt.Println("received", got, port.Stats().Received)
	ps.Close()
	return nil
}

// What the engine does needs no right at all, but for the sockets.
func TestUnprivileged(t *testing.T) {
	tx, rx := rig.VethFor(t)
	var fds []int
	if err := rx.Netns.Run(func() (err error) { fds, err = Open(rx.Index, childWorkers); return err }); err != nil {
		t.Fatal(err)
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[0])
	theirs := os.NewFile(uintptr(pair[1]), "socket")
	cmd := exec.Command("/proc/self/exe") // the test binary lies where nobody else may look
	cmd.Env = append(os.Environ(), asChild+"=1")
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	err = unix.Sendmsg(pair[0], []byte{0}, unix.UnixRights(fds...), nil, 0)
	closeAll(fds)
	if err != nil {
		t.Fatal(err)
	}
	said := readUntil(t, out, "ready\n")
	mustPlay(t, rig.Player{To: tx}, numbered(childFrames, 64, 100))
	rest, err := io.ReadAll(out)
	if err != nil {
		t.Fatal(err)
	}
	said += string(rest)
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	for _, want := range []string{"Uid:\t65534\t65534", "CapEff:\t0000000000000000", fmt.Sprintln("received", childFrames, childFrames)} {
		if !strings.Contains(said, want) {
			t.Errorf("the process did not say %q, but:\n%s", want, said)
		}
	}
}

func readUntil(t *testing.T, r io.Reader, end string) string {
	t.Helper()
	var said bytes.Buffer
	for b := make([]byte, 1); !strings.HasSuffix(said.String(), end); said.Write(b) {
		if _, err := r.Read(b); err != nil {
			t.Fatalf("the process ended: %s", said.String())
		}
	}
	return said.String()
}
