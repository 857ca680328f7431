package rig

import (
	"math/rand/v2"
	"time"
)

// Mix makes traffic that looks like a busy network: so many frames of interleaved conversations between many hosts. The same seed makes the
// same frames. Checksums are valid, conversations are complete but for those that the end cuts off, and every frame fits an MTU of 1600.
//
// Its profile is that of captures from the field: 334 bytes per frame on average; 21 % of the frames up to 64 bytes, 38 % up to 128, 14 % up to 256,
// 8 % up to 512, 3 % up to 1024, 16 % longer; 66 % TCP, 22 % UDP; 4 % tagged, 1.4 % fragments; some PPPoE, MPLS and tunnels; 18 frames per flow.
func Mix(seed uint64, frames int) []Frame {
	m := &mixer{rng: rand.New(rand.NewPCG(seed, 0x67616c766f))}
	out := make([]Frame, 0, frames)
	var now time.Duration
	for len(m.active) < parallel {
		m.active = append(m.active, m.begin())
	}
	for len(out) < frames {
		i := m.rng.IntN(len(m.active))
		t := m.active[i]
		out = append(out, Frame{t.next(), now})
		now += time.Duration(m.rng.ExpFloat64() * float64(meanGap))
		if t.done() {
			m.active[i] = m.begin()
		}
	}
	return out
}

const (
	parallel = 200 // conversations at a time
	meanGap  = 10 * time.Microsecond
)

type mixer struct {
	rng    *rand.Rand
	active []*talk
	talks  uint32
}

// kinds are the conversations and how many of 1000 are of each kind; the last one has the rest.
var kinds = []struct {
	weight int
	begin  func(*mixer, *talk)
}{
	{128, (*mixer).tls},
	{64, (*mixer).http},
	{20, (*mixer).ssh},
	{22, (*mixer).mail},
	{170, (*mixer).refused},
	{60, (*mixer).ntp},
	{12, (*mixer).sip},
	{15, (*mixer).dhcp},
	{15, (*mixer).snmp},
	{28, (*mixer).fragmented},
	{34, (*mixer).unknownUDP},
	{38, (*mixer).ping},
	{60, (*mixer).arp},
	{0, (*mixer).dns},
}

// begin makes a conversation of a random kind.
func (m *mixer) begin() *talk {
	t := m.newTalk()
	pick, i := m.rng.IntN(1000), 0
	for i < len(kinds)-1 && pick >= kinds[i].weight {
		pick -= kinds[i].weight
		i++
	}
	kinds[i].begin(m, t)
	return t
}

// chance is true in share of 1000 cases.
func (m *mixer) chance(share int) bool { return m.rng.IntN(1000) < share }

// between returns a number from low to high.
func (m *mixer) between(low, high int) int { return low + m.rng.IntN(high-low+1) }

// bytes returns n random bytes.
func (m *mixer) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(m.rng.Uint32())
	}
	return b
}

var words = []string{"account", "branch", "cache", "deploy", "edge", "field", "gateway", "harbor", "index", "journal", "kernel", "ledger", "mirror", "node", "office",
	"printer", "queue", "router", "static", "tunnel", "update", "video", "weather", "archive"}

func (m *mixer) word() string { return words[m.rng.IntN(len(words))] }

// host returns a host name.
func (m *mixer) host() string { return m.word() + "." + m.word() + ".example" }

// text returns n bytes of words.
func (m *mixer) text(n int) []byte {
	b := make([]byte, 0, n+16)
	for len(b) < n {
		b = append(append(b, m.word()...), ' ')
	}
	return b[:n]
}
