package packet_test

import (
	"encoding/hex"
	"strings"

	"galvo/services/internal/packet"
)

// parts are what the crafted frames are written with, beside hexadecimal digits.
var parts = strings.NewReplacer(
	"ETH", "020000000001 020000000002",
	"IP4", "4500002d 00010000 40060000 0a000001 0a000002 TCP",
	"IP6", "60000000 00190640 ADDR6 TCP",
	"ADDR6", "20010db8000000000000000000000001 20010db8000000000000000000000002",
	"ADDR4", "0a000001 0a000002",
	"TCP", "1f900050 00000001 00000000 50180200 abcd0000 68656c6c6f",
	"UDP", "1f900050 000d0000 68656c6c6f",
	"AH", "06040000 00000001 00000001 000000000000000000000000",
)

// craft makes a frame of hexadecimal digits and parts.
func craft(text string) []byte {
	for range 3 { // parts have parts
		text = parts.Replace(text)
	}
	b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		panic(err)
	}
	return b
}

// crafted returns the frames below.
func crafted() []sample {
	var all []sample
	for _, c := range craftedFrames {
		b := craft(c.text)
		all = append(all, sample{c.name, c.link, b, uint32(len(b))})
	}
	return all
}

// craftedFrames has one frame for each way through the decoder, right and wrong ones.
var craftedFrames = []struct {
	name string
	link packet.LinkType
	text string
}{
	{"v6 plen0 tcp", packet.LinkEthernet, "ETH 86dd60000000 0000 0640 ADDR6 TCP"},
	{"v6 plen0 udp", packet.LinkEthernet, "ETH 86dd60000000 0000 1140 ADDR6 UDP"},
	{"v6 plen0 udp ulen0", packet.LinkEthernet, "ETH 86dd60000000 0000 1140 ADDR6 1f90005000000000 68656c6c6f"},
	{"v6 plen0 icmp6", packet.LinkEthernet, "ETH 86dd60000000 0000 3a40 ADDR6 8000000000010001"},
	{"v6 plen0 hbh jumbo tcp", packet.LinkEthernet, "ETH 86dd60000000 0000 0040 ADDR6 0600c20400000021 TCP"},
	{"v6 plen0 hbh pad tcp", packet.LinkEthernet, "ETH 86dd60000000 0000 0040 ADDR6 0600010400000000 TCP"},
	{"v6 plen0 dst tcp", packet.LinkEthernet, "ETH 86dd60000000 0000 3c40 ADDR6 0600010400000000 TCP"},
	{"v6 ulen0 plen ok", packet.LinkEthernet, "ETH 86dd60000000 000d 1140 ADDR6 1f90005000000000 68656c6c6f"},
	{"et0800 v6", packet.LinkEthernet, "ETH 0800 IP6"},
	{"et86dd v4", packet.LinkEthernet, "ETH 86dd IP4"},
	{"et0800 v5", packet.LinkEthernet, "ETH 0800 5500002d00010000400600000a0000010a000002 TCP"},
	{"et86dd v7", packet.LinkEthernet, "ETH 86dd 70000000 0019 0640 ADDR6 TCP"},
	{"mpls nib4", packet.LinkEthernet, "ETH 8847 00010140 IP4"},
	{"mpls label0 + v6", packet.LinkEthernet, "ETH 8847 00000140 IP6"},
	{"mpls label2 + v4", packet.LinkEthernet, "ETH 8847 00002140 IP4"},
	{"ip proto4 v6", packet.LinkEthernet, "ETH 0800 4500007900010000400400000a0000010a000002 IP6"},
	{"ip proto41 v4", packet.LinkEthernet, "ETH 0800 4500007900010000402900000a0000010a000002 IP4"},
	{"v4 tso", packet.LinkEthernet, "ETH 0800 4500000000010000400600000a0000010a000002 TCP"},
	{"v4 frag udp tso", packet.LinkEthernet, "ETH 0800 4500000000012000401100000a0000010a000002 UDP"},
	{"snap oui f8", packet.LinkEthernet, "ETH 0040 aaaa030000f80800 IP4"},
	{"snap oui 080007", packet.LinkEthernet, "ETH 0040 aaaa030800070800 IP4"},
	{"snap oui 00000c", packet.LinkEthernet, "ETH 0040 aaaa0300000c0800 IP4"},
	{"snap oui 1", packet.LinkEthernet, "ETH 0040 aaaa030000010800 IP4"},
	{"snap vlan", packet.LinkEthernet, "ETH 0040 aaaa030000008100 000508004500002d00010000400600000a0000010a000002 TCP"},
	{"llc 06", packet.LinkEthernet, "ETH 0040 060603 IP4"},
	{"llc 06 ctl 00", packet.LinkEthernet, "ETH 0040 06060000 IP4"},
	{"vlan len", packet.LinkEthernet, "ETH 8100 0005 0040 060603 IP4"},
	{"vlan len0", packet.LinkEthernet, "ETH 8100 0005 0000 060603 IP4"},
	{"len0", packet.LinkEthernet, "ETH 0000 060603 IP4"},
	{"len short ip", packet.LinkEthernet, "ETH 0010 aaaa030000000800 IP4"},
	{"ffff", packet.LinkEthernet, "ETH 0040 ffff03 IP4"},
	{"1501", packet.LinkEthernet, "ETH 05dd 060603 IP4"},
	{"pppoe c021", packet.LinkEthernet, "ETH 8864 11000001 000a c021 0101000400000000"},
	{"pppoe ff03", packet.LinkEthernet, "ETH 8864 11000001 002f ff030021 IP4"},
	{"pppoe pfc", packet.LinkEthernet, "ETH 8864 11000001 002f 21 IP4"},
	{"pppoe code", packet.LinkEthernet, "ETH 8864 11090001 002f 0021 IP4"},
	{"9100 tag", packet.LinkEthernet, "ETH 9100 00050800 IP4"},
	{"9200 tag", packet.LinkEthernet, "ETH 9200 00050800 IP4"},
	{"88a8 88a8", packet.LinkEthernet, "ETH 88a8 000588a800060800 IP4"},
	{"8100 88a8", packet.LinkEthernet, "ETH 8100 000588a800060800 IP4"},
	{"vntag", packet.LinkEthernet, "ETH 8926 000500060800 IP4"},
	{"etag", packet.LinkEthernet, "ETH 893f 0005000600070800 IP4"},
	{"cmd", packet.LinkEthernet, "ETH 8909 0101000100060800 IP4"},
	{"pbb", packet.LinkEthernet, "ETH 88e7 00000001 020000000003020000000004 08004500002d00010000400600000a0000010a000002 TCP"},
	{"v6 mobility none", packet.LinkEthernet, "ETH 86dd60000000 0008 8740 ADDR6 3b00000000000000"},
	{"v6 mobility tcp", packet.LinkEthernet, "ETH 86dd60000000 0021 8740 ADDR6 0600000000000000 TCP"},
	{"v6 hip tcp", packet.LinkEthernet, "ETH 86dd60000000 0031 8b40 ADDR6 060000000000000000000000 00000000 0000000000000000 TCP"},
	{"v6 shim6 tcp", packet.LinkEthernet, "ETH 86dd60000000 0021 8c40 ADDR6 0600000000000000 TCP"},
	{"v6 ah tcp", packet.LinkEthernet, "ETH 86dd60000000 0031 3340 ADDR6 AH TCP"},
	{"v6 dest tcp", packet.LinkEthernet, "ETH 86dd60000000 0021 3c40 ADDR6 0600010400000000 TCP"},
	{"v6 route tcp", packet.LinkEthernet, "ETH 86dd60000000 0021 2b40 ADDR6 0600000000000000 TCP"},
	{"v6 frag first", packet.LinkEthernet, "ETH 86dd60000000 0021 2c40 ADDR6 0600000100000001 TCP"},
	{"v6 frag atomic", packet.LinkEthernet, "ETH 86dd60000000 0021 2c40 ADDR6 0600000000000001 TCP"},
	{"v6 frag later", packet.LinkEthernet, "ETH 86dd60000000 0021 2c40 ADDR6 0600000900000001 TCP"},
	{"v6 none", packet.LinkEthernet, "ETH 86dd60000000 0019 3b40 ADDR6 TCP"},
	{"v4 ah tcp", packet.LinkEthernet, "ETH 0800 4500004500010000403300000a0000010a000002 AH TCP"},
	{"v4 hopopt tcp", packet.LinkEthernet, "ETH 0800 4500003500010000400000000a0000010a000002 0600010400000000 TCP"},
	{"v4 dest tcp", packet.LinkEthernet, "ETH 0800 4500003500010000403c00000a0000010a000002 0600010400000000 TCP"},
	{"tcp doff 4", packet.LinkEthernet, "ETH 0800 4500002d00010000400600000a0000010a000002 1f900050000000010000000040180200abcd0000 68656c6c6f"},
	{"tcp doff 15", packet.LinkEthernet, "ETH 0800 4500002d00010000400600000a0000010a000002 1f9000500000000100000000f0180200abcd0000 68656c6c6f"},
	{"v4 lsrr", packet.LinkEthernet, "ETH 0800 4700003500010000400600000a0000010a000002 830704 0a000063 00 TCP"},
	{"udplite", packet.LinkEthernet, "ETH 0800 4500002100010000408800000a0000010a000002 UDP"},
	{"arp hrd ib", packet.LinkEthernet, "ETH 0806 0001080006040001020000000001 0a000001 000000000000 0a000002"},
	{"rarp", packet.LinkEthernet, "ETH 8035 0001080006040003020000000001 0a000001 000000000000 0a000002"},
	{"arp hln 8", packet.LinkEthernet, "ETH 0806 0001080008040001 0200000000010000 0a000001 0000000000000000 0a000002"},
	{"arp hln 0", packet.LinkEthernet, "ETH 0806 0001080000040001 0a000001 0a000002"},
	{"arp atm", packet.LinkEthernet, "ETH 0806 0013080006040001 020000000001 0a000001 000000000000 0a000002 00000000"},
	{"arp ax25 pro", packet.LinkEthernet, "ETH 0806 000100cc06040001 020000000001 0a000001 000000000000 0a000002"},
	{"arp arcnet", packet.LinkEthernet, "ETH 0806 0007080001040001 02 0a000001 00 0a000002"},
	{"isl", packet.LinkEthernet, "01000c000001 020000000002 0040 aaaa030000000800 IP4"},
	{"null le", 0, "02000000 IP4"},
	{"null be", 0, "00000002 IP4"},
	{"null 24", 0, "1800000060000000 0019 0640 ADDR6 TCP"},
	{"null 10", 0, "0a00000060000000 0019 0640 ADDR6 TCP"},
	{"null 23", 0, "1700000060000000 0019 0640 ADDR6 TCP"},
	{"null et", 0, "00080000 IP4"},
	{"null et be", 0, "00000800 IP4"},
	{"null ff03", 0, "ff030021 IP4"},
	{"loop be", 108, "00000002 IP4"},
	{"loop le", 108, "02000000 IP4"},
	{"ppp", 9, "0021 IP4"},
	{"ppp ff", 9, "ff030021 IP4"},
	{"ppp pfc", 9, "21 IP4"},
	{"ppp chdlc", 9, "0f000800 IP4"},
	{"ppp 8f chdlc", 9, "8f000800 IP4"},
	{"hdlc", 50, "ff030021 IP4"},
	{"hdlc chdlc", 50, "0f000800 IP4"},
	{"hdlc no", 50, "0021 IP4"},
	{"51", 51, "11000001002f0021 IP4"},
	{"204", 204, "00ff030021 IP4"},
	{"204 b", 204, "010021 IP4"},
	{"166", 166, "000021 IP4"},
	{"166b", 166, "ff030021 IP4"},
	{"104", 104, "0f000800 IP4"},
	{"raw", 101, "IP4"},
	{"raw12", 12, "IP4"},
	{"raw14", 14, "IP4"},
	{"228", 228, "IP4"},
	{"229 v4", 229, "IP4"},
	{"228 v6", 228, "IP6"},
	{"229", 229, "IP6"},
	{"raw v5", 101, "55 00002d00010000400600000a0000010a000002 TCP"},
	{"sll", 113, "00000001000602000000000100000800 IP4"},
	{"sll vlan", 113, "00000001000602000000000100008100 00050800 IP4"},
	{"sll llc", 113, "00000001000602000000000100000004 aaaa030000000800 IP4"},
	{"sll 1", 113, "00000001000602000000000100000001 aaaa030000000800 IP4"},
	{"sll 3", 113, "00000001000602000000000100000003 aaaa030000000800 IP4"},
	{"sll gre", 113, "00000342000602000000000100000800 IP4"},
	{"sll 824 netlink", 113, "00000338000602000000000100000800 IP4"},
	{"sll frad 770", 113, "00000302000602000000000100000800 IP4"},
	{"sll 0", 113, "00000001000602000000000100000000 IP4"},
	{"sll ppp 512", 113, "00000200000602000000000100000021 IP4"},
	{"sll2", 276, "0800000000000001000100060200000000010000 IP4"},
	{"sll2 vlan", 276, "8100000000000001000100060200000000010000 00050800 IP4"},
	{"sll2 llc", 276, "0004000000000001000100060200000000010000 aaaa030000000800 IP4"},
	{"105?", 105, "IP4"},
	{"arp", packet.LinkEthernet, "ETH 0806 0001080006040001 020000000001 0a000001 000000000000 0a000002"},
	{"icmp", packet.LinkEthernet, "ETH 0800 4500001c 00010000 40010000 ADDR4 0800 0000 00010001"},
	{"igmp", packet.LinkEthernet, "ETH 0800 46000020 00010000 40020000 ADDR4 94040000 11000000 e0000001"},
	{"sctp", packet.LinkEthernet, "ETH 0800 45000024 00010000 40840000 ADDR4 1f900050 00000001 00000000 01000004"},
	{"esp6", packet.LinkEthernet, "ETH 86dd 60000000 0010 3240 ADDR6 00000001 00000001 0000000000000000"},
	{"mpls two labels", packet.LinkEthernet, "ETH 8847 00010040 00020140 IP6"},
	{"mpls no bottom", packet.LinkEthernet, "ETH 8847 00010040 00020040"},
	{"pseudo-wire", packet.LinkEthernet, "ETH 8847 00010140 ETH 0800 IP4"},
	{"pseudo-wire with control word", packet.LinkEthernet, "ETH 8847 00010140 00000000 ETH 0800 IP4"},
	{"mpls channel", packet.LinkEthernet, "ETH 8847 00010140 10000021 00000000"},
	{"pppoe discovery", packet.LinkEthernet, "ETH 8863 11090000 0004 0101 0000"},
	{"pppoe ipv6", packet.LinkEthernet, "ETH 8864 11000001 0043 0057 IP6"},
	{"pppoe mpls", packet.LinkEthernet, "ETH 8864 11000001 0033 0281 00010140 IP4"},
	{"gre", packet.LinkEthernet, "ETH 0800 45000045 00010000 402f0000 ADDR4 0000 0800 IP4"},
	{"gre checksum key sequence", packet.LinkEthernet, "ETH 0800 45000051 00010000 402f0000 ADDR4 b000 0800 00000000 00000007 00000001 IP4"},
	{"gre routing", packet.LinkEthernet, "ETH 0800 45000055 00010000 402f0000 ADDR4 4000 0800 00000000 08000004 0a000001 00000000 IP4"},
	{"gre routing cut", packet.LinkEthernet, "ETH 0800 4500001c 00010000 402f0000 ADDR4 4000 0800 00000000"},
	{"gre ppp", packet.LinkEthernet, "ETH 0800 4500004f 00010000 402f0000 ADDR4 3081 880b 00310001 00000001 00000001 0021 IP4"},
	{"gre ethernet", packet.LinkEthernet, "ETH 0800 45000053 00010000 402f0000 ADDR4 0000 6558 ETH 0800 IP4"},
	{"gre wccp", packet.LinkEthernet, "ETH 0800 45000049 00010000 402f0000 ADDR4 0000 883e 00000000 IP4"},
	{"gre mpls", packet.LinkEthernet, "ETH 0800 45000049 00010000 402f0000 ADDR4 0000 8847 00010140 IP4"},
	{"erspan 1", packet.LinkEthernet, "ETH 0800 45000053 00010000 402f0000 ADDR4 0000 88be ETH 0800 IP4"},
	{"erspan 2", packet.LinkEthernet, "ETH 0800 4500005f 00010000 402f0000 ADDR4 1000 88be 00000001 1064 0005 00000000 ETH 0800 IP4"},
	{"erspan 3", packet.LinkEthernet, "ETH 0800 45000063 00010000 402f0000 ADDR4 1000 22eb 00000001 2064 0005 00000000 0000 0000 ETH 0800 IP4"},
	{"erspan 3 subheader", packet.LinkEthernet, "ETH 0800 4500006b 00010000 402f0000 ADDR4 1000 22eb 00000001 2064 0005 00000000 0000 0001 0000000000000000 ETH 0800 IP4"},
	{"erspan 3 ip", packet.LinkEthernet, "ETH 0800 45000055 00010000 402f0000 ADDR4 1000 22eb 00000001 2064 0005 00000000 0000 0008 IP4"},
	{"vxlan", packet.LinkEthernet, "ETH 0800 4500005f 00010000 40110000 ADDR4 1f90 12b5 004b 0000 08000000 00000700 ETH 0800 IP4"},
	{"vxlan without vni", packet.LinkEthernet, "ETH 0800 4500005f 00010000 40110000 ADDR4 1f90 12b5 004b 0000 00000000 00000700 ETH 0800 IP4"},
	{"vxlan in vxlan", packet.LinkEthernet, "ETH 0800 4500009f 00010000 40110000 ADDR4 1f90 12b5 008b 0000 08000000 00000700 ETH 0800 4500005f 00010000 40110000 ADDR4 1f90 12b5 004b 0000 08000000 00000800 ETH 0800 IP4"},
	{"geneve", packet.LinkEthernet, "ETH 0800 45000063 00010000 40110000 ADDR4 1f90 17c1 004f 0000 01006558 00000700 00000000 ETH 0800 IP4"},
	{"geneve ip", packet.LinkEthernet, "ETH 0800 45000051 00010000 40110000 ADDR4 1f90 17c1 003d 0000 00000800 00000700 IP4"},
	{"gtp-u", packet.LinkEthernet, "ETH 0800 45000051 00010000 40110000 ADDR4 0868 0868 003d 0000 30ff002d 00000007 IP4"},
	{"gtp-u extension", packet.LinkEthernet, "ETH 0800 45000059 00010000 40110000 ADDR4 0868 0868 0045 0000 34ff0035 00000007 00000085 01000000 IP4"},
	{"gtp-u extension of length 0", packet.LinkEthernet, "ETH 0800 45000059 00010000 40110000 ADDR4 0868 0868 0045 0000 34ff0035 00000007 00000085 00000000 IP4"},
	{"gtp-u echo", packet.LinkEthernet, "ETH 0800 45000028 00010000 40110000 ADDR4 0868 0868 0014 0000 32010004 00000000 00010000"},
	{"l2tp", packet.LinkEthernet, "ETH 0800 45000053 00010000 40110000 ADDR4 06a5 06a5 003f 0000 0002 0001 0001 ff03 0021 IP4"},
	{"l2tp all fields", packet.LinkEthernet, "ETH 0800 4500005b 00010000 40110000 ADDR4 06a5 06a5 0047 0000 4a02 0039 0001 0001 00010001 0000 ff03 0021 IP4"},
	{"l2tp control", packet.LinkEthernet, "ETH 0800 45000028 00010000 40110000 ADDR4 06a5 06a5 0014 0000 c802 000c 0001 0000 00000000"},
	{"6in4", packet.LinkEthernet, "ETH 0800 45000055 00010000 40290000 ADDR4 IP6"},
	{"4in6", packet.LinkEthernet, "ETH 86dd 60000000 002d 0440 ADDR6 IP4"},
	{"6in6", packet.LinkEthernet, "ETH 86dd 60000000 0041 2940 ADDR6 IP6"},
	{"mpls in ip", packet.LinkEthernet, "ETH 0800 45000045 00010000 40890000 ADDR4 00010140 IP4"},
	{"etherip", packet.LinkEthernet, "ETH 0800 45000051 00010000 40610000 ADDR4 3000 ETH 0800 IP4"},
	{"ipip in ipip", packet.LinkEthernet, "ETH 0800 45000055 00010000 40040000 ADDR4 45000041 00010000 40040000 ADDR4 IP4"},
}
