package qemu

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// An NBD is a disk in memory that the machine reaches over the NBD protocol (fixed newstyle, doc/proto.md of the nbd project). It remembers what was flushed: a power cut
// can lose everything else, or all but a part of it, and requests can be made to fail.
type NBD struct {
	t    testing.TB
	path string
	size int64

	mu       sync.Mutex
	flushed  map[int64][]byte // sectors as they would outlive a power cut
	cached   map[int64][]byte // sectors written since the last flush
	listener net.Listener
	conns    map[net.Conn]bool
	fail     func(r Request) bool
	requests int
	serving  sync.WaitGroup
}

// A Request is what the machine wants of the disk.
type Request struct {
	Write, Flush bool // else a read
	Offset       int64
	Bytes        int
	Number       int // from 1
}

const sectorBytes = 512

// NewNBD makes an empty disk of size bytes that ends with the test.
func NewNBD(t testing.TB, size int64) *NBD {
	t.Helper()
	dir, err := os.MkdirTemp("", "galvo-nbd") // short: a socket's path has at most 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	n := &NBD{t: t, path: filepath.Join(dir, "disk"), size: size, flushed: map[int64][]byte{}, cached: map[int64][]byte{}}
	n.Serve()
	t.Cleanup(func() { n.stop(); os.RemoveAll(dir) })
	return n
}

// Load makes the disk hold what is in a file, from the beginning.
func (n *NBD) Load(path string) {
	n.t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		n.t.Fatal(err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.flushed, n.cached = map[int64][]byte{}, map[int64][]byte{}
	zero := make([]byte, sectorBytes)
	for at := 0; at+sectorBytes <= len(content); at += sectorBytes {
		if sector := content[at : at+sectorBytes]; !bytes.Equal(sector, zero) {
			n.flushed[int64(at)] = sector
		}
	}
}

// Disk returns the disk for a machine.
func (n *NBD) Disk() Disk { return Disk{Path: "nbd:unix:" + n.path} }

// Fail makes the requests fail for which f says yes; nil is none.
func (n *NBD) Fail(f func(Request) bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.fail = f
}

// Drop ends the disk as a power cut does: what was not flushed is gone.
func (n *NBD) Drop() { n.Tear(0) }

// Tear ends the disk as a power cut does that came while the cache was being written: of the sectors that were not flushed, the first so many
// of 256, by their places, are there.
func (n *NBD) Tear(share int) {
	n.stop()
	n.mu.Lock()
	defer n.mu.Unlock()
	for at, sector := range n.cached {
		if torn(at) < share {
			n.flushed[at] = sector
		}
	}
	n.cached = map[int64][]byte{}
}

// Snapshot writes to a file what the disk would have if the power were cut now, with the share of Tear, and goes on.
func (n *NBD) Snapshot(to string, share int) error {
	n.mu.Lock()
	left := maps.Clone(n.flushed)
	for at, sector := range n.cached {
		if torn(at) < share {
			left[at] = sector
		}
	}
	n.mu.Unlock()
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(n.size); err != nil {
		return err
	}
	for at, sector := range left {
		if _, err := f.WriteAt(sector, at); err != nil {
			return err
		}
	}
	return nil
}

// torn says by a sector's place, from 0 to 255, when a cache that is being written comes to it.
func torn(at int64) int { return int(uint64(at) * 0x9E3779B97F4A7C15 >> 56) }

// Serve serves the disk, again after Drop or Tear.
func (n *NBD) Serve() {
	n.t.Helper()
	l, err := net.Listen("unix", n.path)
	if err != nil {
		n.t.Fatal(err)
	}
	n.mu.Lock()
	n.listener, n.conns = l, map[net.Conn]bool{}
	n.mu.Unlock()
	n.serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			n.mu.Lock()
			n.conns[c] = true
			n.mu.Unlock()
			n.serving.Go(func() {
				defer c.Close()
				if err := n.serve(c); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
					n.t.Logf("NBD: %v", err)
				}
			})
		}
	})
}

func (n *NBD) stop() {
	n.mu.Lock()
	n.listener.Close()
	conns := maps.Clone(n.conns)
	n.mu.Unlock()
	for c := range conns {
		c.Close()
	}
	n.serving.Wait()
}

// From doc/proto.md.
const (
	nbdMagic       = 0x4e42444d41474943
	optionMagic    = 0x49484156454f5054
	replyMagic     = 0x3e889045565a9
	requestMagic   = 0x25609513
	simpleMagic    = 0x67446698
	flagFixed      = 1
	flagNoZeroes   = 2
	transmitFlags  = 1 | 1<<2 | 1<<3 // has flags, takes flush, takes FUA
	optionExport   = 1
	optionAbort    = 2
	optionGo       = 7
	replyAck       = 1
	replyInfo      = 3
	replyUnsup     = 1<<31 | 1
	commandRead    = 0
	commandWrite   = 1
	commandClose   = 2
	commandFlush   = 3
	commandFUA     = 1
	errorIO        = 5
	mostNBDRequest = 32 << 20
)

