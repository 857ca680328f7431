package server

import (
	"errors"
	"log/slog"
	"net"
	"syscall"
	"time"
)

// A listener says in the log when clients have to wait because the process, or the machine, has as many files open as it may. net/http then tries again by
// itself and, as for everything that a client can bring about, says so to nobody.
type listener struct {
	net.Listener
	told time.Time
}

// sayAgain is how long a listener that still cannot take connections says nothing more about it.
const sayAgain = time.Minute

// Accept is net.Listener's. It is called by one goroutine.
func (l *listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if (errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)) && time.Since(l.told) > sayAgain {
		l.told = time.Now()
		slog.Warn("clients wait: no more connections can be taken until others end; see `ulimit -n`, or LimitNOFILE= of systemd", "error", err)
	}
	return c, err
}
