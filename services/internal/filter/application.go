package filter

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"galvo/services/internal/flow"
	"galvo/services/internal/l7"
	"galvo/services/internal/packet"
	"galvo/services/internal/regexp"
)

var applicationOperands = []operand{
	{
		name: "l7Protocol", aliases: []string{"dpiProtocol"}, subject: "Payload", values: "names of the protocol table, whatever the case; `unknown`", frame: true,
		example: "l7Protocol == DNS,mDNS",
		meaning: "The protocol of the packet's flow, told from payload, is one of the names: as carrier, as what is carried, or as the family of either. The value is unknown until the flow has a verdict; see below. `unknown` is a flow for which the search was given up.",
		is:      "application protocol is", oracle: "compared by flow", prune: pruning{byKey, "verdict"}, needs: needsL7,
		read: readProtocol, keys: verdictKeys, flow: protocolTest,
	},
	{
		name: "regexp", subject: "Payload", values: "a pattern in quotes", whole: true, opaque: true, cost: deep,
		example: `regexp == "(?i)allegro|http"`,
		meaning: "The pattern is found in the payload of this packet: after the TCP or UDP header, else after the IP header; in frames without IP after the Ethernet header, tags included. Bytes, case-sensitive, not anchored, `.` is no newline; an empty payload matches only what matches nothing. The meaning is PCRE's, in linear time.",
		is:      "payload matches", isNot: "payload does not match", oracle: `tcp.payload matches "(?-i)..." || udp.payload matches "(?-i)..."`,
		read: readPattern,
		header: func(s *set, _ *Env) func(*packet.Packet) bool {
			return func(p *packet.Packet) bool {
				text := payload(p)
				for _, r := range s.patterns {
					if r.Match(text) {
						return true
					}
				}
				return false
			}
		},
	},
	{
		name: "callId", subject: "Payload", values: "a text, case-sensitive", whole: true, cost: scan,
		example: `callId == "11894297-4432a9f8@192.168.1.2"`,
		meaning: "A SIP message that begins in this UDP or TCP packet, one of whose headers Call-ID (also `i`), P-Palladion-ID or Av-Global-Session-ID has the value.",
		is:      "SIP call id or similar identifier is", oracle: `sip.Call-ID == "..."`,
		read: readText, header: func(s *set, _ *Env) func(*packet.Packet) bool { return s.callID },
	},
	{
		name: "rtpPayloadType", subject: "Payload", values: "0 to 127, or the names of RFC 3551: `PCMU`, `GSM`, `G723`, `PCMA`, `G722`, `G729`, `MP2T`, `H263`, ...",
		example: "rtpPayloadType == PCMU",
		meaning: "An RTP packet of that payload type: a UDP packet of a flow whose verdict is RTP, or, while there is no verdict and where it is STUN or DTLS, one that looks like RTP (version 2, a payload type that RTCP does not use, a header that fits).",
		is:      "RTP payload type is", oracle: "rtp.p_type == 0 with --enable-heuristic rtp_udp",
		read: (&numbers{max: 127, what: "an RTP payload type", names: payloadTypes}).read, flow: rtpTest,
	},
	{
		name: "sni", subject: "Payload", values: "host names; `*.example.org` is every name below example.org", frame: true, needs: needsL7,
		example: "sni == *.example.org",
		meaning: "A packet of a flow whose TLS, DTLS or QUIC client asked for that server name. Case does not matter. The value is unknown while the flow has no verdict, or may still tell its name; packets before that are undecided.",
		is:      "server name is", oracle: `flows of tls.handshake.extensions_server_name == "..."`, read: readHost, flow: hostTest("TLS", "DTLS", "QUIC"),
	},
	{
		name: "httpHost", subject: "Payload", values: "host names; `*.example.org` is every name below example.org", frame: true, needs: needsL7,
		example: "httpHost == *.example.org",
		meaning: "A packet of a flow whose first HTTP request was for that host, without the port. Case does not matter. The value is unknown as with sni.",
		is:      "HTTP host is", oracle: `flows of http.host == "..."`, read: readHost, flow: hostTest("HTTP"),
	},
	{
		name: "dnsName", subject: "Payload", values: "host names; `*.example.org` is every name below example.org", frame: true, needs: needsL7,
		example: "dnsName == *.example.org",
		meaning: "A DNS, mDNS or LLMNR message in this packet, request or response, that has the name among its questions. Case does not matter. The value is unknown while the flow has no verdict.",
		is:      "DNS name is", oracle: `dns.qry.name == "..."`, read: readHost, flow: dnsNameTest,
	},
	{name: "callIdMedia", subject: "Payload", values: "a text", example: `callIdMedia == "a@b"`, meaning: "callId and the media streams of that call.", is: "call with its media is", whatElse: "needs the media streams that a SIP call negotiates, and they are not followed in this build; write callId == ... for the signalling and ip == address:port for the media", read: readText},
	{name: "streamRegexp", subject: "Payload", values: "a pattern", example: `streamRegexp == "a.*b"`, meaning: "A pattern over the segments of a TCP stream.", is: "stream matches", whatElse: "needs reassembled streams, and this build looks at one packet at a time; write regexp == ...", opaque: true, read: readText},
}

