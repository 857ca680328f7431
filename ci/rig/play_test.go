package rig

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// listen returns a function that gives the next frame that arrives at an end.
func listen(t *testing.T, e *End) func() []byte {
	t.Helper()
	var fd int
	if err := e.Netns.Run(func() (err error) {
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		return errors.Join(
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20),
			unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 60}),
			unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: e.Index, Protocol: 0x0300}), // ETH_P_ALL in network byte order
		)
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	room := make([]byte, 1<<16)
	return func() []byte {
		n, err := unix.Read(fd, room)
		if err != nil {
			t.Fatal("no frame: ", err)
		}
		return room[:n]
	}
}

// untagged are frames of Mix that a simple socket shows as they are: the kernel takes tags out.
func untagged(n int) []Frame {
	var list []Frame
	for _, f := range Mix(5, 2*n) {
		if kind := [2]byte(f.Data[12:]); kind != [2]byte{0x81, 0} && kind != [2]byte{0x88, 0xa8} && len(list) < n {
			list = append(list, f)
		}
	}
	return list
}

func TestPlay(t *testing.T) {
	const n = 2000
	frames := untagged(n)
	own := frames[n-1].Time
	for _, c := range []struct {
		name string
		p    Player
		took time.Duration // at least
	}{
		{"top speed", Player{}, 0},
		{"visible", Player{Visible: true}, 0},
		{"a rate", Player{Rate: 20_000}, (n - 1) * time.Second / 20_000},
		{"its own timing", Player{Speed: 1}, own},
		{"half as fast", Player{Speed: 0.5}, 2 * own},
		{"on a processor", Player{CPU: 1}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			tx, rx := VethFor(t)
			next := listen(t, rx)
			c.p.To = tx
			r, err := c.p.Play(context.Background(), frames)
			if err != nil || r.Sent != n || r.Errors != 0 || r.Dropped != 0 {
				t.Fatal(r, err)
			}
			if r.Took < c.took {
				t.Errorf("took %v, want at least %v", r.Took, c.took)
			}
			for i := range frames {
				if got := next(); !bytes.Equal(got, frames[i].Data) {
					t.Fatalf("frame %d is % x, want % x", i, got, frames[i].Data)
				}
			}
			t.Log(r)
		})
	}
}

// What the kernel refuses is counted and skipped.
func TestPlayErrors(t *testing.T) {
	tx, rx := VethFor(t)
	next := listen(t, rx)
	good := untagged(2)
	frames := []Frame{good[0], {Data: make([]byte, 20_000)}, {Data: make([]byte, 5)}, {}, good[1]}
	r, err := (&Player{To: tx}).Play(context.Background(), frames)
	if err != nil || r.Sent != 2 || r.Errors != 3 || !errors.Is(r.Err, unix.EMSGSIZE) {
		t.Error(r, err)
	}
	for _, want := range good {
		if got := next(); !bytes.Equal(got, want.Data) {
			t.Errorf("got % x, want % x", got, want.Data)
		}
	}
}

func TestPlayEndsWithContext(t *testing.T) {
	tx, _ := VethFor(t)
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	r, err := (&Player{To: tx, Rate: 1000}).Play(ctx, untagged(1000))
	if !errors.Is(err, context.DeadlineExceeded) || r.Sent > 200 {
		t.Error(r, err)
	}
}

func TestVethAddress(t *testing.T) {
	tx, rx := VethFor(t)
	if err := errors.Join(tx.Address("10.9.0.1/24"), rx.Address("10.9.0.2/24")); err != nil {
		t.Fatal(err)
	}
	if tx.Index == 0 || rx.Index == 0 {
		t.Errorf("indexes %d and %d", tx.Index, rx.Index)
	}
	if err := errors.Join(tx.WaitUp(context.Background()), rx.WaitUp(context.Background())); err != nil {
		t.Fatal(err)
	}
	if err := rx.Remove(); err != nil {
		t.Fatal(err)
	}
	if err := tx.Up(true); err == nil {
		t.Error("the other end is still there")
	}
}
