package server

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
)

// failing is a listener that has no connection to give.
type failing struct {
	net.Listener
	err error
}

func (f failing) Accept() (net.Conn, error) { return nil, f.err }

func TestTooManyOpenFiles(t *testing.T) {
	var log bytes.Buffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	defer slog.SetDefault(before)
	refused := func(errno syscall.Errno) error {
		return &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", errno)}
	}
	cases := []struct {
		err  error
		says int // times in the log, however often it is asked
	}{
		{refused(syscall.EMFILE), 1},
		{refused(syscall.ENFILE), 1},
		{refused(syscall.ECONNABORTED), 0},
		{net.ErrClosed, 0},
	}
	for _, c := range cases {
		log.Reset()
		l := &listener{Listener: failing{err: c.err}}
		for range 3 {
			if _, err := l.Accept(); !errors.Is(err, c.err) {
				t.Errorf("error %v, want %v", err, c.err)
			}
		}
		if n := strings.Count(log.String(), "no more connections"); n != c.says {
			t.Errorf("%v is said %d times, want %d: %s", c.err, n, c.says, log.String())
		}
	}
}
