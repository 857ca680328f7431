package l7

// inspectSSDP knows the discovery of UPnP: requests in the form of HTTP to everybody, and the answers to them (UPnP Device Architecture 1.3).
func inspectSSDP(v *payload) answer {
	line, _, _ := cutLine(v.data)
	switch {
	case string(line) == "M-SEARCH * HTTP/1.1", string(line) == "NOTIFY * HTTP/1.1", string(line) == "M-SEARCH * HTTP/1.0":
		return answer{outcome: final}
	case hasPrefix(line, "HTTP/1.1 200") && v.on(1900):
		return answer{outcome: final}
	}
	return answer{}
}
