package afpacket

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"testing"

	"galvo/ci/rig"
	"galvo/services/internal/packet"
)

// checked returns a frame with its frame check sequence behind it, as a NIC with rx-fcs delivers it.
func checked(f []byte) []byte {
	return binary.LittleEndian.AppendUint32(bytes.Clone(f), crc32.ChecksumIEEE(f))
}

// A frame's check sequence is no part of it: it is verified, tags put back, and left out of bytes and lengths.
func TestFCS(t *testing.T) {
	tx, rx := rig.VethFor(t)
	ps := newPorts(t, 1)
	port := addPort(t, ps, rx, 1, 1, Options{FCS: true})
	plain := bytes.Repeat([]byte{0x42}, 60)
	copy(plain[12:], "\x08\x00")
	tagged := bytes.Repeat([]byte{0x17}, 64)
	copy(tagged[12:], "\x81\x00\x00\x64\x08\x00")
	wrong := checked(plain)
	wrong[20] ^= 1
	play(t, rig.Player{To: tx}, checked(plain), checked(tagged), wrong)
	got := receive(t, ps, 1, count(3))
	for i, want := range []struct {
		data []byte
		fcs  packet.Flags
	}{{plain, packet.FCSGood}, {tagged, packet.FCSGood}, {wrong[:60], packet.FCSBad}} {
		f := got[i].Frame
		if !bytes.Equal(f.Data, want.data) || f.Len != uint32(len(want.data)) || f.Flags&packet.FCSMask != want.fcs {
			t.Errorf("frame %d: %d bytes of %d, flags %b", i, len(f.Data), f.Len, f.Flags)
		}
	}
	if s := port.Stats(); s.Bytes != 60+64+60 {
		t.Errorf("%d bytes", s.Bytes)
	}
}
