package dissect

import (
	"bytes"

	"galvo/services/internal/l7/protocol"
	"galvo/services/internal/l7/text"
)

// inspectHTTP knows requests and responses of HTTP/1 (RFC 9112), and waits for the Host field of a request.
func inspectHTTP(v *Payload) Answer {
	line, rest, whole := text.CutLine(v.Data)
	if text.HasPrefix(line, "HTTP/1.") {
		if len(line) < 12 {
			return unlessWhole(whole)
		}
		if (line[7] == '0' || line[7] == '1') && line[8] == ' ' && text.Digits(line[9:12]) {
			return responseAnswer(rest)
		}
		return Answer{}
	}
	if v.Begun && v.Nth > 2 && !v.Joined && v.Carrier == 0 {
		return Answer{} // a line like a request in the middle of something else
	}
	if !whole {
		return halfRequest(v, line)
	}
	method := token(line)
	if string(line[:min(5, len(line))]) == "GET /" && len(bytes.TrimSpace(rest)) == 0 && v.Nth == 1 && bytes.IndexByte(bytes.TrimRight(line[5:], " "), ' ') < 0 {
		return Answer{Outcome: Final} // HTTP/0.9: the line is all
	}
	if method < 2 || method > 24 || len(line) < method+11 || line[method] != ' ' {
		return Answer{}
	}
	version := line[len(line)-9:]
	if string(version) != " HTTP/1.1" && string(version) != " HTTP/1.0" {
		return Answer{}
	}
	return requestAnswer(v, line[:method], line[method+1:len(line)-len(version)], rest)
}

// halfRequest judges a request line whose end has not come yet.
func halfRequest(v *Payload, line []byte) Answer {
	method := token(line)
	if method == len(line) {
		if method <= 24 && knownMethod(line, true) {
			return Answer{Outcome: More}
		}
		return Answer{}
	}
	if line[method] != ' ' || !knownMethod(line[:method], false) {
		return Answer{}
	}
	target := line[method+1:]
	switch {
	case len(target) == 0, string(target) == "http://"[:min(len(target), 7)]:
		return Answer{Outcome: More}
	case target[0] != '/' && !text.HasPrefix(target, "http://") && string(line[:method]) != "CONNECT" && target[0] != '*':
		return Answer{}
	case bytes.IndexByte(target, 0) >= 0:
		return Answer{}
	case bytes.IndexByte(target, ' ') >= 0 && !text.HasPrefix(target[bytes.IndexByte(target, ' ')+1:], "HTTP/1.") && v.Cut:
		return Answer{}
	case v.Cut, len(target) >= 256:
		return Answer{Outcome: Partial}
	}
	return Answer{Outcome: More}
}

// hostField copies the name of a Host field, without its port, in lower case.
func hostField(room, value []byte) []byte {
	value = bytes.TrimSpace(value)
	if i := bytes.LastIndexByte(value, ':'); i >= 0 && text.Digits(value[i+1:]) && bytes.IndexByte(value[:i], ':') < 0 {
		value = value[:i]
	}
	for _, c := range value[:min(len(value), protocol.MaxHost)] {
		room = append(room, text.Lower(c))
	}
	return room
}

// methods of HTTP: RFC 9110, PATCH (5789), WebDAV (4918, 3253, 3648, 3744, 5323, 5842), and those of UPnP, Icecast, Subversion and Microsoft.
var methods = [...]string{
	"GET", "POST", "HEAD", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "PROPFIND", "PROPPATCH", "MKCOL", "COPY", "MOVE", "LOCK", "UNLOCK",
	"VERSION-CONTROL", "REPORT", "CHECKOUT", "CHECKIN", "UNCHECKOUT", "MKWORKSPACE", "UPDATE", "LABEL", "MERGE", "BASELINE-CONTROL", "MKACTIVITY",
	"ORDERPATCH", "ACL", "SEARCH", "BIND", "REBIND", "UNBIND", "MKCALENDAR", "LINK", "UNLINK", "NOTIFY", "SUBSCRIBE", "UNSUBSCRIBE", "M-SEARCH", "SOURCE", "PURGE",
	"POLL", "BMOVE", "BCOPY", "BPROPFIND", "BPROPPATCH", "BDELETE", "X-MS-ENUMATTS", "RPC_CONNECT", "RPC_IN_DATA", "RPC_OUT_DATA", "SSTP_DUPLEX_POST",
}

// knownMethod reports whether b is a method, or may become one if begun.
func knownMethod(b []byte, begun bool) bool {
	for _, m := range methods {
		if string(b) == m || begun && len(b) < len(m) && string(b) == m[:len(b)] {
			return true
		}
	}
	return false
}

// token returns how many bytes of b are letters, digits and such as methods are made of.
func token(b []byte) int {
	for i, c := range b {
		if (c < 'A' || c > 'Z') && c != '-' && c != '_' {
			return i
		}
	}
	return len(b)
}

func unlessWhole(whole bool) Answer {
	if whole {
		return Answer{}
	}
	return Answer{Outcome: More}
}
