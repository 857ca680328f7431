package protocol

// The numbers of protocols that code refers to, and that have their rows in signature/table and hostname/hosts.txt. A test compares them with the names.
const (
	SMTP         ID = 256
	FTP          ID = 257
	POP3         ID = 258
	IMAP         ID = 259
	SOCKS        ID = 260
	RDP          ID = 261
	BitTorrent   ID = 262
	WireGuard    ID = 274
	S7Comm       ID = 275
	DNP3         ID = 277
	LDAP         ID = 281
	NFS          ID = 446
	RakNet       ID = 504
	Ethereum     ID = 538
	ONCRPC       ID = 540
	GlusterFS    ID = 541
	DoHDoT       ID = 1000 // DNS in HTTPS or TLS
	Zoom         ID = 1050
	OpenVPN      ID = 1149
	Tor          ID = 1162
	Ookla        ID = 1167
	DNSCrypt     ID = 1171
	OCSP         ID = 1174
	MPEGDASH     ID = 1179
	SkypeCall    ID = 1180
	WhatsAppCall ID = 1181
	SMTPS        ID = 1185
	IMAPS        ID = 1186
	POPS         ID = 1187
	FTPS         ID = 1188
	WebSocket    ID = 1189
	WebDAV       ID = 1190
	SOAP         ID = 1191
	HLS          ID = 1192
	HTTPConnect  ID = 1193
	HTTPProxy    ID = 1194
	IPP          ID = 1195
	IceCast      ID = 1196
	JSONRPC      ID = 1197
	Git          ID = 1198
	RPCOverHTTP  ID = 1199
	SRTP         ID = 1201
)
