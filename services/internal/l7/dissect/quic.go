package dissect

import (
	"encoding/binary"

	"galvo/services/internal/l7/store"
	"galvo/services/internal/l7/text"
)

// A quicVersion says how a version of QUIC protects its Initial packets.
type quicVersion struct {
	version, mask uint32 // it is this one if its bits under mask are those of version
	salt          string
	labels        string // prefix of the key labels
	initial       byte   // the two type bits of an Initial packet
	gquic         bool   // the handshake is Google's, not TLS
	crypto        byte   // type of the frames that carry the handshake
}

const (
	saltV1      = "\x38\x76\x2c\xf7\xf5\x59\x34\xb3\x4d\x17\x9a\xe6\xa4\xc8\x0c\xad\xcc\xbb\x7f\x0a" // RFC 9001
	saltV2      = "\x0d\xed\xe3\xde\xf7\x00\xa6\xdb\x81\x93\x81\xbe\x6e\x26\x9d\xcb\xf9\xbd\x2e\xd9" // RFC 9369
	saltDraft29 = "\xaf\xbf\xec\x28\x99\x93\xd2\x4c\x9e\x97\x86\xf1\x9c\x61\x11\xe0\x43\x90\xa8\x99"
	saltDraft23 = "\xc3\xee\xf7\x12\xc7\x2e\xbb\x5a\x11\xa7\xd2\x43\x2b\xb4\x63\x65\xbe\xf9\xf5\x02"
	saltV2Draft = "\xa7\x07\xc2\x03\xa5\x9b\x47\x18\x4a\x1d\x62\xca\x57\x04\x06\xea\x7a\xe3\xe5\xd3" // draft-ietf-quic-v2-01 to -05
	saltDraft22 = "\x7f\xbc\xdb\x0e\x7c\x66\xbb\xe9\x19\x3a\x96\xcd\x21\x51\x9e\xbd\x7a\x02\x64\x4a"
	saltQ050    = "\x50\x45\x74\xef\xd0\x66\xfe\x2f\x9d\x94\x5c\xfc\xdb\xd3\xa7\xf0\xd3\xb5\x6b\x45"
	saltT050    = "\x7f\xf5\x79\xe5\xac\xd0\x72\x91\x55\x80\x30\x4c\x43\xa2\x36\x7c\x60\x48\x83\x10"
	saltT051    = "\x7a\x4e\xde\xf4\xe7\xcc\xee\x5f\xa4\x50\x6c\x19\x12\x4f\xc8\xcc\xda\x6e\x03\x3d"
)

// quicVersions lists what has long headers in the form of RFC 8999. An empty salt is one of mvfstSalts.
var quicVersions = [...]quicVersion{
	{0x00000001, 0xffffffff, saltV1, "quic", 0, false, 6},
	{0x6b3343cf, 0xffffffff, saltV2, "quicv2", 1, false, 6},
	{0x709a50c4, 0xffffffff, saltV2Draft, "quicv2", 1, false, 6},
	{0xff000021, 0xffffffff, saltV1, "quic", 0, false, 6},
	{0xff000022, 0xffffffff, saltV1, "quic", 0, false, 6},
	{0xff00001d, 0xffffffff, saltDraft29, "quic", 0, false, 6},
	{0xff00001e, 0xfffffffe, saltDraft29, "quic", 0, false, 6},
	{0xff000020, 0xffffffff, saltDraft29, "quic", 0, false, 6},
	{0xff000015, 0xffffffff, saltDraft22, "quic", 0, false, 6},
	{0xff000016, 0xffffffff, saltDraft22, "quic", 0, false, 6},
	{0xff000017, 0xffffffff, saltDraft23, "quic", 0, false, 6},
	{0xff000018, 0xfffffffc, saltDraft23, "quic", 0, false, 6}, // 24 to 27
	{0xff00001c, 0xffffffff, saltDraft23, "quic", 0, false, 6},
	{0xfaceb001, 0xffffffff, saltDraft22, "quic", 0, false, 6}, // mvfst from here on
	{0xfaceb002, 0xffffffff, saltDraft23, "quic", 0, false, 6},
	{0xfaceb003, 0xffffffff, saltV1, "quic", 0, false, 6},
	{0xfaceb004, 0xffffffff, saltV1, "quic", 0, false, 6},
	{0xfaceb00e, 0xffffffff, saltDraft23, "quic", 0, false, 6},
	{0xfaceb000, 0xffffffe0, "", "quic", 0, false, 6},
	{0x51303530, 0xffffffff, saltQ050, "quic", 0, true, 6},
	{0x51303539, 0xffffffff, saltQ050, "quic", 0, true, 6},
	{0x54303530, 0xffffffff, saltT050, "quic", 0, false, 8},
	{0x54303531, 0xffffffff, saltT051, "quic", 0, false, 8},
	{0x51303430, 0xfffffff0, "none", "quic", 0, true, 6}, // Q04x: not protected
}

