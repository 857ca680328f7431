package api

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// SocketPath returns where a service answers the API, below the runtime directory.
func SocketPath(run string, s Service) string { return filepath.Join(run, string(s), "api") }

// Listen listens on a unix socket at path for calls by processes of the given users; connections of others are closed. A socket that an earlier
// process left there is removed. The socket's group is its folder's, if that has the set-group-id bit, and may connect.
func Listen(path string, users ...int) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("listen for API calls: %w", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen for API calls: %w", err)
	}
	if err := os.Chmod(path, 0o660); err != nil {
		l.Close()
		return nil, fmt.Errorf("listen for API calls: %w", err)
	}
	return &listener{l, users}, nil
}

type listener struct {
	*net.UnixListener
	users []int
}

// Accept returns the next connection of one of the users.
func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		if uid, err := peerUser(c); err == nil && slices.Contains(l.users, uid) {
			return c, nil
		}
		c.Close()
	}
}

// peerUser returns the user at the other end of c (SO_PEERCRED, unix(7)).
func peerUser(c *net.UnixConn) (int, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return -1, err
	}
	var cred *unix.Ucred
	var sockErr error
	err = raw.Control(func(fd uintptr) { cred, sockErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err := errors.Join(err, sockErr); err != nil {
		return -1, err
	}
	return int(cred.Uid), nil
}
