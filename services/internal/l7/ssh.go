package l7

// inspectSSH knows the identification string (RFC 4253 section 4.2): SSH-protoversion-softwareversion.
func inspectSSH(v *payload) answer {
	const head = "SSH-"
	b := v.data
	if len(b) < 6 {
		if string(b) == head[:min(len(b), 4)] || len(b) == 5 && hasPrefix(b, head) {
			return answer{outcome: more}
		}
		return answer{}
	}
	if !hasPrefix(b, head) || b[4] != '1' && b[4] != '2' || b[5] != '.' {
		return answer{}
	}
	return answer{outcome: final}
}