func (n *NBD) serve(c net.Conn) error {
	in := bufio.NewReaderSize(c, 1<<16)
	if err := n.negotiate(c, in); err != nil {
		return err
	}
	for {
		var h struct {
			Magic       uint32
			Flags, Type uint16
			Cookie      uint64
			Offset      uint64
			Length      uint32
		}
		if err := binary.Read(in, binary.BigEndian, &h); err != nil {
			return err
		}
		if h.Magic != requestMagic || h.Length > mostNBDRequest {
			return fmt.Errorf("a request with the magic %x and %d bytes", h.Magic, h.Length)
		}
		var data []byte
		if h.Type == commandWrite {
			data = make([]byte, h.Length)
			if _, err := io.ReadFull(in, data); err != nil {
				return err
			}
		}
		if h.Type == commandClose {
			return nil
		}
		answer, failed := n.handle(h.Type, int64(h.Offset), int(h.Length), data, h.Flags&commandFUA != 0)
		reply := binary.BigEndian.AppendUint32(nil, simpleMagic)
		reply = binary.BigEndian.AppendUint32(reply, failed)
		reply = binary.BigEndian.AppendUint64(reply, h.Cookie)
		if _, err := c.Write(append(reply, answer...)); err != nil {
			return err
		}
	}
}

func (n *NBD) negotiate(c net.Conn, in *bufio.Reader) error {
	hello := binary.BigEndian.AppendUint64(nil, nbdMagic)
	hello = binary.BigEndian.AppendUint64(hello, optionMagic)
	hello = binary.BigEndian.AppendUint16(hello, flagFixed|flagNoZeroes)
	if _, err := c.Write(hello); err != nil {
		return err
	}
	var flags uint32
	if err := binary.Read(in, binary.BigEndian, &flags); err != nil {
		return err
	}
	for {
		var o struct {
			Magic          uint64
			Option, Length uint32
		}
		if err := binary.Read(in, binary.BigEndian, &o); err != nil {
			return err
		}
		if o.Magic != optionMagic || o.Length > 4096 {
			return fmt.Errorf("an option with the magic %x", o.Magic)
		}
		if _, err := in.Discard(int(o.Length)); err != nil {
			return err
		}
		reply := func(kind uint32, data []byte) error {
			b := binary.BigEndian.AppendUint64(nil, replyMagic)
			b = binary.BigEndian.AppendUint32(b, o.Option)
			b = binary.BigEndian.AppendUint32(b, kind)
			b = binary.BigEndian.AppendUint32(b, uint32(len(data)))
			_, err := c.Write(append(b, data...))
			return err
		}
		export := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint64(nil, uint64(n.size)), transmitFlags)
		var err error
		switch o.Option {
		case optionGo:
			// The first 16 bits say that this is about the export itself.
			if err = reply(replyInfo, append([]byte{0, 0}, export...)); err == nil {
				err = reply(replyAck, nil)
			}
			return err
		case optionExport:
			_, err = c.Write(export)
			return err
		case optionAbort:
			return io.EOF
		default:
			err = reply(replyUnsup, nil)
		}
		if err != nil {
			return err
		}
	}
}

// handle does a request, and returns what was read and the error for the machine.
func (n *NBD) handle(kind uint16, offset int64, length int, data []byte, fua bool) ([]byte, uint32) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.requests++
	r := Request{Write: kind == commandWrite, Flush: kind == commandFlush, Offset: offset, Bytes: length, Number: n.requests}
	if n.fail != nil && n.fail(r) || offset < 0 || offset+int64(length) > n.size || offset%sectorBytes != 0 || length%sectorBytes != 0 {
		return nil, errorIO
	}
	switch kind {
	case commandRead:
		out := make([]byte, length)
		for i := 0; i < length; i += sectorBytes {
			at := offset + int64(i)
			if s, ok := n.cached[at]; ok {
				copy(out[i:], s)
			} else {
				copy(out[i:], n.flushed[at])
			}
		}
		return out, 0
	case commandWrite:
		to := n.cached
		if fua {
			to = n.flushed
		}
		for i := 0; i < length; i += sectorBytes {
			at := offset + int64(i)
			if fua {
				delete(n.cached, at)
			}
			to[at] = data[i : i+sectorBytes]
		}
	case commandFlush:
		maps.Copy(n.flushed, n.cached)
		n.cached = map[int64][]byte{}
	default:
		return nil, errorIO
	}
	return nil, 0
}
