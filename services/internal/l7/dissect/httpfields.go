package dissect

import (
	"bytes"

	"galvo/services/internal/l7/protocol"
	"galvo/services/internal/l7/store"
	"galvo/services/internal/l7/text"
)

// The methods that only some users of HTTP have.
var methodApps = [...]struct {
	method string
	app    protocol.ID
}{
	{"PROPFIND", protocol.WebDAV}, {"PROPPATCH", protocol.WebDAV}, {"MKCOL", protocol.WebDAV}, {"COPY", protocol.WebDAV}, {"MOVE", protocol.WebDAV}, {"LOCK", protocol.WebDAV}, {"UNLOCK", protocol.WebDAV}, // RFC 4918
	{"SEARCH", protocol.WebDAV}, {"REPORT", protocol.WebDAV}, {"ACL", protocol.WebDAV}, {"VERSION-CONTROL", protocol.WebDAV}, {"MKACTIVITY", protocol.WebDAV}, {"MKCALENDAR", protocol.WebDAV}, {"BPROPFIND", protocol.WebDAV},
	{"RPC_CONNECT", protocol.RPCOverHTTP}, {"RPC_IN_DATA", protocol.RPCOverHTTP}, {"RPC_OUT_DATA", protocol.RPCOverHTTP}, // MS-RPCH
	{"SOURCE", protocol.IceCast},
}

// The media types that say what a message is part of (RFC 6960 appendix A, RFC 8010, RFC 8216, ISO 23009-1, SOAP 1.2 part 2, JSON-RPC over HTTP).
var typeApps = [...]struct {
	media string
	app   protocol.ID
}{
	{"application/ocsp-request", protocol.OCSP}, {"application/ocsp-response", protocol.OCSP}, {"application/ipp", protocol.IPP}, {"application/dash+xml", protocol.MPEGDASH},
	{"application/vnd.apple.mpegurl", protocol.HLS}, {"application/x-mpegurl", protocol.HLS}, {"audio/mpegurl", protocol.HLS}, {"application/soap+xml", protocol.SOAP},
	{"application/json-rpc", protocol.JSONRPC}, {"application/jsonrequest", protocol.JSONRPC}, {"application/x-git-", protocol.Git},
}

// The ends of paths that say the same, or of what follows them.
var pathApps = [...]struct {
	end string
	app protocol.ID
}{
	{".mpd", protocol.MPEGDASH}, {".m3u8", protocol.HLS}, {"service=git-upload-pack", protocol.Git}, {"service=git-receive-pack", protocol.Git}, {"/speedtest/latency.txt", protocol.Ookla},
	{"/speedtest/upload.php", protocol.Ookla},
}

// The beginnings of User-Agent fields of programs that talk to one service, whatever its server is called.
var agentApps = onceMap(func(add func(string, string)) {
	for _, a := range [...][2]string{
		{"whatsapp/", "WhatsApp"}, {"spotify/", "Spotify"}, {"dropbox", "Dropbox"}, {"netflix/", "NetFlix"}, {"nflx", "NetFlix"}, {"itunes/", "AppleiTunes"},
		{"windows-update-agent", "WindowsUpdate"}, {"microsoft-delivery-optimization", "WindowsUpdate"}, {"valve/steam", "Steam"}, {"teamviewer", "TeamViewer"},
		{"viber/", "Viber"}, {"instagram ", "Instagram"}, {"twitter/", "Twitter"}, {"snapchat/", "Snapchat"}, {"pandora/", "Pandora"}, {"deezer/", "Deezer"},
		{"roblox/", "Roblox"}, {"roblox", "Roblox"}, {"git/", "Git"}, {"syncthing/", "Syncthing"}, {"bittorrent/", "BitTorrent"}, {"utorrent/", "BitTorrent"}, {"transmission/", "BitTorrent"}, {"qbittorrent/", "BitTorrent"}, {"libtorrent/", "BitTorrent"}, {"rtorrent/", "BitTorrent"}, {"deluge", "BitTorrent"},
		{"azureus", "BitTorrent"}, {"btwebclient/", "BitTorrent"}, {"utorrentmac/", "BitTorrent"},
		{"avast", "AVAST"}, {"zoom.", "Zoom"}, {"telegram", "Telegram"}, {"mozilla/5.0 (nintendo", "Nintendo"}, {"mozilla/5.0 (playstation", "Playstation"},
		{"tivo", "TiVoConnect"}, {"apple-", "Apple"},
	} {
		add(a[0], a[1])
	}
})

