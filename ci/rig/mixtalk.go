package rig

import (
	"encoding/binary"
	"fmt"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// segment is the most payload of a TCP packet: what 1500 leaves with headers, time stamps and a tunnel.
const segment = 1380

// connect opens a TCP connection to a port.
func (m *mixer) connect(t *talk, port uint16) {
	t.server.port = port
	t.steps = append(t.steps, step{proto: layers.IPProtocolTCP, syn: true}, step{proto: layers.IPProtocolTCP, syn: true, reply: true}, step{proto: layers.IPProtocolTCP})
}

// say sends payload over a connection, with acknowledgements on the way.
func (m *mixer) say(t *talk, reply bool, payload []byte) {
	for i := 0; len(payload) > 0; i++ {
		n := min(len(payload), segment)
		t.steps = append(t.steps, step{proto: layers.IPProtocolTCP, reply: reply, payload: payload[:n], push: n == len(payload)})
		payload = payload[n:]
		if i%2 == 1 || len(payload) == 0 {
			t.steps = append(t.steps, step{proto: layers.IPProtocolTCP, reply: !reply})
		}
	}
}

func (m *mixer) hangUp(t *talk) {
	t.steps = append(t.steps, step{proto: layers.IPProtocolTCP, fin: true}, step{proto: layers.IPProtocolTCP, fin: true, reply: true}, step{proto: layers.IPProtocolTCP})
}

func (t *talk) udp(reply bool, payload []byte) {
	t.steps = append(t.steps, step{proto: layers.IPProtocolUDP, reply: reply, payload: payload})
}

func (m *mixer) http(t *talk) {
	m.connect(t, 80)
	host := m.host()
	for range m.between(1, 3) {
		m.say(t, false, fmt.Appendf(nil, "GET /%s/%s HTTP/1.1\r\nHost: %s\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\nAccept: */*\r\n\r\n", m.word(), m.word(), host))
		body := m.text(m.between(500, 20000))
		m.say(t, true, fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nServer: nginx\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s", len(body), body))
	}
	m.hangUp(t)
}

// prefixed returns b behind its length in n bytes.
func prefixed(n int, b ...byte) []byte {
	length := binary.BigEndian.AppendUint32(nil, uint32(len(b)))
	return append(length[4-n:], b...)
}

func join(parts ...[]byte) (all []byte) {
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

// record is a TLS record.
func record(kind byte, body []byte) []byte { return join([]byte{kind, 3, 3}, prefixed(2, body...)) }

// extension is a TLS extension.
func extension(kind uint16, body []byte) []byte {
	return join(binary.BigEndian.AppendUint16(nil, kind), prefixed(2, body...))
}

func (m *mixer) clientHello() []byte {
	ciphers := []byte{0x13, 1, 0x13, 2, 0x13, 3, 0xc0, 0x2b, 0xc0, 0x2f, 0xc0, 0x2c, 0xc0, 0x30}
	extensions := join(
		extension(0, prefixed(2, join([]byte{0}, prefixed(2, []byte(m.host())...))...)),
		extension(10, prefixed(2, 0, 0x1d, 0, 0x17)),
		extension(16, prefixed(2, join(prefixed(1, []byte("h2")...), prefixed(1, []byte("http/1.1")...))...)),
		extension(43, prefixed(1, 3, 4, 3, 3)),
		extension(51, prefixed(2, join([]byte{0, 0x1d}, prefixed(2, m.bytes(32)...))...)),
	)
	hello := join([]byte{3, 3}, m.bytes(32), prefixed(1, m.bytes(32)...), prefixed(2, ciphers...), []byte{1, 0}, prefixed(2, extensions...))
	return record(22, join([]byte{1}, prefixed(3, hello...)))
}

func (m *mixer) serverHello() []byte {
	extensions := join(extension(43, []byte{3, 4}), extension(51, join([]byte{0, 0x1d}, prefixed(2, m.bytes(32)...))))
	hello := join([]byte{3, 3}, m.bytes(32), prefixed(1, m.bytes(32)...), []byte{0x13, 1, 0}, prefixed(2, extensions...))
	return join(record(22, join([]byte{2}, prefixed(3, hello...))), record(20, []byte{1}))
}

func (m *mixer) tls(t *talk) {
	m.connect(t, 443)
	m.say(t, false, m.clientHello())
	m.say(t, true, join(m.serverHello(), record(23, m.bytes(m.between(900, 2400)))))
	m.say(t, false, join(record(20, []byte{1}), record(23, m.bytes(53))))
	for range m.between(1, 8) {
		m.say(t, false, record(23, m.bytes(m.recordSize())))
		size := m.recordSize()
		if m.chance(330) {
			size = m.between(2000, 16000)
		}
		m.say(t, true, record(23, m.bytes(size)))
	}
	m.hangUp(t)
}

// recordSize is the size of a TLS record that is no bulk data.
func (m *mixer) recordSize() int {
	if m.chance(450) {
		return m.between(210, 440)
	}
	return m.between(20, 60)
}

func (m *mixer) ssh(t *talk) {
	m.connect(t, 22)
	m.say(t, true, []byte("SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n"))
	m.say(t, false, []byte("SSH-2.0-OpenSSH_9.6\r\n"))
	for _, reply := range []bool{false, true} {
		m.say(t, reply, m.keyExchangeInit())
	}
	for range m.between(5, 40) {
		m.say(t, false, m.bytes(36))
		m.say(t, true, m.bytes(36+16*m.rng.IntN(8)))
	}
	m.hangUp(t)
}

// keyExchangeInit is the first binary packet of SSH (RFC 4253, 7.1).
func (m *mixer) keyExchangeInit() []byte {
	body := join([]byte{20}, m.bytes(16))
	for _, names := range []string{"curve25519-sha256,ecdh-sha2-nistp256,diffie-hellman-group14-sha256", "ssh-ed25519,rsa-sha2-512,rsa-sha2-256", "aes128-ctr,aes256-ctr", "aes128-ctr,aes256-ctr",
		"hmac-sha2-256,hmac-sha2-512", "hmac-sha2-256,hmac-sha2-512", "none,zlib@openssh.com", "none,zlib@openssh.com", "", ""} {
		body = append(body, prefixed(4, []byte(names)...)...)
	}
	body = append(body, 0, 0, 0, 0, 0)
	padding := 4 + (8-(5+len(body)+4)%8)%8
	return prefixed(4, join([]byte{byte(padding)}, body, m.bytes(padding))...)
}

func (m *mixer) mail(t *talk) {
	m.connect(t, 25)
	for _, line := range []struct {
		reply bool
		text  string
	}{
		{true, "220 mail." + m.host() + " ESMTP\r\n"},
		{false, "EHLO " + m.host() + "\r\n"}, {true, "250-PIPELINING\r\n250 8BITMIME\r\n"},
		{false, "MAIL FROM:<" + m.word() + "@" + m.host() + ">\r\n"}, {true, "250 Ok\r\n"},
		{false, "RCPT TO:<" + m.word() + "@" + m.host() + ">\r\n"}, {true, "250 Ok\r\n"},
		{false, "DATA\r\n"}, {true, "354 End data with .\r\n"},
		{false, "Subject: " + m.word() + "\r\n\r\n" + string(m.text(m.between(100, 4000))) + "\r\n.\r\n"}, {true, "250 Ok: queued\r\n"},
		{false, "QUIT\r\n"}, {true, "221 Bye\r\n"},
	} {
		m.say(t, line.reply, []byte(line.text))
	}
	m.hangUp(t)
}

// refused is a connection attempt that is answered with a reset, or not at all.
func (m *mixer) refused(t *talk) {
	t.server.port = uint16(m.between(1, 9999))
	t.steps = append(t.steps, step{proto: layers.IPProtocolTCP, syn: true})
	if m.chance(700) {
		t.steps = append(t.steps, step{proto: layers.IPProtocolTCP, rst: true, reply: true})
	}
}

func (m *mixer) dns(t *talk) {
	t.server.port = 53
	name := []byte(m.host())
	query := &layers.DNS{ID: uint16(m.rng.Uint32()), RD: true, Questions: []layers.DNSQuestion{{Name: name, Type: layers.DNSTypeA, Class: layers.DNSClassIN}}}
	t.udp(false, serialized(query))
	answer := *query
	answer.QR, answer.RA = true, true
	for range m.between(1, 3) {
		answer.Answers = append(answer.Answers, layers.DNSResourceRecord{Name: name, Type: layers.DNSTypeA, Class: layers.DNSClassIN, TTL: 300, IP: m.bytes(4)})
	}
	t.udp(true, serialized(&answer))
}

func serialized(l gopacket.SerializableLayer) []byte {
	b := gopacket.NewSerializeBuffer()
	if err := l.SerializeTo(b, gopacket.SerializeOptions{FixLengths: true}); err != nil {
		panic("rig: " + err.Error()) // every field is made here
	}
	return b.Bytes()
}

func (m *mixer) ntp(t *talk) {
	t.server.port = 123
	t.udp(false, join([]byte{0x23, 0, 6, 0xec}, make([]byte, 36), m.bytes(8)))
	t.udp(true, join([]byte{0x24, 2, 6, 0xe9, 0, 0, 1, 0, 0, 0, 2, 0}, []byte{192, 168, 1, 1}, m.bytes(32)))
}

func (m *mixer) sip(t *talk) {
	t.client.port, t.server.port = 5060, 5060
	caller, callee, call := m.word(), m.word(), fmt.Sprintf("%08x@%s", m.rng.Uint32(), m.host())
	message := func(start, method, extra, body string) []byte {
		return fmt.Appendf(nil, "%s\r\nVia: SIP/2.0/UDP %s:5060;branch=z9hG4bK%08x\r\nFrom: <sip:%s@example>;tag=%d\r\nTo: <sip:%s@example>\r\nCall-ID: %s\r\nCSeq: 1 %s\r\nMax-Forwards: 70\r\n%sContent-Length: %d\r\n\r\n%s",
			start, t.client.ip, t.key, caller, t.key, callee, call, method, extra, len(body), body)
	}
	media := [2]uint16{uint16(m.between(8192, 16383) * 2), uint16(m.between(8192, 16383) * 2)}
	sdp := func(s *side, port uint16) string {
		version := "IP4"
		if t.v6 {
			version = "IP6"
		}
		return fmt.Sprintf("v=0\r\no=- %d 1 IN %s %s\r\ns=call\r\nc=IN %s %s\r\nt=0 0\r\nm=audio %d RTP/AVP 8\r\na=rtpmap:8 PCMA/8000\r\n", t.key, version, s.ip, version, s.ip, port)
	}
	const typed = "Content-Type: application/sdp\r\n"
	t.udp(false, message("INVITE sip:"+callee+"@example SIP/2.0", "INVITE", typed, sdp(&t.client, media[0])))
	t.udp(true, message("SIP/2.0 100 Trying", "INVITE", "", ""))
	t.udp(true, message("SIP/2.0 180 Ringing", "INVITE", "", ""))
	t.udp(true, message("SIP/2.0 200 OK", "INVITE", typed, sdp(&t.server, media[1])))
	t.udp(false, message("ACK sip:"+callee+"@example SIP/2.0", "ACK", "", ""))
	m.rtp(t, media)
	t.udp(false, message("BYE sip:"+callee+"@example SIP/2.0", "BYE", "", ""))
	t.udp(true, message("SIP/2.0 200 OK", "BYE", "", ""))
}

// rtp is a call's speech in both directions, 20 ms a packet.
func (m *mixer) rtp(t *talk, ports [2]uint16) {
	seq, stamp := uint16(m.rng.Uint32()), m.rng.Uint32()
	for range m.between(30, 90) {
		for i, reply := range []bool{false, true} {
			h := []byte{0x80, 8, byte(seq >> 8), byte(seq)}
			h = binary.BigEndian.AppendUint32(h, stamp)
			h = binary.BigEndian.AppendUint32(h, t.key<<1|uint32(i))
			t.steps = append(t.steps, step{proto: layers.IPProtocolUDP, reply: reply, payload: join(h, m.bytes(160)), media: ports})
		}
		seq++
		stamp += 160
	}
}

func (m *mixer) dhcp(t *talk) {
	if t.v6 {
		m.dns(t)
		return
	}
	t.client.port, t.server.port = 68, 67
	for i, kind := range []layers.DHCPMsgType{layers.DHCPMsgTypeDiscover, layers.DHCPMsgTypeOffer, layers.DHCPMsgTypeRequest, layers.DHCPMsgTypeAck} {
		message := &layers.DHCPv4{Operation: layers.DHCPOpRequest, HardwareType: layers.LinkTypeEthernet, HardwareLen: 6, Xid: t.key, ClientHWAddr: t.client.mac,
			Options: layers.DHCPOptions{layers.NewDHCPOption(layers.DHCPOptMessageType, []byte{byte(kind)}), layers.NewDHCPOption(layers.DHCPOptHostname, []byte(words[t.key%16])), layers.NewDHCPOption(layers.DHCPOptEnd, nil)}}
		if i%2 == 1 {
			message.Operation, message.YourClientIP = layers.DHCPOpReply, t.client.ip
		}
		t.udp(i%2 == 1, serialized(message))
	}
}

func (m *mixer) snmp(t *talk) {
	t.server.port = 161
	for range m.between(1, 6) {
		id := m.bytes(2)
		id[0] &= 0x7f
		for i, kind := range []byte{0xa0, 0xa2} {
			value := []byte{5, 0}
			if i == 1 {
				value = join([]byte{4}, prefixed(1, m.text(24)...))
			}
			binding := join([]byte{0x30}, prefixed(1, join([]byte{6, 8, 0x2b, 6, 1, 2, 1, 1, 1, 0}, value)...))
			pdu := join([]byte{2, 2}, id, []byte{2, 1, 0, 2, 1, 0, 0x30}, prefixed(1, binding...))
			t.udp(i == 1, join([]byte{0x30}, prefixed(1, join([]byte{2, 1, 1, 4, 6}, []byte("public"), []byte{kind}, prefixed(1, pdu...))...)))
		}
	}
}

// fragmented is a large datagram in fragments; sometimes one of them is missing.
func (m *mixer) fragmented(t *talk) {
	if t.v6 {
		m.dns(t)
		return
	}
	t.server.port = 2049
	for id := range uint16(m.between(1, 4)) {
		datagram := m.bytes(m.between(1500, 8000))
		binary.BigEndian.PutUint16(datagram, t.client.port)
		binary.BigEndian.PutUint16(datagram[2:], t.server.port)
		binary.BigEndian.PutUint16(datagram[4:], uint16(len(datagram)))
		binary.BigEndian.PutUint16(datagram[6:], 0) // without a checksum
		lose := -1
		if m.chance(100) {
			lose = 1
		}
		const piece = 1376
		for at := 0; at < len(datagram); at += piece {
			end := min(at+piece, len(datagram))
			if at/piece != lose {
				t.steps = append(t.steps, step{proto: layers.IPProtocolUDP, payload: datagram[at:end], id: uint16(t.key) + id, offset: uint16(at / 8), more: end < len(datagram)})
			}
		}
	}
}

func (m *mixer) unknownUDP(t *talk) {
	t.server.port = uint16(m.between(10000, 60000))
	for range m.between(2, 30) {
		payload := m.bytes(m.between(200, 900))
		payload[0] &= 0x3f // neither RTP nor QUIC
		t.udp(m.chance(500), payload)
	}
}

func (m *mixer) ping(t *talk) {
	proto, request, reply := layers.IPProtocolICMPv4, byte(8), byte(0)
	if t.v6 {
		proto, request, reply = layers.IPProtocolICMPv6, 128, 129
	}
	for n := range m.between(4, 60) {
		for i, kind := range []byte{request, reply} {
			b := join([]byte{kind, 0, 0, 0}, binary.BigEndian.AppendUint16(nil, uint16(t.key)), []byte{0, byte(n)}, m.text(56))
			t.steps = append(t.steps, step{proto: proto, reply: i == 1, payload: b})
			from, to := t.ends(t.steps[len(t.steps)-1])
			var pseudo []byte
			if t.v6 {
				pseudo = join(from.ip, to.ip, []byte{0, 0, 0, byte(len(b)), 0, 0, 0, 58})
			}
			binary.BigEndian.PutUint16(b[2:], checksum(join(pseudo, b)))
		}
	}
}

// checksum is the Internet checksum (RFC 1071) of an even number of bytes.
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

func (m *mixer) arp(t *talk) {
	if t.v6 {
		m.dns(t)
		return
	}
	t.outer = plain
	for i, operation := range []byte{1, 2} {
		from, to := t.ends(step{reply: i == 1})
		asked := []byte(to.mac)
		if i == 0 {
			asked = make([]byte, 6)
		}
		t.steps = append(t.steps, step{arp: true, reply: i == 1, payload: join([]byte{0, 1, 8, 0, 6, 4, 0, operation}, from.mac, from.ip, asked, to.ip)})
	}
}
