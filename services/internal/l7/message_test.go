package l7

import (
	"encoding/hex"
	"strings"
)

func unhex(text string) string {
	b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		panic(err)
	}
	return string(b)
}

func u16(n int) string { return string([]byte{byte(n >> 8), byte(n)}) }

// clientHello builds a ClientHello message with a server name and padding.
func clientHello(name string, padding int) string {
	sni := u16(len(name)+3) + "\x00" + u16(len(name)) + name
	ext := "\x00\x15" + u16(padding) + strings.Repeat("\x00", padding) + "\x00\x00" + u16(len(sni)) + sni
	body := "\x03\x03" + strings.Repeat("r", 32) + "\x20" + strings.Repeat("s", 32) + "\x00\x04\x13\x01\x13\x02" + "\x01\x00" + u16(len(ext)) + ext
	return "\x01\x00" + u16(len(body)) + body
}

func tlsRecordOf(kind byte, body string) string {
	return string([]byte{kind, 3, 1}) + u16(len(body)) + body
}

func cryptoFrame(at int, data string) string {
	return "\x06" + u16(0x4000|at) + u16(0x4000|len(data)) + data
}

func rtpPacket(seq, ssrc int) string {
	return "\x80\x00" + u16(seq) + "\x00\x01" + u16(seq*160) + "\x12\x34" + u16(ssrc) + strings.Repeat("\xd5", 160)
}

// der builds an element of DER.
func der(tag byte, parts ...string) string {
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

// certificateMessage builds the body of a Certificate message with one certificate of a subject and an alternative name.
func certificateMessage(common, organisation, alternative string) []byte {
	attribute := func(kind, text string) string { return der(0x31, der(0x30, der(6, kind), der(0x0c, text))) }
	subject := der(0x30, attribute("\x55\x04\x0a", organisation), attribute("\x55\x04\x03", common))
	san := der(0x30, der(6, "\x55\x1d\x11"), der(4, der(0x30, der(0x82, alternative))))
	key := der(0x30, der(0x30, der(6, "\x2a\x86\x48")), der(3, strings.Repeat("k", 270)))
	tbs := der(0x30, der(0xa0, der(2, "\x02")), der(2, "\x01"), der(0x30), der(0x30, attribute("\x55\x04\x03", "CA")), der(0x30), subject, key, der(0xa3, der(0x30, san)))
	cert := der(0x30, tbs, der(0x30), der(3, "sig"))
	one := "\x00" + u16(len(cert)) + cert
	return []byte("\x00" + u16(len(one)) + one)
}

// serverFlight builds ServerHello, Certificate and ServerHelloDone of TLS 1.2.
func serverFlight(certificate []byte) string {
	hello := "\x03\x03" + strings.Repeat("r", 32) + "\x00\xc0\x2f\x00"
	return tlsRecordOf(22, "\x02\x00"+u16(len(hello))+hello+"\x0b\x00"+u16(len(certificate))+string(certificate)+"\x0e\x00\x00\x00")
}
