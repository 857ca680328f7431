package l7

import (
	"cmp"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"encoding/hex"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"galvo/services/internal/flow"
	"galvo/services/internal/packet"
)

// A lab is a worker's decoding, flow table and engine, and a clock.
type lab struct {
	table  *flow.Table
	engine *Engine
	now    int64
	frame  []byte
	last   *flow.Record
	ref    flow.Ref
	snap   int // captured bytes of payload, 0 = all
	pkt    packet.Packet
	seqs   [2]uint32
}

func newLab(c Config) *lab {
	if c.Bytes == 0 {
		c.Bytes = 1 << 18
	}
	l := &lab{engine: New(c), now: 1e18}
	l.table = flow.New(flow.Config{Flows: 1024, OnEnd: l.engine.End})
	return l
}

// A packetSpec is a packet of a conversation between 10.0.0.1 (port a) and 10.0.0.2 (port b).
type packetSpec struct {
	back    bool // from 10.0.0.2
	flags   byte // of TCP
	payload string
	skip    uint32 // bytes of the stream that are lost before it
	seq     uint32 // if not 0 instead of what follows
}

// send passes a packet on and returns the verdict.
func (l *lab) send(proto byte, a, b uint16, s packetSpec) Verdict {
	src, dst, dir := byte(1), byte(2), 0
	if s.back {
		src, dst, a, b, dir = 2, 1, b, a, 1
	}
	f := append(l.frame[:0], 2, 0, 0, 0, 0, dst, 2, 0, 0, 0, 0, src, 8, 0)
	header := map[byte]int{6: 20, 17: 8}[proto]
	f = append(f, 0x45, 0)
	f = binary.BigEndian.AppendUint16(f, uint16(20+header+len(s.payload)))
	f = append(f, 0, 0, 0, 0, 64, proto, 0, 0, 10, 0, 0, src, 10, 0, 0, dst)
	if header > 0 {
		f = binary.BigEndian.AppendUint16(f, a)
		f = binary.BigEndian.AppendUint16(f, b)
	}
	switch proto {
	case 6:
		l.seqs[dir] += s.skip
		seq := l.seqs[dir]
		if s.seq != 0 {
			seq = s.seq
		} else {
			l.seqs[dir] += uint32(len(s.payload))
		}
		f = binary.BigEndian.AppendUint32(f, seq)
		f = append(f, 0, 0, 0, 0, 0x50, s.flags|0x10, 0xff, 0xff, 0, 0, 0, 0)
	case 17:
		f = binary.BigEndian.AppendUint16(f, uint16(8+len(s.payload)))
		f = append(f, 0, 0)
	}
	l.frame = append(f, s.payload...)
	return l.take(l.frame)
}

// take passes a frame on.
func (l *lab) take(frame []byte) Verdict {
	full := len(frame)
	if l.snap > 0 {
		frame = frame[:min(len(frame), l.snap)]
	}
	l.now += 1e6
	l.pkt = packet.Packet{Frame: packet.Frame{Data: frame, Len: uint32(full), Time: l.now}}
	l.pkt.Decode(packet.LinkEthernet)
	l.table.Begin()
	l.engine.Begin()
	ref := l.table.Find(&l.pkt)
	l.last = ref.Flow
	v := l.engine.Inspect(&l.pkt, l.table.Innermost(&l.pkt), &ref)
	l.ref = ref
	return v
}

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

// quicInitial protects CRYPTO frames as a client does.
func quicInitial(t testing.TB, version uint32, dcid string, number byte, frames string) string {
	return quicInitialTo(t, version, dcid, dcid, "", number, frames)
}

// quicInitialTo is quicInitial with a token and the keys of a connection id that may be another one.
func quicInitialTo(t testing.TB, version uint32, dcid, keys, token string, number byte, frames string) string {
	ver := quicVersionOf(version)
	frames += strings.Repeat("\x00", max(0, 1150-len(frames)))
	header := string([]byte{0xc0 | ver.initial<<4}) + string(binary.BigEndian.AppendUint32(nil, version)) + string([]byte{byte(len(dcid))}) + dcid + "\x00" + string([]byte{byte(len(token))}) + token
	header += u16(0x4000|(1+len(frames)+16)) + string([]byte{number})
	salt := newMACKey([]byte(cmp.Or(ver.salt, mvfstSalts[1])))
	common := salt.mac([]byte(keys))
	initial := newMACKey(common[:])
	client := initial.expand(32, "client in", "")
	secret := newMACKey(client[:])
	key, iv, hp := secret.expand(16, ver.labels, " key"), secret.expand(12, ver.labels, " iv"), secret.expand(16, ver.labels, " hp")
	iv[11] ^= number
	block, err := aes.NewCipher(key[:16])
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	b := gcm.Seal([]byte(header), iv[:12], []byte(frames), []byte(header))
	mask, err := aes.NewCipher(hp[:16])
	if err != nil {
		t.Fatal(err)
	}
	var m [16]byte
	at := len(header) - 1
	mask.Encrypt(m[:], b[at+4:at+20])
	b[0] ^= m[0] & 15
	b[at] ^= m[1]
	return string(b)
}

func cryptoFrame(at int, data string) string {
	return "\x06" + u16(0x4000|at) + u16(0x4000|len(data)) + data
}

func rtpPacket(seq, ssrc int) string {
	return "\x80\x00" + u16(seq) + "\x00\x01" + u16(seq*160) + "\x12\x34" + u16(ssrc) + strings.Repeat("\xd5", 160)
}

// forget makes the last packet's flow a new one.
func (l *lab) forget() {
	l.engine.End(l.last)
	l.last.L7 = state{}
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

// measure shows the last packet as the first one of its flow again and again, and reports the processor time: on a shared machine it says more than the
// clock on the wall.
func (l *lab) measure(b *testing.B, ref *flow.Ref) { l.again(b, ref, l.forget) }

// again is measure for a packet before which something is to be put back as it was.
func (l *lab) again(b *testing.B, ref *flow.Ref, restore func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	now := func() int64 {
		var ts unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
			b.Fatal(err)
		}
		return ts.Nano()
	}
	start := now()
	for b.Loop() {
		restore()
		l.engine.worker.forget()
		l.engine.Inspect(&l.pkt, &l.pkt, ref)
	}
	b.ReportMetric(float64(now()-start)/float64(b.N), "cpu-ns/op")
}
