package qemu

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// A Wire is the other end of a port's cable. Frames are from the Ethernet header on, without FCS. QEMU's framing of a stream is the frame's length as 4 bytes, the highest
// first, and the frame.
type Wire struct {
	t        testing.TB
	listener net.Listener

	mu       sync.Mutex
	conn     net.Conn
	there    chan struct{} // closed when QEMU is connected
	received [][]byte
	taken    int           // of received, by Next
	fresh    chan struct{} // closed when there is more
}

func newWire(t testing.TB, path string) *Wire {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	w := &Wire{t: t, listener: l, there: make(chan struct{}), fresh: make(chan struct{})}
	go w.run()
	return w
}

func (w *Wire) run() {
	c, err := w.listener.Accept()
	if err != nil {
		return
	}
	w.mu.Lock()
	w.conn = c
	w.mu.Unlock()
	close(w.there)
	in := bufio.NewReaderSize(c, 1<<20)
	for {
		frame, err := readFrame(in)
		if err != nil {
			return
		}
		w.mu.Lock()
		w.received = append(w.received, frame)
		close(w.fresh)
		w.fresh = make(chan struct{})
		w.mu.Unlock()
	}
}

// mostBytes is what a frame may have at most: more means that the framing is lost.
const mostBytes = 128 << 10

func readFrame(r io.Reader) ([]byte, error) {
	var n [4]byte
	if _, err := io.ReadFull(r, n[:]); err != nil {
		return nil, err
	}
	length := binary.BigEndian.Uint32(n[:])
	if length > mostBytes {
		return nil, fmt.Errorf("a frame of %d bytes", length)
	}
	frame := make([]byte, length)
	_, err := io.ReadFull(r, frame)
	return frame, err
}

// Send puts frames on the wire, in order. It waits for as long as the machine takes nothing.
func (w *Wire) Send(frames ...[]byte) error {
	select {
	case <-w.there:
	case <-time.After(Patience(w.t)):
		return errors.New("QEMU did not connect the wire")
	}
	out := bufio.NewWriterSize(w.conn, 64<<10)
	for _, f := range frames {
		out.Write(binary.BigEndian.AppendUint32(nil, uint32(len(f))))
		out.Write(f)
	}
	return out.Flush()
}

// forget drops the frames that the machine has sent so far.
func (w *Wire) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.received, w.taken = nil, 0
}

// Received returns all frames that the machine has sent since init started.
func (w *Wire) Received() [][]byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.received[:len(w.received):len(w.received)]
}

// Next returns the next frame that the machine sends, for a limited time.
func (w *Wire) Next(limit time.Duration) ([]byte, error) {
	timeout := time.After(limit)
	for {
		w.mu.Lock()
		if w.taken < len(w.received) {
			w.taken++
			f := w.received[w.taken-1]
			w.mu.Unlock()
			return f, nil
		}
		fresh := w.fresh
		w.mu.Unlock()
		select {
		case <-fresh:
		case <-timeout:
			return nil, errors.New("no frame from the machine")
		}
	}
}

func (w *Wire) close() {
	w.listener.Close()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.conn != nil {
		w.conn.Close()
	}
}
