package dissect

import "galvo/services/internal/l7/protocol"

// dissectors is asked from top to bottom: the strict ones first, those that need several packets last. A new one is a file with its function
// and a row here.
var dissectors = []Dissector{
	{protocol.TLS, tcp, "\x14\x15\x16\x17" + high, inspectTLS},
	{protocol.SIP, udp | tcp, upper + "\r", inspectSIP},
	{protocol.SSH, tcp, "S", inspectSSH},
	{protocol.HTTP, tcp, upper, inspectHTTP},
	{protocol.SSDP, udp, "MNH", inspectSSDP},
	{protocol.IPSec, udp, "", inspectESP},
	{protocol.WireGuard, udp, "\x04", inspectWireGuard},
	{0, udp | tcp, "", inspectSignatures},
	{protocol.DHCP, udp, "\x01\x02", inspectDHCP},
	{protocol.SNMP, udp, "\x30", inspectSNMP},
	{protocol.LDAP, udp | tcp, "\x30", inspectLDAP},
	{protocol.QUIC, udp, "", inspectQUIC},
	{protocol.DTLS, udp, "\x14\x15\x16\x17\x18\x19", inspectDTLS},
	{protocol.STUN, udp | tcp, "", inspectSTUN},
	{protocol.PFCP, udp, "\x20\x21\x22\x23\x24\x25\x26\x27", inspectPFCP},
	{protocol.GTP, udp, gtpFirst, inspectGTP},
	{protocol.DCERPC, udp, "\x04", inspectDCERPC},
	{protocol.DCERPC, tcp, "\x05", inspectDCERPCStream},
	{protocol.Teredo, udp, "\x00\x60", inspectTeredo},
	{protocol.ONCRPC, udp | tcp, "", inspectRPC},
	{protocol.OpenVPN, udp, "\x38\x40\x50", inspectOpenVPN},
	{protocol.OpenVPN, tcp, "\x00\x01\x02\x03\x04", inspectOpenVPN},
	{protocol.PTPv2, udp, "", inspectPTP},
	{protocol.NTP, udp, "", inspectNTP},
	{protocol.DHCPv6, udp, "", inspectDHCPv6},
	{protocol.DNS, udp, "", inspectDNS},
	{protocol.DNS, tcp, "", inspectDNSOverTCP},
	{protocol.BitTorrent, udp, "\x01\x11\x21\x31\x41", inspectUTP},
	{protocol.Ethereum, udp, "", inspectEthereum},
	{protocol.RakNet, udp, "\x80\x84\x88\x8c\xa0\xc0", inspectRakNet},
	{protocol.DNP3, udp | tcp, "\x05", inspectDNP3},
	{protocol.COTP, tcp, "\x03", inspectCOTP},
	{protocol.COAP, udp, coapFirst, inspectCOAP},
	{protocol.EtherCAT, udp, "", inspectEtherCAT},
	{protocol.PROFINETRT, udp, "", inspectProfinetUDP},
	{protocol.WebSocket, tcp, "\x01\x02\x81\x82\x88\x89\x8a", inspectWebSocket},
	{protocol.Threema, tcp, "", inspectThreema},
	{protocol.RTP, tcp, "\x00\x01\x02\x03\x04\x05", inspectRTPStream},
	{protocol.RTP, udp, "\x80\x81\x82\x83\x84\x85\x86\x87\x88\x89\x8a\x8b\x8c\x8d\x8e\x8f\x90\x91\x92\x93\x94\x95\x96\x97\x98\x99\x9a\x9b\x9c\x9d\x9e\x9f" +
		"\xa0\xa1\xa2\xa3\xa4\xa5\xa6\xa7\xa8\xa9\xaa\xab\xac\xad\xae\xaf\xb0\xb1\xb2\xb3\xb4\xb5\xb6\xb7\xb8\xb9\xba\xbb\xbc\xbd\xbe\xbf", inspectRTP},
	{protocol.SkypeCall, udp, "", inspectSkype},
}

// watchers has a row for each protocol whose flows announce others.
var watchers = []watcher{
	{protocol.SIP, watchSIP},
	{protocol.DNS, watchDNS},
	{protocol.STUN, watchSTUN},
}

const (
	gtpFirst  = "\x00\x01\x0e\x0f\x20\x21\x2e\x2f01234567@DHLPTX\\NO" // versions 1 and 2, and GTP' of versions 0 to 2 with and without its reserved bits
	coapFirst = "@ABCDEFGHPQRSTUVWX`abcdefghpqrstuvwx"                // version 1, any type, a token of at most 8 bytes

	upper = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	high  = "\x80\x81" // first byte of an SSL 2.0 record of up to 511 bytes
)
