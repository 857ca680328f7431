package handover

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// sendTimeout is how long a peer may leave messages unread before it is given up.
const sendTimeout = 5 * time.Second

// Path returns where the host listens, below the runtime directory.
func Path(run string) string { return filepath.Join(run, "handover", "socket") }

// A Listener is the host's end.
type Listener struct {
	unix *net.UnixListener
	uid  int
}

// Listen listens at path, which only processes of the user uid may connect to. A file that an earlier process left at path is removed.
func Listen(path string, uid int) (*Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("listen for the engine: %w", err)
	}
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		return nil, fmt.Errorf("listen for the engine: %w", err)
	}
	err = errors.Join(os.Chmod(path, 0o600), os.Chown(path, uid, -1))
	if err != nil {
		l.Close()
		return nil, fmt.Errorf("listen for the engine: %w", err)
	}
	return &Listener{l, uid}, nil
}

// Accept waits for the next connection of the right user; others are closed. It ends with the Listener's Close.
func (l *Listener) Accept() (*Conn, error) {
	for {
		u, err := l.unix.AcceptUnix()
		if err != nil {
			return nil, fmt.Errorf("accept the engine: %w", err)
		}
		if uid, err := peer(u); err == nil && uid == l.uid {
			return newConn(u), nil
		}
		u.Close()
	}
}

// Close ends Accept. It closes no connection.
func (l *Listener) Close() error { return l.unix.Close() }

// peer returns the user that connected.
func peer(u *net.UnixConn) (int, error) {
	raw, err := u.SyscallConn()
	if err != nil {
		return -1, err
	}
	var cred *unix.Ucred
	var sockErr error
	if err := raw.Control(func(fd uintptr) {
		cred, sockErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return -1, err
	}
	if sockErr != nil {
		return -1, sockErr
	}
	return int(cred.Uid), nil
}

// A Conn is one end of a conversation. Several goroutines may Send; one may call Next.
type Conn struct {
	unix *net.UnixConn
	in   []byte
	oob  []byte

	send sync.Mutex // keeps the messages of one sender in their order, and the deadline with its message
}

// Dial connects to the host at path.
func Dial(ctx context.Context, path string) (*Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "unixpacket", path)
	if err != nil {
		return nil, fmt.Errorf("connect to the host: %w", err)
	}
	return newConn(c.(*net.UnixConn)), nil
}

func newConn(u *net.UnixConn) *Conn {
	// Without the right to go beyond the system's limit the kernel grants less; a message that is too long for that is refused by Send.
	u.SetWriteBuffer(2 * MaxMessage)
	return &Conn{unix: u, in: make([]byte, MaxMessage), oob: make([]byte, unix.CmsgSpace(4*maxSockets))}
}

// Send sends m and closes its sockets.
func (c *Conn) Send(m Message) error {
	var sockets []int
	if m.Port != nil {
		sockets = m.Port.Sockets
	}
	defer closeAll(sockets)
	b, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("hand over: encode: %w", err)
	}
	if len(b) > MaxMessage || len(sockets) > maxSockets {
		return fmt.Errorf("hand over: a message of %d bytes with %d sockets is too large", len(b), len(sockets))
	}
	var oob []byte
	if len(sockets) > 0 {
		oob = unix.UnixRights(sockets...)
	}
	c.send.Lock()
	defer c.send.Unlock()
	c.unix.SetWriteDeadline(time.Now().Add(sendTimeout))
	if _, _, err := c.unix.WriteMsgUnix(b, oob, nil); err != nil {
		return fmt.Errorf("hand over: %w", err)
	}
	return nil
}

// Next waits for the next message. It returns io.EOF when the peer has closed the conversation, and net.ErrClosed after Close.
func (c *Conn) Next() (Message, error) {
	n, oobn, flags, _, err := c.unix.ReadMsgUnix(c.in, c.oob)
	if err != nil {
		return Message{}, fmt.Errorf("receive a hand-over: %w", err)
	}
	sockets, err := rights(c.oob[:oobn])
	if err == nil && flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
		err = errors.New("the message is truncated")
	}
	var m Message
	if err == nil {
		m, err = decode(c.in[:n], len(sockets))
	}
	if err != nil {
		closeAll(sockets)
		return Message{}, fmt.Errorf("receive a hand-over: %w", err)
	}
	if m.Port != nil {
		m.Port.Sockets = sockets
	}
	return m, nil
}

// decode reads a message that came with so many sockets.
func decode(b []byte, sockets int) (Message, error) {
	var m Message
	if err := json.Unmarshal(b, &m); err != nil {
		return Message{}, err
	}
	fields := 0
	for _, set := range []bool{m.Ready != nil, m.Config != nil, m.Port != nil, m.Gone != nil, m.Stats != nil, m.Restart != nil, m.Storage != nil, m.Stored != nil, m.Usage != nil} {
		if set {
			fields++
		}
	}
	switch {
	case fields != 1:
		return Message{}, fmt.Errorf("a message of %d kinds", fields)
	case sockets > 0 && m.Port == nil:
		return Message{}, errors.New("sockets without a port")
	case m.Ready != nil && (m.Ready.Workers < 1 || m.Ready.Workers > maxSockets):
		return Message{}, fmt.Errorf("%d workers", m.Ready.Workers)
	}
	return m, nil
}

// Close ends the conversation.
func (c *Conn) Close() error { return c.unix.Close() }

// rights returns the descriptors in control messages. Go receives them with close-on-exec set.
func rights(oob []byte) ([]int, error) {
	if len(oob) == 0 {
		return nil, nil
	}
	messages, err := syscall.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	var fds []int
	for _, m := range messages {
		got, err := syscall.ParseUnixRights(&m)
		if err != nil {
			closeAll(fds)
			return nil, err
		}
		fds = append(fds, got...)
	}
	return fds, nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		syscall.Close(fd)
	}
}