// inspectQUIC knows long headers of QUIC (RFC 8999, 9000, 9369) and of Google's QUIC, and opens the client's Initial packets (RFC 9001 section 5) to
// learn the server's name. Packets with short headers say nothing.
func inspectQUIC(v *Payload) Answer {
	b := v.Data
	if b[0]&0x80 == 0 {
		return inspectPublicHeader(v)
	}
	h, ok := readLongHeader(b)
	if !ok {
		return Answer{}
	}
	if h.version == 0 {
		return inspectNegotiation(b[h.end:], v.Cut)
	}
	ver := quicVersionOf(h.version)
	if reserved(h.version) && b[0]&0x40 != 0 && len(b) >= 1200 && len(h.dcid) >= 8 {
		return Answer{Outcome: Carrier} // asks for the versions that the server knows
	}
	if ver == nil || ver.gquic && b[0]&0x40 == 0 || !ver.gquic && b[0]&0x40 == 0 && v.Carrier == 0 {
		return Answer{}
	}
	if ver.salt == "none" {
		return Answer{Outcome: Final, Host: chloName(v.scratch(), b)}
	}
	if b[0]>>4&3 != ver.initial {
		if v.Carrier != 0 || b[0]>>4&3 == (ver.initial+1)&3 {
			return Answer{Outcome: Partial} // 0-RTT: the Initial may be late
		}
		return Answer{Outcome: Final}
	}
	return openInitials(v, ver)
}

// A longHeader is what RFC 8999 fixes for all versions.
type longHeader struct {
	version    uint32
	dcid, scid []byte
	end        int
}

func readLongHeader(b []byte) (h longHeader, ok bool) {
	if len(b) < 7 {
		return h, false
	}
	h.version = binary.BigEndian.Uint32(b[1:])
	if h.version == 0x51303436 { // Q046 packs both lengths into one byte
		h.end = 6
		for _, n := range [2]byte{b[5] >> 4, b[5] & 15} {
			if n != 0 {
				h.end += int(n) + 3
			}
		}
		return h, h.end <= len(b)
	}
	at := 5
	for _, id := range [2]*[]byte{&h.dcid, &h.scid} {
		if at >= len(b) || b[at] > 20 || at+1+int(b[at]) > len(b) {
			return h, false
		}
		*id = b[at+1 : at+1+int(b[at])]
		at += 1 + int(b[at])
	}
	h.end = at
	return h, true
}

func quicVersionOf(version uint32) *quicVersion {
	for i := range quicVersions {
		if v := &quicVersions[i]; version&v.mask == v.version {
			return v
		}
	}
	return nil
}

// reserved reports whether a version is one of those that exist only to provoke negotiation (RFC 9000 section 15).
func reserved(version uint32) bool { return version&0x0f0f0f0f == 0x0a0a0a0a }

// mvfstSalts are those of the experimental versions of mvfst: what it takes for a version that it has no other for, and that of version 1. A packet is tried with
// one of them and the next packet with the other, since each attempt costs microseconds and anybody may make packets that fit neither.
var mvfstSalts = [2]string{saltDraft23, saltV1}