// A request is what the header fields of a request told so far.
type request struct {
	host  []byte // value of Host
	app   protocol.ID
	proto protocol.ID
}

// requestAnswer reads the header fields of a request as far as they have come, and waits for Host.
func requestAnswer(v *Payload, method, target, rest []byte) Answer {
	r := request{app: targetApp(target)}
	for _, m := range methodApps {
		if string(method) == m.method {
			r.app = m.app
		}
	}
	switch {
	case string(method) == "CONNECT":
		r.proto = protocol.HTTPConnect
	case text.HasFold(target, "http://"):
		r.proto = protocol.HTTPProxy
	}
	for range maxFields {
		field, next, whole := text.CutLine(rest)
		switch {
		case !whole && r.host == nil && !v.Cut && len(v.Data) < store.SlotBytes:
			return Answer{Outcome: Partial}
		case len(field) == 0 || !whole:
			return r.answer(v)
		}
		r.field(field)
		rest = next
	}
	return r.answer(v)
}

// maxFields is how many header fields of a message are read.
const maxFields = 100

// answer names the request. What it says of itself goes before what its server's name says.
func (r *request) answer(v *Payload) Answer {
	return Answer{Outcome: Final, Proto: r.proto, App: r.app, Host: hostField(v.scratch(), r.host)}
}

// field takes in one header field.
func (r *request) field(field []byte) {
	colon := bytes.IndexByte(field, ':')
	if colon < 0 {
		return
	}
	name, value := field[:colon], bytes.TrimSpace(field[colon+1:])
	switch {
	case text.EqualFold(name, "host"):
		r.host = value
	case text.EqualFold(name, "upgrade"):
		if text.EqualFold(value, "websocket") { // RFC 6455
			r.app = protocol.WebSocket
		}
	case text.EqualFold(name, "icy-metadata"): // a player of SHOUTcast and Icecast streams
		r.app = protocol.IceCast
	case text.EqualFold(name, "soapaction"):
		r.app = protocol.SOAP
	case text.EqualFold(name, "content-type"):
		if id := mediaApp(value); id != 0 {
			r.app = id
		}
	case text.EqualFold(name, "user-agent") && r.app == 0:
		r.app = agentApp(value)
	}
}

// responseAnswer reads the header fields of a response as far as they have come; it waits for nothing.
func responseAnswer(rest []byte) Answer {
	a := Answer{Outcome: Final}
	for range maxFields {
		field, next, whole := text.CutLine(rest)
		if !whole || len(field) == 0 {
			return a
		}
		name, value, _ := bytes.Cut(field, []byte(":"))
		switch value = bytes.TrimSpace(value); {
		case text.EqualFold(name, "content-type") && a.App == 0:
			a.App = mediaApp(value)
		case text.EqualFold(name, "upgrade") && text.EqualFold(value, "websocket"):
			a.App = protocol.WebSocket
		case text.EqualFold(name, "dav"): // RFC 4918 section 10.1
			a.App = protocol.WebDAV
		case text.EqualFold(name, "server") && text.HasFold(value, "icecast"), text.EqualFold(name, "icy-name"), text.EqualFold(name, "icy-br"), text.EqualFold(name, "icy-metaint"):
			a.App = protocol.IceCast
		}
		rest = next
	}
	return a
}

func mediaApp(value []byte) protocol.ID {
	for _, t := range typeApps {
		if text.HasFold(value, t.media) {
			return t.app
		}
	}
	return 0
}

// targetApp returns what the target of a request says of itself: its path, or its query.
func targetApp(target []byte) protocol.ID {
	path, query, _ := bytes.Cut(target, []byte("?"))
	for _, p := range pathApps {
		for _, b := range [2][]byte{path, query} {
			if len(b) >= len(p.end) && text.EqualFold(b[len(b)-len(p.end):], p.end) {
				return p.app
			}
		}
	}
	if text.HasPrefix(query, "info_hash=") || bytes.Contains(query, []byte("&info_hash=")) { // to a tracker, or for a piece of a file (BEP 3, BEP 17)
		return protocol.BitTorrent
	}
	return 0
}

// agentApp returns what the first word of a User-Agent field stands for.
func agentApp(value []byte) protocol.ID {
	if len(value) < 4 {
		return 0
	}
	var room [40]byte
	words := lowerName(room[:0], value[:min(len(value), len(room))])
	agents := agentApps()
	for n := min(len(words), 32); n >= 4; n-- {
		if id := agents[string(words[:n])]; id != 0 {
			return id
		}
	}
	return 0
}
