package dissect

import "galvo/services/internal/l7/text"

// inspectSSDP knows the discovery of UPnP: requests in the form of HTTP to everybody, and the answers to them (UPnP Device Architecture 1.3).
func inspectSSDP(v *Payload) Answer {
	line, _, _ := text.CutLine(v.Data)
	switch {
	case string(line) == "M-SEARCH * HTTP/1.1", string(line) == "NOTIFY * HTTP/1.1", string(line) == "M-SEARCH * HTTP/1.0":
		return Answer{Outcome: Final}
	case text.HasPrefix(line, "HTTP/1.1 200") && v.on(1900):
		return Answer{Outcome: Final}
	}
	return Answer{}
}