// inspectNegotiation judges the list of a Version Negotiation packet: a version is known among what is new or made up (RFC 9000 section 6.3).
func inspectNegotiation(list []byte, cut bool) Answer {
	if len(list) == 0 || len(list)%4 != 0 && !cut || len(list) > 256 {
		return Answer{}
	}
	for ; len(list) >= 4; list = list[4:] {
		if n := binary.BigEndian.Uint32(list); quicVersionOf(n) != nil || n>>8 == 0xff0000 {
			return Answer{Outcome: Carrier} // the client will try again
		}
	}
	return Answer{}
}

// maxInitials is how many Initial packets of a datagram are opened. They have one connection id (RFC 9000 section 12.2), so their keys are derived once.
const maxInitials = 2

// openInitials opens the Initial packets of a datagram and collects their CRYPTO frames until the ClientHello has come.
func openInitials(v *Payload, ver *quicVersion) Answer {
	w, b := v.Worker, v.Data
	sl := w.kept.Kept(v)
	var dcid []byte
	for i := range maxInitials {
		h, ok := readLongHeader(b)
		if !ok || b[0]>>4&3 != ver.initial || h.version&ver.mask != ver.version || i > 0 && string(h.dcid) != string(dcid) {
			break
		}
		dcid = h.dcid
		number, size, token, ok := initialBody(b, h.end)
		if !ok {
			break
		}
		p := initial{b: b[:min(len(b), size)], number: number, ver: ver, dcid: keyID(sl, dcid, token)}
		salt := ver.salt
		if salt == "" {
			salt = mvfstSalts[(v.Nth-1)&1]
		}
		plain := w.decrypt(&p, salt)
		if plain == nil && ver.salt == "" && v.Nth < 2*uint8(len(mvfstSalts)) && sl == nil {
			return Answer{Outcome: Partial}
		}
		if plain == nil {
			break
		}
		if ver.gquic {
			return Answer{Outcome: Final, Host: chloName(v.scratch(), plain)}
		}
		if sl == nil {
			if sl = w.kept.Keep(v); sl == nil {
				return Answer{Outcome: Final}
			}
			sl.Dir = v.Dir
		}
		noteKeyID(sl, p.dcid, token)
		if !cryptoFrames(sl, plain, ver.crypto) {
			break
		}
		b = b[min(len(b), size):]
		if len(b) < 7 || b[0]&0x80 == 0 {
			break
		}
	}
	if sl == nil {
		return Answer{Outcome: Final} // the server's, or damaged: no name to come from here
	}
	head := sl.Head()
	if len(head) < 4 {
		return Answer{Outcome: Partial}
	}
	if head[0] != 1 {
		return Answer{Outcome: Final}
	}
	body := int(head[1])<<16 | int(binary.BigEndian.Uint16(head[2:]))
	hello := head[4:min(len(head), 4+body)]
	h := readHello(hello)
	if h.name != nil || !h.ok || len(hello) == body || len(head) == store.SlotBytes {
		return helloAnswer(v, &h)
	}
	return Answer{Outcome: Partial}
}

// initialBody finds the packet number of an Initial packet whose connection ids end at b[at:], and the packet's size, and whether it has a token.
func initialBody(b []byte, at int) (number, size int, token, ok bool) {
	t, at := varint(b, at)
	if at < 0 || t > uint64(len(b)) {
		return 0, 0, false, false
	}
	n, at := varint(b, at+int(t))
	if at < 0 || n < 20 || n > 1<<16 || at+20 > len(b) {
		return 0, 0, false, false
	}
	return at, at + int(n), t > 0, true
}

// varint reads a variable-length integer (RFC 9000 section 16) and returns where it ends, -1 if it is not all there.
func varint(b []byte, at int) (uint64, int) {
	if at < 0 || at >= len(b) {
		return 0, -1
	}
	n := 1 << (b[at] >> 6)
	if at+n > len(b) {
		return 0, -1
	}
	x := uint64(b[at] & 0x3f)
	for _, c := range b[at+1 : at+n] {
		x = x<<8 | uint64(c)
	}
	return x, at + n
}