func readProtocol(c *checker, it item) *Error {
	text := strings.TrimSpace(it.text)
	if strings.EqualFold(text, "unknown") {
		c.set.unknown = true
		c.add("unknown")
		return nil
	}
	id, ok := l7.Lookup(text)
	if !ok {
		near := l7.Nearest(text, 3)
		return c.wrong(it, fmt.Sprintf("%q is not a protocol of the protocol table%s", short(text), didYouMean(near)), append(near, "unknown")...)
	}
	c.set.protocols = append(c.set.protocols, id)
	c.add(quoteIfNeeded(l7.Name(id)))
	return nil
}

// protocolTest is unknown while the verdict is pending, and while it is partial and may still come to name what is asked for.
func protocolTest(s *set, env *Env) test {
	return func(_ *packet.Packet, _ *flow.Ref, v l7.Verdict) Result { return s.protocol(v, env.Guesses) }
}

func (s *set) protocol(v l7.Verdict, guesses bool) Result {
	switch v.State {
	case l7.NoFlow:
		return No
	case l7.Pending:
		return Unknown
	case l7.Guessed:
		if guesses {
			break
		}
		return s.isUnknown()
	case l7.Unknown:
		return s.isUnknown()
	}
	for _, id := range s.protocols {
		if v.Is(id) {
			return Yes
		}
	}
	for _, id := range s.protocols {
		if v.MayBecome(id) {
			return Unknown
		}
	}
	return No
}

func (s *set) isUnknown() Result {
	if s.unknown {
		return Yes
	}
	return No
}

func readPattern(c *checker, it item) *Error {
	r, err := regexp.Compile(it.text)
	if err == nil {
		c.set.patterns = append(c.set.patterns, r)
		c.add(quote(it.text))
		return nil
	}
	var bad *regexp.Error
	if !errors.As(err, &bad) {
		return c.wrong(it, err.Error())
	}
	from, to := it.at(c.source, bad.Pos), it.at(c.source, min(bad.Pos+bad.Len, len(it.text)))
	return &Error{Pos: min(from, it.end), Len: max(0, min(to, it.end)-min(from, it.end)), Message: bad.Message, Expected: []string{"a pattern"}}
}

// headerLength is what a frame without IP begins with, by link type: it is not searched.
func headerLength(link packet.LinkType) int {
	switch link {
	case packet.LinkEthernet:
		return 14
	case packet.LinkSLL:
		return 16
	case packet.LinkSLL2:
		return 20
	case packet.LinkNull, packet.LinkLoop, packet.LinkCHDLC:
		return 4
	}
	return 0
}

// payload is what regexp searches.
func payload(p *packet.Packet) []byte {
	if p.Layers&anyIP != 0 {
		return p.L7()
	}
	return p.Data[min(headerLength(p.Link), len(p.Data)):]
}

// callHeaders are the headers that hold an identifier of a call, in lower case.
var callHeaders = [...]string{"call-id", "i", "p-palladion-id", "av-global-session-id"}

