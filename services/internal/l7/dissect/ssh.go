package dissect

import "galvo/services/internal/l7/text"

// inspectSSH knows the identification string (RFC 4253 section 4.2): SSH-protoversion-softwareversion.
func inspectSSH(v *Payload) Answer {
	const head = "SSH-"
	b := v.Data
	if len(b) < 6 {
		if string(b) == head[:min(len(b), 4)] || len(b) == 5 && text.HasPrefix(b, head) {
			return Answer{Outcome: More}
		}
		return Answer{}
	}
	if !text.HasPrefix(b, head) || b[4] != '1' && b[4] != '2' || b[5] != '.' {
		return Answer{}
	}
	return Answer{Outcome: Final}
}