// cryptoFrames puts the CRYPTO frames of an Initial packet into sl; false if there are frames that an Initial packet does not have. Their type, and those of
// the frames around them, are of RFC 9000 section 12.4, or Google's where CRYPTO is 8.
func cryptoFrames(sl *store.Slot, b []byte, crypto byte) bool {
	for at := 0; at >= 0 && at < len(b); {
		if at+8 <= len(b) && binary.LittleEndian.Uint64(b[at:]) == 0 { // a client's packets are mostly PADDING
			at += 8
			continue
		}
		kind := b[at]
		at++
		switch {
		case kind == 0, kind == 1 && crypto == 6, kind == 7 && crypto == 8: // PADDING, PING
		case kind == crypto:
			var off, n uint64
			off, at = varint(b, at)
			n, at = varint(b, at)
			if at < 0 || n > uint64(len(b)-at) {
				return false
			}
			if off < store.SlotBytes {
				sl.Put(int(off), b[at:at+int(n)])
			}
			at += int(n)
		case crypto == 6 && (kind == 2 || kind == 3):
			at = skipACK(b, at, kind == 3)
		default: // CONNECTION_CLOSE ends the packet
			return kind == 0x1c
		}
	}
	return true
}

func skipACK(b []byte, at int, ecn bool) int {
	_, at = varint(b, at)
	_, at = varint(b, at)
	ranges, at := varint(b, at)
	if ranges > 256 {
		return -1
	}
	n := 1 + 2*int(ranges)
	if ecn {
		n += 3
	}
	for range n {
		_, at = varint(b, at)
	}
	return at
}

// An initial is an Initial packet that is to be opened.
type initial struct {
	b      []byte // the packet alone
	number int    // where the packet number begins
	ver    *quicVersion
	dcid   []byte // the connection id whose keys it has
}

// A slot's note says which connection id the flow's keys are of: its length, with withToken if the packet had a token, and its bytes.
const withToken = 0x80

// keyID returns the connection id whose keys an Initial packet has: that of the flow's first one, which the slot remembers. The client changes the id when the
// server has answered, and the keys only after a Retry, from which it has a token (RFC 9001 section 5.2).
func keyID(sl *store.Slot, dcid []byte, token bool) []byte {
	if sl == nil || sl.Note[0] == 0 || token && sl.Note[0]&withToken == 0 {
		return dcid
	}
	return sl.Note[1 : 1+min(sl.Note[0]&^withToken, 20)]
}

// noteKeyID is what keyID goes by.
func noteKeyID(sl *store.Slot, id []byte, token bool) {
	sl.Note[0] = byte(copy(sl.Note[1:], id))
	if token {
		sl.Note[0] |= withToken
	}
}

// inspectPublicHeader knows the public header of gQUIC up to version 43 while it carries the version: flags, connection id, version.
func inspectPublicHeader(v *Payload) Answer {
	b := v.Data
	if b[0]&0xc1 != 1 || len(b) < 13 {
		return Answer{}
	}
	at := 1
	if b[0]&8 != 0 {
		at = 9
	}
	if b[at] != 'Q' || b[at+1] != '0' || !text.Digits(b[at+2:at+4]) {
		return Answer{}
	}
	return Answer{Outcome: Final, Host: chloName(v.scratch(), b)}
}

// chloName finds the server name in gQUIC's client hello: "CHLO", the number of tags, padding, then a table of tags and the ends of their values.
func chloName(room, b []byte) []byte {
	at := 0
	for limit := min(len(b)-8, 128); ; at++ {
		if at >= limit {
			return nil
		}
		if string(b[at:at+4]) == "CHLO" {
			break
		}
	}
	tags := int(binary.LittleEndian.Uint16(b[at+4:]))
	table := b[at+8:]
	if tags > 128 || len(table) < 8*tags {
		return nil
	}
	values, from := table[8*tags:], uint32(0)
	for ; tags > 0; tags-- {
		to := binary.LittleEndian.Uint32(table[4:])
		if string(table[:4]) == "SNI\x00" && from <= to && to <= uint32(len(values)) {
			return lowerName(room, values[from:to])
		}
		table, from = table[8:], to
	}
	return nil
}
