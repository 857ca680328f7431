package dissect

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
)

// quicKeys are the client's keys of the Initial packets of one connection. The engine keeps those that it used last, because a client sends several.
type quicKeys struct {
	dcid   [20]byte
	n      uint8 // bytes of dcid
	salt   string
	secret macKey
	header cipher.Block // removes header protection
	packet cipher.AEAD  // nil until the header was found to fit
	iv     [12]byte
}

// keys derives the client's keys (RFC 9001 section 5.2) up to that of header protection, unless they are those of the last time; nil if that cannot be.
func (w *Worker) keys(p *initial, salt string) *quicKeys {
	k := &w.quic
	if k.header != nil && k.salt == salt && string(k.dcid[:k.n]) == string(p.dcid) {
		return k
	}
	*k = quicKeys{salt: salt}
	k.n = uint8(copy(k.dcid[:], p.dcid))
	initial := newMACKey([]byte(salt))
	common := initial.mac(p.dcid)
	initial = newMACKey(common[:])
	client := initial.expand(32, "client in", "")
	k.secret = newMACKey(client[:])
	hp := k.secret.expand(16, p.ver.labels, " hp")
	var err error
	if k.header, err = aes.NewCipher(hp[:16]); err != nil {
		return nil
	}
	return k
}

// open derives the rest of the keys.
func (k *quicKeys) open(labels string) bool {
	if k.packet != nil {
		return true
	}
	key, iv := k.secret.expand(16, labels, " key"), k.secret.expand(12, labels, " iv")
	copy(k.iv[:], iv[:12])
	block, err := aes.NewCipher(key[:16])
	if err != nil {
		return false
	}
	k.packet, err = cipher.NewGCM(block)
	return err == nil
}

// decrypt removes header protection (RFC 9001 section 5.4) and opens the packet (5.3); nil if it is not the client's. The result is valid until the next packet. Keys
// are derived once a datagram: an attacker may make packets that seem to fit any of them, and finding out costs 2 us each.
func (w *Worker) decrypt(p *initial, salt string) []byte {
	if p.number+20 > len(p.b) || p.number+4 > len(w.header) || len(p.b) > len(w.plain) {
		return nil
	}
	k := w.keys(p, salt)
	if k == nil {
		return nil
	}
	var m [16]byte
	k.header.Encrypt(m[:], p.b[p.number+4:p.number+20])
	header := w.header[:copy(w.header[:], p.b[:p.number+4])]
	header[0] ^= m[0] & 15
	if header[0]&0x0c != 0 || !k.open(p.ver.labels) {
		return nil // other keys: these bits are 0
	}
	n := int(header[0]&3) + 1
	header = header[:p.number+n]
	iv := k.iv
	for i := range n {
		header[p.number+i] ^= m[1+i]
		iv[12-n+i] ^= header[p.number+i]
	}
	plain, err := k.packet.Open(w.plain[:0], iv[:], p.b[p.number+n:], header)
	if err != nil {
		return nil
	}
	return plain
}

// A macKey is a key of HMAC-SHA-256 (RFC 2104), of at most 64 bytes, xored with what begins the inner and the outer hash. Three of a connection's keys come from
// one secret, and preparing that costs as much as a block of SHA-256.
type macKey struct{ in, out [64]byte }

func newMACKey(key []byte) (k macKey) {
	copy(k.in[:], key)
	copy(k.out[:], key)
	for i := range k.in {
		k.in[i] ^= 0x36
		k.out[i] ^= 0x5c
	}
	return k
}

// mac authenticates a message of at most 64 bytes, on the stack.
func (k *macKey) mac(message []byte) [32]byte {
	var b [128]byte
	copy(b[:], k.in[:])
	inner := sha256.Sum256(b[:64+copy(b[64:], message)])
	copy(b[:], k.out[:])
	return sha256.Sum256(b[:64+copy(b[64:], inner[:])])
}

// expand is HKDF-Expand-Label (RFC 8446 section 7.1) for n bytes, at most 32.
func (k *macKey) expand(n int, prefix, label string) [32]byte {
	var info [64]byte
	b := append(info[:0], 0, byte(n), byte(6+len(prefix)+len(label)))
	b = append(b, "tls13 "...)
	b = append(b, prefix...)
	b = append(b, label...)
	b = append(b, 0, 1)
	return k.mac(b)
}
