package afpacket

import (
	"fmt"

	"golang.org/x/sys/unix"

	"galvo/services/internal/packet"
)

// The fanout program picks the worker of a frame: the kernel takes its result modulo the number of workers. It is symmetric in the
// two addresses and looks at nothing else, so that a flow's directions and fragments stay together: the IPv4 or IPv6 addresses behind up
// to four VLAN tags, PPPoE or six MPLS labels, and behind one shim of a fixed size with up to four tags more; the MAC addresses of everything else.
//
// The program runs where the kernel's fanout runs: for received frames data begins behind the type field of the Ethernet header
// (and behind the outer VLAN tag, which is already taken out); for sent ones it begins with the Ethernet header. Loads that
// miss the frame end the program with 0, which is a worker too.

const (
	maxTags   = 4 // tags still in the frame
	maxLabels = 6

	// Odd constants with well mixed bits (2^32 divided by the golden ratio; from MurmurHash3): the products' high halves are what counts.
	mulXor = 0x9e3779b1
	mulSum = 0x85ebca6b
)

// Scratch memory of the program.
const (
	memA    = iota // one address, folded to 32 bits; before that the current EtherType
	memB           // the other one
	memBase        // where the IP header begins
	memTmp
)

// Offsets into the frame's Ethernet header wherever data begins; into what the kernel knows about the frame (bpf_common(2), linux/filter.h).
const (
	skfLL       = -0x200000
	skfProtocol = -0x1000 + 0
	skfPktType  = -0x1000 + 4
)

func fanoutProgram(link packet.LinkType) []unix.SockFilter {
	var p program
	p.start(link)
	p.network("")
	for et, size := range packet.FixedShims() {
		p.jeq(int(et), fmt.Sprint("shim", size))
	}
	p.ja("mac")
	sizes := map[int]bool{}
	for _, size := range packet.FixedShims() {
		if !sizes[size] {
			p.label(fmt.Sprint("shim", size))
			p.next(size, size+2)
			p.ja("behind")
		}
		sizes[size] = true
	}
	p.label("behind")
	p.network("behind")
	p.ja("mac")

	p.label("pppoe")
	p.next(6, 8)
	p.jeq(0x0021, "ipv4") // the PPP protocol numbers
	p.jeq(0x0057, "ipv6")
	p.jeq(0x0281, "mpls")
	p.ja("mac")

	p.label("mpls")
	for range maxLabels {
		p.op(unix.BPF_LD|unix.BPF_B|unix.BPF_IND, 2)
		p.op(unix.BPF_ST, memA)
		p.advance(4)
		p.ld(unix.BPF_MEM, memA)
		p.jset(1, "bottom")
	}
	p.ja("mac")
	p.label("bottom")
	p.op(unix.BPF_LD|unix.BPF_B|unix.BPF_IND, 0)
	p.op(unix.BPF_ALU|unix.BPF_AND, 0xf0)
	p.jeq(0x40, "ipv4")
	p.jeq(0x60, "ipv6")
	p.ja("mac")

	p.label("ipv4")
	p.ld(unix.BPF_IND, 12)
	p.op(unix.BPF_ST, memA)
	p.ld(unix.BPF_IND, 16)
	p.op(unix.BPF_ST, memB)
	p.ja("hash")

	p.label("ipv6")
	p.op(unix.BPF_STX, memBase)
	p.fold(memA, 8)
	p.fold(memB, 24)
	p.ja("hash")

	p.label("mac")
	if link != packet.LinkEthernet {
		p.op(unix.BPF_RET|unix.BPF_K, 0)
	}
	p.ld(unix.BPF_ABS, skfLL+2)
	p.op(unix.BPF_ST, memA)
	p.ld(unix.BPF_ABS, skfLL+8)
	p.op(unix.BPF_ST, memB)

	p.label("hash")
	p.hash()
	return p.resolve()
}

// start leaves the EtherType in memA, and in X where what it names begins.
func (p *program) start(link packet.LinkType) {
	if link == packet.LinkEthernet {
		p.op(unix.BPF_LD|unix.BPF_B|unix.BPF_ABS, skfPktType)
		p.jeq(unix.PACKET_OUTGOING, "sent")
	}
	p.ld(unix.BPF_ABS, skfProtocol)
	p.op(unix.BPF_ST, memA)
	p.op(unix.BPF_LDX|unix.BPF_IMM, 0)
	p.ja("tag0")
	p.label("sent")
	p.op(unix.BPF_LD|unix.BPF_H|unix.BPF_ABS, 12)
	p.op(unix.BPF_ST, memA)
	p.op(unix.BPF_LDX|unix.BPF_IMM, 14)
}

