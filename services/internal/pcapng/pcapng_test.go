package pcapng

import (
	"encoding/binary"
	"io"
	"testing"

	"galvo/services/internal/packet"
)

// A frame is a packet.Frame that owns its bytes.
type frame struct {
	Data  string
	Len   uint32
	Iface uint16
	Flags packet.Flags
	Time  int64
}

// readAll reads a savefile to its end in batches of an odd size.
func readAll(t testing.TB, src io.Reader) (frames []frame, ins []Interface, err error) {
	t.Helper()
	r, err := NewReader(src)
	if err != nil {
		return nil, nil, err
	}
	batch := make([]packet.Packet, 7)
	for {
		n, err := r.Read(batch)
		if n > 0 && err != nil {
			t.Fatalf("Read returned %d frames and the error %v", n, err)
		}
		if err != nil {
			return frames, r.Interfaces(), err
		}
		for i := range batch[:n] {
			f := &batch[i].Frame
			frames = append(frames, frame{string(f.Data), f.Len, f.Iface, f.Flags, f.Time})
		}
	}
}

// count reads a savefile to its end and keeps nothing.
func count(src io.Reader) (n int, err error) {
	r, err := NewReader(src)
	if err != nil {
		return 0, err
	}
	batch := make([]packet.Packet, 256)
	for {
		k, err := r.Read(batch)
		n += k
		if err != nil {
			return n, err
		}
	}
}

// A byteOrder is both of encoding/binary's interfaces.
type byteOrder interface {
	binary.ByteOrder
	binary.AppendByteOrder
}

// A foreign makes the savefiles of other writers, block by block, in either byte order.
type foreign struct {
	byteOrder
	b []byte
}

func (w *foreign) block(blockType uint32, body ...any) *foreign {
	var b []byte
	for _, v := range body {
		switch v := v.(type) {
		case uint16:
			b = w.AppendUint16(b, v)
		case uint32:
			b = w.AppendUint32(b, v)
		case uint64:
			b = w.AppendUint64(b, v)
		case string:
			b = append(b, v...)
			b = append(b, "\x00\x00\x00"[:pad4(len(v))-len(v)]...)
		}
	}
	size := uint32(len(b) + 12)
	w.b = w.AppendUint32(w.b, blockType)
	w.b = w.AppendUint32(w.b, size)
	w.b = append(w.b, b...)
	w.b = w.AppendUint32(w.b, size)
	return w
}

func (w *foreign) section(options ...any) *foreign {
	return w.block(blockSection, append([]any{uint32(byteOrderMagic), uint16(1), uint16(0), ^uint64(0)}, w.options(options...)...)...)
}

// describe appends an interface description; options are pairs of a code and a value.
func (w *foreign) describe(link uint16, snap uint32, options ...any) *foreign {
	return w.block(blockInterface, append([]any{link, uint16(0), snap}, w.options(options...)...)...)
}

func (w *foreign) options(pairs ...any) (body []any) {
	for i := 0; i < len(pairs); i += 2 {
		var value []byte
		switch v := pairs[i+1].(type) {
		case string:
			value = []byte(v)
		case byte:
			value = []byte{v}
		case uint32:
			value = w.AppendUint32(nil, v)
		case uint64:
			value = w.AppendUint64(nil, v)
		}
		body = append(body, uint16(pairs[i].(int)), uint16(len(value)), string(value))
	}
	if len(pairs) > 0 {
		body = append(body, uint16(0), uint16(0))
	}
	return body
}

func (w *foreign) enhanced(id uint32, ticks uint64, length int, data string, options ...any) *foreign {
	return w.block(blockEnhanced, append([]any{id, uint32(ticks >> 32), uint32(ticks), uint32(len(data)), uint32(length), data}, w.options(options...)...)...)
}

// pcap appends a header whose version is major.minor.
func (w *foreign) pcap(magic uint32, major, minor uint16, snap, network uint32) *foreign {
	w.b = w.AppendUint32(w.b, magic)
	w.b = w.AppendUint16(w.b, major)
	w.b = w.AppendUint16(w.b, minor)
	w.b = w.AppendUint64(w.b, 0)
	w.b = w.AppendUint32(w.b, snap)
	w.b = w.AppendUint32(w.b, network)
	return w
}

// record appends words and data.
func (w *foreign) record(data string, words ...uint32) *foreign {
	for _, v := range words {
		w.b = w.AppendUint32(w.b, v)
	}
	w.b = append(w.b, data...)
	return w
}
