package filter

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"galvo/services/internal/flow"
	"galvo/services/internal/l7"
	"galvo/services/internal/l7/call"
	"galvo/services/internal/l7/protocol"
	"galvo/services/internal/packet"
)

// payloadTypes are the static assignments of RFC 3551, 6.
var payloadTypes = []numberName{
	{0, "PCMU", "G711U G.711U ulaw"}, {3, "GSM", ""}, {4, "G723", "G.723"}, {5, "DVI4-8000", "DVI4"}, {6, "DVI4-16000", ""}, {7, "LPC", ""}, {8, "PCMA", "G711A G.711A alaw"},
	{9, "G722", "G.722"}, {10, "L16-2", "L16-stereo"}, {11, "L16-1", "L16 L16-mono"}, {12, "QCELP", ""}, {13, "CN", ""}, {14, "MPA", ""}, {15, "G728", "G.728"},
	{16, "DVI4-11025", ""}, {17, "DVI4-22050", ""}, {18, "G729", "G.729 G729A"}, {25, "CelB", ""}, {26, "JPEG", ""}, {28, "nv", ""}, {31, "H261", "H.261"},
	{32, "MPV", ""}, {33, "MP2T", ""}, {34, "H263", "H.263"},
}

// codecs are encoding names that SDP gives to dynamic payload types (IANA, RTP payload format media types).
var codecs = strings.Fields("opus telephone-event AMR AMR-WB AMR-WB+ EVS iLBC iSAC speex SILK G7221 G7222 G719 G7291 G726-16 G726-24 G726-32 G726-40 G729D G729E GSM-EFR GSM-HR-08 EVRC EVRC0 EVRC1 EVRCB EVRCWB VMR-WB L16 L24 L8 DV " +
	"MP4A-LATM mpeg4-generic MPA-ROBUST AC3 EAC3 CLEARMODE tone red ulpfec flexfec rtx vorbis VP8 VP9 AV1 H263-1998 H263-2000 H264 H264-SVC H265 H266 MP4V-ES MP2P MP1S theora raw jpeg2000 JPEG-XS smpte291 t140 t38 " +
	"X-H264UC x-msrta SIREN msrta BV16 BV32 CN PCMA-WB PCMU-WB uemclip smv ATRAC3 DSR-ES202050 " +
	"parityfec pointer BMPEG BT656 1d-interleaved-parityfec encaprtp rtploopback smpte336m smpte-tt ttml+xml vnd.onvif.metadata")

// readPayloadType reads a number or a name. A name stands for its number in RFC 3551, if it has one, and for what SDP calls so.
func readPayloadType(c *checker, it item) *Error {
	text := strings.TrimSpace(it.text)
	fixed := &numbers{max: 127, what: "an RTP payload type", names: payloadTypes}
	if n, name, ok := fixed.named(text); ok {
		c.set.codecs = append(c.set.codecs, call.CodecID([]byte(name)), call.CodecID([]byte(text)))
		return fixed.take(c, it, interval{n, n}, name)
	}
	if isOneOf(text, codecs...) || text != "" && !strings.ContainsAny(text[:1], "-0123456789") {
		if i := slices.IndexFunc(codecs, func(name string) bool { return strings.EqualFold(name, text) }); i >= 0 {
			text = codecs[i]
		} else if !it.quoted && !it.part {
			var names []string
			for _, n := range payloadTypes {
				names = append(names, n.name)
			}
			return c.wrong(it, fmt.Sprintf("%q is not the name of an RTP payload type%s", short(text), didYouMean(nearest(text, append(names, codecs...), 3))), "a number from 0 to 127", "a name", "any name that SDP uses, in quotes")
		}
		c.set.codecs = append(c.set.codecs, call.CodecID([]byte(text)))
		c.add(c.set.spellCodec(text))
		return nil
	}
	return fixed.read(c, it)
}

// spellCodec returns a name so that it reads back as the same.
func (s *set) spellCodec(text string) string {
	if slices.Contains(codecs, text) {
		return quoteIfNeeded(text)
	}
	return Quote(text)
}

// payloadType reports whether a packet's payload type is one of the numbers, or has one of the names in the call's SDP.
func (s *set) payloadType(kind byte, ref *flow.Ref) bool {
	if s.has(uint32(kind)) {
		return true
	}
	if len(s.codecs) == 0 || ref == nil || ref.Call == nil || ref.Call.Codec == 0 {
		return false
	}
	return slices.Contains(s.codecs, ref.Call.Codec)
}

// mayCarryMedia are categories of protocols and applications that set up or surround RTP in one flow with it.
var mayCarryMedia = []string{"VoIP", "Media", "Video", "Streaming", "Collaborative", "Chat"}

// rtpTest needs the verdict only to believe or to refuse: while there is none the packet decides, so the result is never unknown. It decides too
// in flows of STUN and DTLS, where media follow what set them up (RFC 7983), and in those of applications for talking and watching.
func rtpTest(s *set, _ *Env) test {
	id, _ := protocol.Lookup("RTP")
	stun, _ := protocol.Lookup("STUN")
	dtls, _ := protocol.Lookup("DTLS")
	may := make(map[protocol.ID]bool)
	for _, p := range protocol.Protocols() {
		may[p.ID] = p.ID == stun || p.ID == dtls || slices.Contains(mayCarryMedia, p.Category)
	}
	return func(p *packet.Packet, ref *flow.Ref, v l7.Verdict) Result {
		if p.Layers&(packet.UDP|packet.LaterFragment) != packet.UDP {
			return No
		}
		b := p.L7()
		if len(b) < 12 || !s.payloadType(b[1]&0x7f, ref) || !looksLikeRTP(b) {
			return No
		}
		switch {
		case v.Is(id):
			if b[1] >= 192 && b[1] <= 223 { // RTCP in the same flow, RFC 5761
				return No
			}
		case may[v.Proto] || may[v.App]:
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
