package filter

import (
	"errors"
	"fmt"
	"strings"

	"galvo/services/internal/flow"
	"galvo/services/internal/l7"
	"galvo/services/internal/l7/protocol"
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
		name: "streamRegexp", subject: "Payload", values: "a pattern in quotes", whole: true, opaque: true, cost: deepest, needs: needsStreams,
		example: `streamRegexp == "(?i)allegro|http"`,
		meaning: "As `regexp`, and over the borders of TCP segments: the packet brings the last byte of a match that was still missing. What is searched is the bytes that the packet brings to what its sender sends on that connection, together with up to 1024 bytes before them, and behind them if what comes later in the stream came earlier. What is sent again counts once. What is not TCP is searched as by `regexp`. See above for what exactly it means.",
		is:      "packet completes, in its TCP stream, a match of", isNot: "packet does not complete, in its TCP stream, a match of", oracle: "a reassembly of the stream, searched packet by packet",
		read: readPattern, flow: streamTest,
	},
	{
		name: "callId", subject: "Payload", values: "a text, case-sensitive", whole: true, cost: scan, needs: needsL7 | needsCalls,
		example: `callId == "11894297-4432a9f8@192.168.1.2"`,
		meaning: "The packet carries a SIP message, or a part of one, in one of whose headers Call-ID (also `i`), P-Palladion-ID or Av-Global-Session-ID the value stands. Over TCP these are all packets that carry the message, and over UDP all fragments of the datagram. The value is unknown in a packet that begins a message whose header goes on in the next one.",
		is:      "SIP call id or similar identifier is", oracle: `sip.Call-ID == "..."`,
		read: readText, flow: callTest(false),
	},
	{
		name: "callIdMedia", subject: "Payload", values: "a text, case-sensitive", whole: true, cost: scan, needs: needsL7 | needsCalls,
		example: `callIdMedia == "11894297-4432a9f8@192.168.1.2"`,
		meaning: "As `callId`, and besides the media of the call: UDP packets to or from an endpoint that the SDP of one of its messages named for media or for RTCP, from that message on until half a minute after the call has ended.",
		is:      "call with its media is", oracle: `sip.Call-ID == "..." and what is to or from its sdp.media.port`,
		read: readText, flow: callTest(true),
	},
	{
		name: "rtpPayloadType", subject: "Payload", values: "0 to 127, or the names of RFC 3551: `PCMU`, `GSM`, `G723`, `PCMA`, `G722`, `G729`, `MP2T`, `H263`, ...; names that SDP gives to 96 to 127, such as `opus`, `telephone-event`, `AMR-WB`, `H264`; other ones in quotes",
		needs: needsL7, innermost: true,
		example: "rtpPayloadType == PCMU",
		meaning: "An RTP packet of that payload type: a UDP packet of a flow whose verdict is RTP, or, while there is no verdict and where it is STUN, DTLS or an application for talking or watching, one that looks like RTP (version 2, a payload type that RTCP does not use, a header that fits). A name holds for the number that RFC 3551 gives it, and for one of 96 to 127 that the SDP of the call gave it. In a tunnel it is the innermost packet.",
		is:      "RTP payload type is", oracle: "rtp.p_type == 0 with --enable-heuristic rtp_udp",
		read: readPayloadType, flow: rtpTest,
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
		name: "dnsName", subject: "Payload", values: "host names; `*.example.org` is every name below example.org", innermost: true, needs: needsL7,
		example: "dnsName == *.example.org",
		meaning: "A DNS, mDNS or LLMNR message in this packet, request or response, that has the name among its questions; in a tunnel the innermost packet. Case does not matter. The value is unknown while the flow has no verdict.",
		is:      "DNS name is", oracle: `dns.qry.name == "..."`, read: readHost, flow: dnsNameTest,
	},
}

func readProtocol(c *checker, it item) *Error {
	text := strings.TrimSpace(it.text)
	if strings.EqualFold(text, "unknown") {
		c.set.unknown = true
		c.add("unknown")
		return nil
	}
	id, ok := protocol.Lookup(text)
	if !ok {
		near := protocol.Nearest(text, 3)
		return c.wrong(it, fmt.Sprintf("%q is not a protocol of the protocol table%s", short(text), didYouMean(near)), append(near, "unknown")...)
	}
	c.set.protocols = append(c.set.protocols, id)
	c.add(quoteIfNeeded(protocol.Name(id)))
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
		c.add(Quote(it.text))
		return nil
	}
	var bad *regexp.Error
	if !errors.As(err, &bad) {
		return c.wrong(it, err.Error())
	}
	from, to := it.at(c.source, bad.Pos), it.at(c.source, min(bad.Pos+bad.Len, len(it.text)))
	return &Error{Pos: min(from, it.end), Len: max(0, min(to, it.end)-min(from, it.end)), Message: bad.Message, Expected: []string{"a pattern"}}
}

// streamTest searches what a packet brings to its stream. Nothing is known of a stream if nobody keeps it, and then it is as regexp.
func streamTest(s *set, _ *Env) test {
	return func(p *packet.Packet, ref *flow.Ref, _ l7.Verdict) Result {
		text := payload(p)
		var st flow.Stream
		if ref != nil && ref.Stream != nil && p.Layers&(packet.TCP|packet.LaterFragment) == packet.TCP && ref.Stream.Skip+ref.Stream.New <= len(text) {
			st = *ref.Stream
			text = text[st.Skip:][:st.New]
		}
		for _, r := range s.patterns {
			if r.Completes(st.Before, text, st.After, st.Open, st.More) {
				return Yes
			}
		}
		return No
	}
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
