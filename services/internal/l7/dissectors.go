package l7

// dissectors is asked from top to bottom: the strict ones first, those that need several packets last. A new one is a file with its function
// and a row here.
var dissectors = []dissector{
	{TLS, tcp, "\x14\x15\x16\x17\x80\x81", inspectTLS},
	{HTTP, tcp, "ABCDEFGHIJKLMNOPQRSTUVWXYZ", inspectHTTP},
	{DHCP, udp, "\x01\x02", inspectDHCP},
	{DNS, udp, "", inspectDNS},
	{DNS, tcp, "", inspectDNSOverTCP},
}