// network steps over VLAN tags and goes to what the EtherType behind them names; where it names none of these, on.
func (p *program) network(where string) {
	l3 := where + "l3"
	for i := range maxTags {
		p.tag(fmt.Sprint(where, "tag", i), fmt.Sprint(where, "behind", i), l3)
	}
	p.label(l3)
	p.ld(unix.BPF_MEM, memA)
	p.jeq(unix.ETH_P_IP, "ipv4")
	p.jeq(unix.ETH_P_IPV6, "ipv6")
	p.jeq(unix.ETH_P_MPLS_UC, "mpls")
	p.jeq(unix.ETH_P_MPLS_MC, "mpls")
	p.jeq(unix.ETH_P_PPP_SES, "pppoe")
}

// tag steps over one VLAN tag if there is one.
func (p *program) tag(here, behind, l3 string) {
	p.label(here)
	p.ld(unix.BPF_MEM, memA)
	p.jeq(unix.ETH_P_8021Q, behind)
	p.jeq(unix.ETH_P_8021AD, behind)
	p.jeq(unix.ETH_P_QINQ1, behind)
	p.ja(l3)
	p.label(behind)
	p.next(2, 4)
}

// next loads the type field at X+at into A and memA, and moves X by n.
func (p *program) next(at, n int) {
	p.op(unix.BPF_LD|unix.BPF_H|unix.BPF_IND, at)
	p.op(unix.BPF_ST, memA)
	p.advance(n)
	p.ld(unix.BPF_MEM, memA)
}

func (p *program) advance(n int) {
	p.op(unix.BPF_MISC|unix.BPF_TXA, 0)
	p.op(unix.BPF_ALU|unix.BPF_ADD, n)
	p.op(unix.BPF_MISC|unix.BPF_TAX, 0)
}

// fold leaves the exclusive or of the four words at memBase+at in mem.
func (p *program) fold(mem, at int) {
	for i := range 4 {
		p.op(unix.BPF_LDX|unix.BPF_MEM, memBase)
		p.ld(unix.BPF_IND, at+4*i)
		if i > 0 {
			p.op(unix.BPF_LDX|unix.BPF_MEM, mem)
			p.op(unix.BPF_ALU|unix.BPF_XOR|unix.BPF_X, 0)
		}
		p.op(unix.BPF_ST, mem)
	}
}

// hash returns a mix of both the exclusive or and the sum: either alone is the same for every pair (10.0.0.i, 10.0.1.i).
func (p *program) hash() {
	p.op(unix.BPF_LDX|unix.BPF_MEM, memA)
	p.ld(unix.BPF_MEM, memB)
	p.op(unix.BPF_ALU|unix.BPF_XOR|unix.BPF_X, 0)
	p.op(unix.BPF_ALU|unix.BPF_MUL, mulXor)
	p.op(unix.BPF_ST, memTmp)
	p.ld(unix.BPF_MEM, memB)
	p.op(unix.BPF_ALU|unix.BPF_ADD|unix.BPF_X, 0)
	p.op(unix.BPF_ALU|unix.BPF_MUL, mulSum)
	p.op(unix.BPF_LDX|unix.BPF_MEM, memTmp)
	p.op(unix.BPF_ALU|unix.BPF_XOR|unix.BPF_X, 0)
	p.op(unix.BPF_ALU|unix.BPF_RSH, 16)
	p.op(unix.BPF_RET|unix.BPF_A, 0)
}

// A program is classic BPF (bpf(4)) with named places to jump to. Jumps go forward only.
type program struct {
	code   []unix.SockFilter
	places map[string]int
	jumps  map[int]string // from the index of a jump
}

func (p *program) op(code, k int) {
	p.code = append(p.code, unix.SockFilter{Code: uint16(code), K: uint32(k)})
}

// ld loads the word at k into A.
func (p *program) ld(mode, k int) { p.op(unix.BPF_LD|unix.BPF_W|mode, k) }

func (p *program) label(name string) {
	if p.places == nil {
		p.places = map[string]int{}
	}
	p.places[name] = len(p.code)
}

func (p *program) jump(code, k int, to string) {
	if p.jumps == nil {
		p.jumps = map[int]string{}
	}
	p.jumps[len(p.code)] = to
	p.op(code, k)
}

func (p *program) jeq(k int, to string)  { p.jump(unix.BPF_JMP|unix.BPF_JEQ, k, to) }
func (p *program) jset(k int, to string) { p.jump(unix.BPF_JMP|unix.BPF_JSET, k, to) }
func (p *program) ja(to string)          { p.jump(unix.BPF_JMP|unix.BPF_JA, 0, to) }

// resolve fills in the jumps and returns the program. A conditional jump that is too far is a mistake in this file, and the kernel would refuse it.
func (p *program) resolve() []unix.SockFilter {
	for at, to := range p.jumps {
		place, ok := p.places[to]
		distance := place - at - 1
		ins := &p.code[at]
		switch {
		case !ok || distance < 0:
			panic("afpacket: no place " + to + " ahead")
		case ins.Code == unix.BPF_JMP|unix.BPF_JA:
			ins.K = uint32(distance)
		case distance > 255:
			panic("afpacket: place " + to + " is too far")
		default:
			ins.Jt = uint8(distance)
		}
	}
	return p.code
}