// callID looks through the header lines of a SIP message (RFC 3261, 7.3): a name, blanks, a colon, the value. Names know no case.
func (s *set) callID(p *packet.Packet) bool {
	if p.Layers&(packet.TCP|packet.UDP) == 0 {
		return false
	}
	text := p.L7()
	line, rest, _ := bytes.Cut(text, newline)
	if !bytes.Contains(line, sipVersion) {
		return false
	}
	for len(rest) > 0 {
		line, rest, _ = bytes.Cut(rest, newline)
		line = bytes.TrimRight(line, " \t\r")
		if len(line) == 0 {
			return false
		}
		name, value, ok := bytes.Cut(line, colon)
		if !ok || !isCallHeader(bytes.TrimRight(name, " \t")) {
			continue
		}
		value = bytes.TrimSpace(value)
		for _, want := range s.strings {
			if string(value) == want {
				return true
			}
		}
	}
	return false
}

var (
	newline    = []byte("\n")
	colon      = []byte(":")
	sipVersion = []byte("SIP/2.0")
)

func isCallHeader(name []byte) bool {
	for _, h := range callHeaders {
		if len(name) == len(h) && equalFold(name, h) {
			return true
		}
	}
	return false
}

// equalFold compares with a lower-case ASCII text of the same length.
func equalFold(b []byte, lower string) bool {
	for i := range len(lower) {
		c := b[i]
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// payloadTypes are the static assignments of RFC 3551, 6.
var payloadTypes = []numberName{
	{0, "PCMU", "G711U G.711U ulaw"}, {3, "GSM", ""}, {4, "G723", "G.723"}, {5, "DVI4-8000", "DVI4"}, {6, "DVI4-16000", ""}, {7, "LPC", ""}, {8, "PCMA", "G711A G.711A alaw"},
	{9, "G722", "G.722"}, {10, "L16-2", "L16-stereo"}, {11, "L16-1", "L16 L16-mono"}, {12, "QCELP", ""}, {13, "CN", ""}, {14, "MPA", ""}, {15, "G728", "G.728"},
	{16, "DVI4-11025", ""}, {17, "DVI4-22050", ""}, {18, "G729", "G.729 G729A"}, {25, "CelB", ""}, {26, "JPEG", ""}, {28, "nv", ""}, {31, "H261", "H.261"},
	{32, "MPV", ""}, {33, "MP2T", ""}, {34, "H263", "H.263"},
}

// rtpTest needs the verdict only to believe or to refuse: while there is none the packet decides, so the result is never unknown. It decides too
// in flows of STUN and DTLS, where media follow what set them up (RFC 7983).
func rtpTest(s *set, _ *Env) test {
	id, _ := l7.Lookup("RTP")
	stun, _ := l7.Lookup("STUN")
	dtls, _ := l7.Lookup("DTLS")
	return func(p *packet.Packet, _ *flow.Ref, v l7.Verdict) Result {
		if p.Layers&(packet.UDP|packet.LaterFragment) != packet.UDP {
			return No
		}
		b := p.L7()
		if len(b) < 12 || !s.has(uint32(b[1]&0x7f)) || !looksLikeRTP(b) {
			return No
		}
		switch {
		case v.Is(id):
			if b[1] >= 192 && b[1] <= 223 { // RTCP in the same flow, RFC 5761
				return No
			}
		case v.Is(stun) || v.Is(dtls):
		case v.State == l7.Partial || v.State == l7.Final || v.State == l7.Guessed:
			return No
		}
		return Yes
	}
}

// looksLikeRTP is the heuristic of Wireshark's rtp_udp: version 2, a payload type that RTCP does not use, and a header (RFC 3550, 5.1 and
// 5.3.1) with its sources, extension and padding that fits. b has at least 12 bytes.
func looksLikeRTP(b []byte) bool {
	kind := b[1] & 0x7f
	if b[0]>>6 != 2 || kind >= 72 && kind <= 76 {
		return false
	}
	header := 12 + 4*int(b[0]&15)
	if b[0]&0x10 != 0 {
		if header+4 > len(b) {
			return false
		}
		header += 4 + 4*int(binary.BigEndian.Uint16(b[header+2:]))
	}
	if header > len(b) {
		return false
	}
	padding := int(b[len(b)-1])
	return b[0]&0x20 == 0 || padding > 0 && header+padding <= len(b)
}
