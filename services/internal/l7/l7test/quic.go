package l7test

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"strings"
)

// The salts of Initial packets: RFC 9001, RFC 9369, and drafts.
const (
	SaltOf1       = "\x38\x76\x2c\xf7\xf5\x59\x34\xb3\x4d\x17\x9a\xe6\xa4\xc8\x0c\xad\xcc\xbb\x7f\x0a"
	saltOf2       = "\x0d\xed\xe3\xde\xf7\x00\xa6\xdb\x81\x93\x81\xbe\x6e\x26\x9d\xcb\xf9\xbd\x2e\xd9"
	saltOf2Draft  = "\xa7\x07\xc2\x03\xa5\x9b\x47\x18\x4a\x1d\x62\xca\x57\x04\x06\xea\x7a\xe3\xe5\xd3"
	saltOfDraft29 = "\xaf\xbf\xec\x28\x99\x93\xd2\x4c\x9e\x97\x86\xf1\x9c\x61\x11\xe0\x43\x90\xa8\x99"
	SaltOfDraft23 = "\xc3\xee\xf7\x12\xc7\x2e\xbb\x5a\x11\xa7\xd2\x43\x2b\xb4\x63\x65\xbe\xf9\xf5\x02"
	saltOfT051    = "\x7a\x4e\xde\xf4\xe7\xcc\xee\x5f\xa4\x50\x6c\x19\x12\x4f\xc8\xcc\xda\x6e\x03\x3d"
)

// quicVersionsBuilt are the versions of QUIC that a test may build: salt, prefix of the key labels, type bits of an Initial packet.
var quicVersionsBuilt = map[uint32]struct {
	salt, labels string
	initial      byte
}{
	1: {SaltOf1, "quic", 0}, 0x6b3343cf: {saltOf2, "quicv2", 1}, 0x709a50c4: {saltOf2Draft, "quicv2", 1}, 0xff00001d: {saltOfDraft29, "quic", 0}, 0xfaceb00f: {SaltOf1, "quic", 0},
	0x54303531: {saltOfT051, "quic", 0},
}

// clientSecret derives the secret of a client's Initial packets (RFC 9001 section 5.2).
func clientSecret(salt, dcid string) []byte {
	common, err := hkdf.Extract(sha256.New, []byte(dcid), []byte(salt))
	if err != nil {
		panic(err)
	}
	return expandLabel(common, "client in", 32)
}

// expandLabel is HKDF-Expand-Label (RFC 8446 section 7.1) without context.
func expandLabel(secret []byte, label string, n int) []byte {
	label = "tls13 " + label
	key, err := hkdf.Expand(sha256.New, secret, string([]byte{byte(n >> 8), byte(n), byte(len(label))})+label+"\x00", n)
	if err != nil {
		panic(err)
	}
	return key
}

func newAES(key []byte) cipher.Block {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err)
	}
	return block
}

// QUICInitial protects CRYPTO frames as a client does.
func QUICInitial(version uint32, dcid string, number byte, frames string) string {
	return QUICInitialTo(version, dcid, dcid, "", number, frames)
}

// QUICInitialTo is QUICInitial with a token and the keys of a connection id that may be another one.
func QUICInitialTo(version uint32, dcid, keys, token string, number byte, frames string) string {
	ver := quicVersionsBuilt[version]
	frames += strings.Repeat("\x00", max(0, 1150-len(frames)))
	header := string([]byte{0xc0 | ver.initial<<4}) + string(binary.BigEndian.AppendUint32(nil, version)) + string([]byte{byte(len(dcid))}) + dcid + "\x00" + string([]byte{byte(len(token))}) + token
	header += U16(0x4000|(1+len(frames)+16)) + string([]byte{number})
	secret := clientSecret(ver.salt, keys)
	iv := expandLabel(secret, ver.labels+" iv", 12)
	iv[11] ^= number
	gcm, err := cipher.NewGCM(newAES(expandLabel(secret, ver.labels+" key", 16)))
	if err != nil {
		panic(err)
	}
	b := gcm.Seal([]byte(header), iv, []byte(frames), []byte(header))
	var m [16]byte
	at := len(header) - 1
	newAES(expandLabel(secret, ver.labels+" hp", 16)).Encrypt(m[:], b[at+4:at+20])
	b[0] ^= m[0] & 15
	b[at] ^= m[1]
	return string(b)
}

// SeemsToFit reports whether the first byte of an Initial packet of version 1 or mvfst, whose number is at packet[at:], allows the keys of a connection id.
func SeemsToFit(packet string, at int, salt, dcid string) bool {
	if len(packet) < at+20 {
		return false
	}
	var m [16]byte
	newAES(expandLabel(clientSecret(salt, dcid), "quic hp", 16)).Encrypt(m[:], []byte(packet[at+4:at+20]))
	return (packet[0]^m[0])&0x0c == 0
}

// TwoInitials is a datagram of two Initial packets with parts of a ClientHello.
func TwoInitials() string {
	hello := ClientHello("quic.example.com", 400)
	first, second := QUICInitial(1, "connection", 0, CryptoFrame(0, hello[:200])), QUICInitial(1, "connection", 1, CryptoFrame(200, hello[200:]))
	return first + second
}
