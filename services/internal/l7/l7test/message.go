package l7test

import (
	"encoding/hex"
	"strings"
)

// Unhex returns the bytes that hexadecimal digits stand for; blanks between them do not matter.
func Unhex(text string) string {
	b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		panic(err)
	}
	return string(b)
}

// U16 returns a number of 16 bits in network order.
func U16(n int) string { return string([]byte{byte(n >> 8), byte(n)}) }

// ClientHello builds a ClientHello message with a server name and padding.
func ClientHello(name string, padding int) string {
	sni := U16(len(name)+3) + "\x00" + U16(len(name)) + name
	ext := "\x00\x15" + U16(padding) + strings.Repeat("\x00", padding) + "\x00\x00" + U16(len(sni)) + sni
	body := "\x03\x03" + strings.Repeat("r", 32) + "\x20" + strings.Repeat("s", 32) + "\x00\x04\x13\x01\x13\x02" + "\x01\x00" + U16(len(ext)) + ext
	return "\x01\x00" + U16(len(body)) + body
}

// TLSRecord builds a record of TLS.
func TLSRecord(kind byte, body string) string {
	return string([]byte{kind, 3, 1}) + U16(len(body)) + body
}

// CryptoFrame builds a CRYPTO frame of QUIC.
func CryptoFrame(at int, data string) string {
	return "\x06" + U16(0x4000|at) + U16(0x4000|len(data)) + data
}

// RTPPacket builds a packet of G.711 with a sequence number and a source.
func RTPPacket(seq, ssrc int) string {
	return "\x80\x00" + U16(seq) + "\x00\x01" + U16(seq*160) + "\x12\x34" + U16(ssrc) + strings.Repeat("\xd5", 160)
}

// DER builds an element of DER.
func DER(tag byte, parts ...string) string {
	body := strings.Join(parts, "")
	switch n := len(body); {
	case n < 0x80:
		return string([]byte{tag, byte(n)}) + body
	case n < 0x100:
		return string([]byte{tag, 0x81, byte(n)}) + body
	default:
		return string([]byte{tag, 0x82, byte(n >> 8), byte(n)}) + body
	}
}

// Certificate builds the body of a Certificate message with one certificate of a subject and an alternative name.
func Certificate(common, organisation, alternative string) []byte {
	attribute := func(kind, text string) string { return DER(0x31, DER(0x30, DER(6, kind), DER(0x0c, text))) }
	subject := DER(0x30, attribute("\x55\x04\x0a", organisation), attribute("\x55\x04\x03", common))
	san := DER(0x30, DER(6, "\x55\x1d\x11"), DER(4, DER(0x30, DER(0x82, alternative))))
	key := DER(0x30, DER(0x30, DER(6, "\x2a\x86\x48")), DER(3, strings.Repeat("k", 270)))
	tbs := DER(0x30, DER(0xa0, DER(2, "\x02")), DER(2, "\x01"), DER(0x30), DER(0x30, attribute("\x55\x04\x03", "CA")), DER(0x30), subject, key, DER(0xa3, DER(0x30, san)))
	cert := DER(0x30, tbs, DER(0x30), DER(3, "sig"))
	one := "\x00" + U16(len(cert)) + cert
	return []byte("\x00" + U16(len(one)) + one)
}

// ServerFlight builds ServerHello, Certificate and ServerHelloDone of TLS 1.2.
func ServerFlight(certificate []byte) string {
	hello := "\x03\x03" + strings.Repeat("r", 32) + "\x00\xc0\x2f\x00"
	return TLSRecord(22, "\x02\x00"+U16(len(hello))+hello+"\x0b\x00"+U16(len(certificate))+string(certificate)+"\x0e\x00\x00\x00")
}
