package protocol

// The protocols that code refers to. Rings keep IDs on disk, so the order is for ever: a new protocol goes to the end.
const (
	_ ID = iota
	DNS
	MDNS
	LLMNR
	DHCP
	DHCPv6
	HTTP
	TLS
	QUIC
	SSH
	SIP
	RTP
	RTCP
	STUN
	NTP
	SNMP
	ICMP
	ICMPv6
	IGMP
	PTP
	PTPv1
	PTPv2
	PROFINET
	PROFINETIO
	LLDP
	ARP
	DCERPC
	RTSP
	SSDP
	NetBIOS
	GRE
	EGP
	OSPF
	PIM
	VRRP
	SCTP
	IPinIP
	PGM
	EIGRP
	STP
	LACP
	SlowProtocols
	CDP
	EAPOL
	MACsec
	GOOSE
	SV
	EtherCAT
	MRP
	WakeOnLAN
	IPSec
	EthernetOAM
	PPPoE
	DTLS
	VXLAN
	GTPU
	L2TP
	Teredo
	PROFINETRT
	PROFINETDCP
	PROFINETAlarm
	PROFINETPTCP
	GTP
	GTPC
	GTPPrime
	PFCP
	S7CommPlus
	MMS
	ICCP
	COTP
	COAP
	GPTP
	Threema
	countIDs
)

// firstSignatureID is where the numbers of the signatures begin.
const firstSignatureID = 256

