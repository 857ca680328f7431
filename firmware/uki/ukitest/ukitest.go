// Package ukitest makes small unified kernel images for tests, which have the form but would not boot.
package ukitest

import (
	"encoding/binary"
	"fmt"

	"galvo/firmware/uki"
)

// Stub returns a small EFI program with one section, and room for more.
func Stub() []byte {
	const headers, section = 1024, 512
	b := make([]byte, headers+section)
	le := binary.LittleEndian
	copy(b, "MZ")
	le.PutUint32(b[0x3c:], 0x40)
	copy(b[0x40:], "PE\x00\x00")
	file := b[0x44:]
	le.PutUint16(file[0:], 0x8664)
	le.PutUint16(file[2:], 1)
	le.PutUint16(file[16:], 240) // size of the optional header
	le.PutUint16(file[18:], 0x22)
	optional := file[20:]
	le.PutUint16(optional[0:], 0x20b)
	le.PutUint32(optional[32:], 4096)
	le.PutUint32(optional[36:], 512)
	le.PutUint32(optional[56:], 8192)
	le.PutUint32(optional[60:], headers)
	le.PutUint16(optional[68:], 10) // an EFI application
	le.PutUint32(optional[108:], 16)
	s := optional[240:]
	copy(s, ".text")
	le.PutUint32(s[8:], section)
	le.PutUint32(s[12:], 4096)
	le.PutUint32(s[16:], section)
	le.PutUint32(s[20:], headers)
	return b
}

// Image returns an image that says of itself what is given. The filling makes it larger.
func Image(board, version, minimum, build string, filling []byte) []byte {
	release := fmt.Appendf(nil, "ID=galvo\nGALVO_BOARD=%s\nGALVO_VERSION=%s\nGALVO_MINIMUM=%s\nGALVO_BUILD=%s\n", board, version, minimum, build)
	image, err := uki.Build(uki.Parts{Stub: Stub(), OSRelease: release, CmdLine: "quiet", Uname: "6.12", Initrd: filling, Kernel: []byte("kernel")})
	if err != nil {
		panic(err) // of parts that are always the same
	}
	return image
}
