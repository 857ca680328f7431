package filter

import (
	"galvo/services/internal/flow"
	"galvo/services/internal/l7"
	"galvo/services/internal/packet"
)

var (
	portNumbers = &numbers{max: 0xffff, what: "a port number", hint: "write portrange == 80-90"}
	portRanges  = &numbers{max: 0xffff, what: "a port number or a range of them", ranges: true}
)

var portOperands = []operand{
	{
		name: "port", subject: "Ports", values: "0 to 65535", ordered: true,
		example: "port == 80", meaning: "The TCP or UDP source or destination port is the number.",
		is: "TCP or UDP source or destination port is", isNot: "neither TCP or UDP source nor destination port is",
		oracle: "(tcp.port == 80 || udp.port == 80) && !icmp && !icmpv6", prune: pruning{byKey, "port"}, ofFlow: "port",
		read: portNumbers.read, keys: portKeys(eitherSide), header: func(s *set, env *Env) func(*packet.Packet) bool { return portOf(s, env, eitherSide) },
	},
	{
		name: "srcport", subject: "Ports", values: "0 to 65535", ordered: true,
		example: "srcport == 53", meaning: "The TCP or UDP source port is the number.",
		is: "TCP or UDP source port is", oracle: "(tcp.srcport == 53 || udp.srcport == 53) && !icmp && !icmpv6", prune: pruning{byKey, "port"}, ofFlow: "port",
		read: portNumbers.read, keys: portKeys(sourceSide), header: func(s *set, env *Env) func(*packet.Packet) bool { return portOf(s, env, sourceSide) },
	},
	{
		name: "dstport", subject: "Ports", values: "0 to 65535", ordered: true,
		example: "dstport == 53", meaning: "The TCP or UDP destination port is the number.",
		is: "TCP or UDP destination port is", oracle: "(tcp.dstport == 53 || udp.dstport == 53) && !icmp && !icmpv6", prune: pruning{byKey, "port"}, ofFlow: "port",
		read: portNumbers.read, keys: portKeys(destinationSide), header: func(s *set, env *Env) func(*packet.Packet) bool { return portOf(s, env, destinationSide) },
	},
	{
		name: "portrange", subject: "Ports", values: "numbers and ranges; `-10` is 0-10, `65000-` is 65000-65535",
		example: "portrange == 80,100-120,-10,65000-", meaning: "The TCP or UDP source or destination port is in the set.",
		is: "TCP or UDP source or destination port is in", isNot: "neither TCP or UDP source nor destination port is in",
		oracle: "(tcp.port in {80,100..120,0..10,65000..65535} || udp.port in {80,100..120,0..10,65000..65535}) && !icmp && !icmpv6", prune: pruning{byRange, "port"}, ofFlow: "portrange",
		read: portRanges.read, keys: portKeys(eitherSide), header: func(s *set, env *Env) func(*packet.Packet) bool { return portOf(s, env, eitherSide) },
	},
	{
		name: "serverport", subject: "Ports", values: "numbers and ranges", ordered: true, needs: needsFlow,
		example: "serverport == 443",
		meaning: "The port of the server side of the packet's TCP or UDP flow is in the set, in both directions. The server side receives the SYN or sends the SYN-ACK; where no handshake was seen it is what the first packet was sent to, unless only the other port is a well-known one. It stays what it is for the flow's life. Packets without a flow never match.",
		is:      "port of the flow's server side is", oracle: "tcp.stream in { streams of tcp.flags.syn == 1 && tcp.flags.ack == 0 && tcp.dstport == 443 }", prune: pruning{byRange, "port"},
		read: portRanges.read, keys: serverPortKeys, flow: serverPort,
	},
}

// portLayers is the set of layers whose ports count.
func (e *Env) portLayers() packet.Layers {
	if e.SCTP {
		return packet.TCP | packet.UDP | packet.SCTP
	}
	return packet.TCP | packet.UDP
}

func portOf(s *set, env *Env, which sides) func(p *packet.Packet) bool {
	ports := env.portLayers()
	without := packet.Layers(0)
	if env.Fragments == OwnHeaders {
		without = packet.LaterFragment
	}
	if len(s.ranges) == 1 && s.ranges[0].lo == s.ranges[0].hi && which == eitherSide {
		n := uint16(s.ranges[0].lo)
		return func(p *packet.Packet) bool {
			return (p.SrcPort == n || p.DstPort == n) && p.Layers&ports != 0 && p.Layers&without == 0
		}
	}
	return func(p *packet.Packet) bool {
		return p.Layers&ports != 0 && p.Layers&without == 0 &&
			(which&sourceSide != 0 && s.has(uint32(p.SrcPort)) || which&destinationSide != 0 && s.has(uint32(p.DstPort)))
	}
}

func serverPort(s *set, env *Env) test {
	ports := env.portLayers()
	inner := env.Tunnels != OuterHeaders
	return func(p *packet.Packet, ref *flow.Ref, _ l7.Verdict) Result {
		if ref == nil || p.Layers&ports == 0 {
			return No
		}
		r := ref.Outer
		if inner {
			r = ref.Flow
		}
		if r != nil && s.has(uint32(r.Port[r.Server()])) {
			return Yes
		}
		return No
	}
}
