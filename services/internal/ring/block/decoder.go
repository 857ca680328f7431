package block

import "encoding/binary"

// A Decoder takes values from the front of b. After a value that is not there bad is set and everything is 0.
type Decoder struct {
	B   []byte
	Bad bool
}

func (d *Decoder) byte() byte {
	if len(d.B) == 0 {
		d.Bad = true
		return 0
	}
	v := d.B[0]
	d.B = d.B[1:]
	return v
}

// Uvarint takes an unsigned LEB128.
func (d *Decoder) Uvarint() uint64 {
	v, n := binary.Uvarint(d.B)
	if n <= 0 {
		d.Bad = true
		d.B = nil
		return 0
	}
	d.B = d.B[n:]
	return v
}

// varint takes a signed one, zigzag coded.
func (d *Decoder) varint() int64 {
	u := d.Uvarint()
	return int64(u>>1) ^ -int64(u&1)
}

// Bytes takes n bytes, which it borrows.
func (d *Decoder) Bytes(n int) []byte {
	if n > len(d.B) {
		d.Bad = true
		d.B = nil
		return nil
	}
	v := d.B[:n:n]
	d.B = d.B[n:]
	return v
}