// builtin holds the rows of the protocols above; the index is the ID.
var builtin = [countIDs]Protocol{
	DNS:        {DNS, "DNS", "Network", LayerApplication, 0, []string{"Domain"}, []string{"udp:53", "tcp:53"}},
	MDNS:       {MDNS, "MDNS", "Network", LayerApplication, 0, []string{"Bonjour"}, []string{"udp:5353"}},
	LLMNR:      {LLMNR, "LLMNR", "Network", LayerApplication, 0, nil, []string{"udp:5355"}},
	DHCP:       {DHCP, "DHCP", "Network", LayerApplication, 0, []string{"BOOTP", "DHCPv4"}, []string{"udp:67", "udp:68"}},
	DHCPv6:     {DHCPv6, "DHCPV6", "Network", LayerApplication, 0, nil, []string{"udp:546", "udp:547"}},
	HTTP:       {HTTP, "HTTP", "Web", LayerApplication, 0, []string{"HTTP1"}, []string{"tcp:80"}},
	TLS:        {TLS, "TLS", "Web", LayerApplication, 0, []string{"SSL", "HTTPS"}, []string{"tcp:443"}},
	QUIC:       {QUIC, "QUIC", "Web", LayerApplication, 0, []string{"HTTP3", "gQUIC"}, []string{"udp:443"}},
	SSH:        {SSH, "SSH", "RemoteAccess", LayerApplication, 0, nil, []string{"tcp:22"}},
	SIP:        {SIP, "SIP", "VoIP", LayerApplication, 0, nil, []string{"udp:5060", "tcp:5060"}},
	RTP:        {RTP, "RTP", "Media", LayerApplication, 0, nil, nil},
	RTCP:       {RTCP, "RTCP", "VoIP", LayerApplication, 0, nil, nil},
	STUN:       {STUN, "STUN", "Network", LayerApplication, 0, []string{"TURN"}, []string{"udp:3478", "tcp:3478"}},
	NTP:        {NTP, "NTP", "System", LayerApplication, 0, []string{"SNTP"}, []string{"udp:123"}},
	SNMP:       {SNMP, "SNMP", "Network", LayerApplication, 0, nil, []string{"udp:161", "udp:162"}},
	ICMP:       {ICMP, "ICMP", "Network", LayerNetwork, 0, []string{"ICMPv4"}, nil},
	ICMPv6:     {ICMPv6, "ICMPV6", "Network", LayerNetwork, 0, []string{"ICMP6"}, nil},
	IGMP:       {IGMP, "IGMP", "Network", LayerNetwork, 0, nil, nil},
	PTP:        {PTP, "PTP", "System", LayerLink, 0, []string{"IEEE1588"}, nil},
	PTPv1:      {PTPv1, "PTPv1", "System", LayerApplication, PTP, nil, []string{"udp:319", "udp:320"}},
	PTPv2:      {PTPv2, "PTPv2", "System", LayerApplication, PTP, nil, []string{"udp:319", "udp:320"}},
	PROFINET:   {PROFINET, "PROFINET", "IoT-Scada", LayerLink, 0, []string{"PN"}, nil},
	PROFINETIO: {PROFINETIO, "PROFINET_IO", "IoT-Scada", LayerApplication, PROFINET, []string{"PN-IO", "PROFINET_CM", "PNIO"}, []string{"udp:34964"}},
	LLDP:       {LLDP, "LLDP", "Network", LayerLink, 0, nil, nil},
	ARP:        {ARP, "ARP", "Network", LayerLink, 0, nil, nil},
	DCERPC:     {DCERPC, "DCERPC", "RPC", LayerApplication, 0, []string{"MSRPC", "DCE/RPC"}, []string{"tcp:135"}},
	RTSP:       {RTSP, "RTSP", "Media", LayerApplication, 0, nil, []string{"tcp:554"}},
	SSDP:       {SSDP, "SSDP", "System", LayerApplication, 0, []string{"UPnP"}, []string{"udp:1900"}},
	NetBIOS:    {NetBIOS, "NetBIOS", "System", LayerApplication, 0, []string{"NBNS", "NBDGM", "NBSS"}, []string{"udp:137", "udp:138", "tcp:139"}},
	GRE:        {GRE, "GRE", "Network", LayerNetwork, 0, nil, nil},
	EGP:        {EGP, "EGP", "Network", LayerNetwork, 0, nil, nil},
	OSPF:       {OSPF, "OSPF", "Network", LayerNetwork, 0, nil, nil},
	PIM:        {PIM, "IP_PIM", "Network", LayerNetwork, 0, []string{"PIM"}, nil},
	VRRP:       {VRRP, "VRRP", "Network", LayerNetwork, 0, []string{"CARP"}, nil},
	SCTP:       {SCTP, "SCTP", "Network", LayerNetwork, 0, nil, nil},
	IPinIP:     {IPinIP, "IP_in_IP", "Network", LayerNetwork, 0, []string{"IPIP"}, nil},
	PGM:        {PGM, "PGM", "Network", LayerNetwork, 0, nil, nil},
	EIGRP:      {EIGRP, "EIGRP", "Network", LayerNetwork, 0, nil, nil},
	STP:        {STP, "STP", "Network", LayerLink, 0, []string{"RSTP", "MSTP", "BPDU"}, nil},
	LACP:       {LACP, "LACP", "Network", LayerLink, SlowProtocols, nil, nil},

	SlowProtocols: {SlowProtocols, "SLOW", "Network", LayerLink, 0, nil, nil},
	CDP:           {CDP, "CDP", "Network", LayerLink, 0, nil, nil},
	EAPOL:         {EAPOL, "EAPOL", "Network", LayerLink, 0, []string{"802.1X"}, nil},
	MACsec:        {MACsec, "MACsec", "VPN", LayerLink, 0, nil, nil},
	GOOSE:         {GOOSE, "GOOSE", "IoT-Scada", LayerLink, 0, nil, nil},
	SV:            {SV, "SV", "IoT-Scada", LayerLink, 0, []string{"SampledValues"}, nil},
	EtherCAT:      {EtherCAT, "EtherCAT", "IoT-Scada", LayerLink, 0, []string{"ECAT"}, nil},
	MRP:           {MRP, "MRP", "IoT-Scada", LayerLink, 0, nil, nil},
	WakeOnLAN:     {WakeOnLAN, "WakeOnLAN", "System", LayerLink, 0, []string{"WoL"}, nil},
	IPSec:         {IPSec, "IPSec", "VPN", LayerApplication, 0, []string{"ISAKMP", "IKE", "ESP", "AH"}, []string{"udp:500", "udp:4500"}},
	EthernetOAM:   {EthernetOAM, "CFM", "Network", LayerLink, 0, []string{"802.1ag", "Y.1731"}, nil},
	PPPoE:         {PPPoE, "PPPoE", "Network", LayerLink, 0, nil, nil},
	DTLS:          {DTLS, "DTLS", "Web", LayerApplication, 0, nil, []string{"udp:4433"}},
	VXLAN:         {VXLAN, "VXLAN", "Network", LayerApplication, 0, nil, []string{"udp:4789"}},
	GTPU:          {GTPU, "GTP_U", "Network", LayerApplication, GTP, []string{"GTP-U"}, []string{"udp:2152"}},
	Teredo:        {Teredo, "Teredo", "Network", LayerApplication, 0, nil, []string{"udp:3544"}},
	L2TP:          {L2TP, "L2TP", "VPN", LayerApplication, 0, nil, []string{"udp:1701"}},

	PROFINETRT:    {PROFINETRT, "PROFINET_RT", "IoT-Scada", LayerLink, PROFINET, []string{"PN-RT"}, []string{"udp:34962"}},
	PROFINETDCP:   {PROFINETDCP, "PROFINET_DCP", "IoT-Scada", LayerLink, PROFINET, []string{"PN-DCP"}, nil},
	PROFINETAlarm: {PROFINETAlarm, "PROFINET_ALARM", "IoT-Scada", LayerLink, PROFINET, []string{"PN-Alarm"}, nil},
	PROFINETPTCP:  {PROFINETPTCP, "PROFINET_PTCP", "IoT-Scada", LayerLink, PROFINET, []string{"PN-PTCP", "PTCP"}, nil},
	GTP:           {GTP, "GTP", "Network", LayerApplication, 0, nil, nil},
	GTPC:          {GTPC, "GTP_C", "Network", LayerApplication, GTP, []string{"GTP-C", "GTPv2"}, []string{"udp:2123"}},
	GTPPrime:      {GTPPrime, "GTP_PRIME", "Network", LayerApplication, GTP, []string{"GTP'"}, nil},
	PFCP:          {PFCP, "PFCP", "Network", LayerApplication, 0, nil, []string{"udp:8805"}},
	S7CommPlus:    {S7CommPlus, "S7CommPlus", "IoT-Scada", LayerApplication, 0, []string{"S7comm-plus", "S7+"}, nil},
	MMS:           {MMS, "ISO9506-1-MMS", "IoT-Scada", LayerApplication, 0, []string{"MMS"}, nil},
	ICCP:          {ICCP, "ICCP", "IoT-Scada", LayerApplication, MMS, []string{"TASE.2"}, nil},
	COTP:          {COTP, "COTP", "Network", LayerApplication, 0, []string{"TPKT", "ISO-TSAP", "X.224"}, []string{"tcp:102"}},
	COAP:          {COAP, "COAP", "RPC", LayerApplication, 0, nil, []string{"udp:5683", "udp:5684"}},
	GPTP:          {GPTP, "gPTP", "System", LayerLink, PTPv2, []string{"802.1AS"}, nil},
	Threema:       {Threema, "Threema", "Chat", LayerApplication, 0, nil, nil},
}
