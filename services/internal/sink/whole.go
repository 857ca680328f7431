package sink

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

// Whole returns the length of the part of a savefile that ends with a whole packet or block. Up to good, the end of one, that is known. The file must be
// one that a sink has written: little-endian, pcapng or pcap.
func Whole(f *os.File, good int64) (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return whole(f, info.Size(), good)
}

// Sizes of the formats (pcapng: draft-ietf-opsawg-pcapng section 3.1; pcap: draft-ietf-opsawg-pcap).
const (
	leastBlock = 12
	mostBlock  = 16 << 20
	pcapHeader = 24
	pcapPacket = 16
)

func whole(f io.ReaderAt, size, good int64) (int64, error) {
	head := make([]byte, 4)
	if n, err := f.ReadAt(head, 0); n < len(head) {
		if errors.Is(err, io.EOF) {
			err = nil
		}
		return 0, err
	}
	next := nextBlock
	switch {
	case bytes.Equal(head, []byte{0x0a, 0x0d, 0x0d, 0x0a}):
	case bytes.Equal(head, []byte{0xd4, 0xc3, 0xb2, 0xa1}), bytes.Equal(head, []byte{0x4d, 0x3c, 0xb2, 0xa1}):
		if size < pcapHeader {
			return 0, nil
		}
		good, next = max(good, pcapHeader), nextPacket
	default:
		return size, fmt.Errorf("the file is neither pcapng nor pcap, so it is left as it is")
	}
	in := bufio.NewReaderSize(io.NewSectionReader(f, good, size-good), 1<<20)
	for {
		n, err := next(in)
		if err != nil || n == 0 {
			return good, err
		}
		good += n
	}
}

// nextBlock skips a block of pcapng and returns its length, or 0 if it is not whole.
func nextBlock(in *bufio.Reader) (int64, error) {
	head, err := in.Peek(8)
	if err != nil {
		return 0, unlessEOF(err)
	}
	n := int64(binary.LittleEndian.Uint32(head[4:]))
	if n < leastBlock || n > mostBlock || n%4 != 0 {
		return 0, nil
	}
	if _, err := in.Discard(int(n) - 4); err != nil {
		return 0, unlessEOF(err)
	}
	var tail [4]byte
	if _, err := io.ReadFull(in, tail[:]); err != nil {
		return 0, unlessEOF(err)
	}
	if int64(binary.LittleEndian.Uint32(tail[:])) != n {
		return 0, nil
	}
	return n, nil
}

// nextPacket skips a packet of pcap and returns its length, or 0 if it is not whole.
func nextPacket(in *bufio.Reader) (int64, error) {
	head, err := in.Peek(pcapPacket)
	if err != nil {
		return 0, unlessEOF(err)
	}
	n := int64(binary.LittleEndian.Uint32(head[8:])) + pcapPacket
	if n > mostBlock {
		return 0, nil
	}
	if _, err := in.Discard(int(n)); err != nil {
		return 0, unlessEOF(err)
	}
	return n, nil
}

func unlessEOF(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return err
}
