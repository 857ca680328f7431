package savefile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"galvo/services/internal/packet"
	"galvo/services/internal/pcapng"
	"galvo/services/internal/pipeline"
)

// maxWindow is the most memory that a zstd savefile may ask for: what the zstd program allows without being told otherwise.
const maxWindow = 128 << 20

// A file is one open savefile.
type file struct {
	name    string // for errors, whose offsets count uncompressed bytes
	order   int    // among the files given
	size    int64
	raw     *counter
	reader  *pcapng.Reader
	closers []func() error
	index   []uint16 // the file's interfaces in the Source's table

	misdated, undated, missing atomic.Uint64 // as of the last read

	run []packet.Packet // frames in hand, for the merge
	at  int             // the first of them that was not delivered
}

// A counter counts the bytes that were read.
type counter struct {
	io.Reader
	bytes atomic.Int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.bytes.Add(int64(n))
	return n, err
}

func open(opener func(string) (*os.File, error), name string, stdin io.Reader) (*file, error) {
	f := &file{name: name}
	if name == "-" {
		if stdin == nil {
			return nil, errors.New("standard input can be read once only")
		}
		f.raw = &counter{Reader: stdin}
	} else if err := f.openDisk(opener, name); err != nil {
		return nil, err
	}
	plain, err := f.decompress()
	if err == nil {
		f.reader, err = pcapng.NewReader(plain)
	}
	if err != nil {
		return nil, errors.Join(err, f.close())
	}
	return f, nil
}

func (f *file) openDisk(opener func(string) (*os.File, error), name string) error {
	disk, err := opener(name)
	if err != nil {
		return reason(err)
	}
	f.closers = append(f.closers, disk.Close)
	info, err := disk.Stat()
	if err != nil {
		return errors.Join(reason(err), f.close())
	}
	if info.IsDir() {
		return errors.Join(errors.New("it is a directory"), f.close())
	}
	if info.Mode().IsRegular() {
		f.size = info.Size()
	}
	f.raw = &counter{Reader: disk}
	return nil
}

// reason leaves out of an error what its reader is told anyhow: the operation and the name of the file.
func reason(err error) error {
	var path *os.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}

// A decompressor names its errors, which those of a reader of savefiles wrap.
type decompressor struct {
	io.Reader
	name string
}

func (d decompressor) Read(p []byte) (int, error) {
	n, err := d.Reader.Read(p)
	if err != nil && err != io.EOF {
		err = fmt.Errorf("%s: %w", d.name, err)
	}
	return n, err
}

// decompress returns the savefile's own bytes. Compression is told by the first bytes: RFC 1952 section 2.3.1, RFC 8878 section 3.1.1.
func (f *file) decompress() (io.Reader, error) {
	head := make([]byte, 4)
	n, err := io.ReadFull(f.raw, head)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return nil, reason(err)
	}
	head = head[:n]
	whole := io.MultiReader(bytes.NewReader(head), f.raw)
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(whole)
		if err != nil {
			return nil, fmt.Errorf("gzip: %w", err)
		}
		f.name += ", uncompressed"
		return decompressor{z, "gzip"}, nil
	case bytes.Equal(head, []byte{0x28, 0xb5, 0x2f, 0xfd}), isSkippable(head):
		z, err := zstd.NewReader(whole, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, err
		}
		f.closers = append(f.closers, func() error { z.Close(); return nil })
		f.name += ", uncompressed"
		return decompressor{z, "zstd"}, nil
	}
	for _, other := range otherCompressions {
		if bytes.HasPrefix(head, other.magic) {
			return nil, fmt.Errorf("it is compressed with %s: only gzip and zstd are read, so unpack it first", other.name)
		}
	}
	return whole, nil
}

// isSkippable reports whether head begins a frame that zstd skips: tools that compress in pieces write an index of them first (RFC 8878 section 3.1.2).
func isSkippable(head []byte) bool {
	return len(head) == 4 && head[0]&0xf0 == 0x50 && bytes.Equal(head[1:], []byte{0x2a, 0x4d, 0x18})
}

// otherCompressions are those that a savefile may come in, and that a person expects to work.
var otherCompressions = []struct {
	name  string
	magic []byte
}{
	{"xz", []byte("\xfd7zX")},
	{"bzip2", []byte("BZh")},
	{"lz4", []byte("\x04\x22\x4d\x18")},
	{"zip", []byte("PK\x03\x04")},
}

func (f *file) close() error {
	var errs []error
	for _, c := range f.closers {
		errs = append(errs, c())
	}
	f.closers = nil
	return errors.Join(errs...)
}

func (f *file) read(dst []packet.Packet) (int, error) {
	n, err := f.reader.Read(dst)
	if m := f.reader.Remarks(); m != (pcapng.Remarks{}) {
		f.misdated.Store(m.Misdated)
		f.undated.Store(m.Undated)
		f.missing.Store(m.Missing)
	}
	return n, err
}

// refill reads the file's next frames. The ones that were in hand are gone.
func (f *file) refill() error {
	if f.run == nil {
		f.run = make([]packet.Packet, pipeline.BatchSize)
	}
	n, err := f.read(f.run[:cap(f.run)])
	f.run, f.at = f.run[:n], 0
	return err
}
