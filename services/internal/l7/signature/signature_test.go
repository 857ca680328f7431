package signature

import "testing"

func TestBadSignatures(t *testing.T) {
	for _, text := range []string{
		"[[protocol]]\nname = \"X\"",
		"[[protocol]]\nid = 1\nname = \"X\"",
		"[[protocol]]\nid = 300\nname = \"Known\"",
		"[[protocol]]\nid = 999\nname = \"X\"\nmaster = \"Nobody\"",
		"[[protocol]]\nid = 999\nname = \"X\"\n[[protocol.signature]]\nl4 = [\"udp\"]\nmatch = [\"0:00\"]\nyes = \"00\"\nno = \"01\"",
		"[[protocol]]\nid = 999\nname = \"X\"\n[[protocol.signature]]\nl4 = [\"xdp\"]\nmatch = [\"0:00112233\"]\nyes = \"00\"\nno = \"01\"",
		"[[protocol]]\nid = 999\nname = \"X\"\nkey = 1",
	} {
		if _, err := compile(text, map[string]uint16{"Known": 1}, 256); err == nil {
			t.Errorf("compiled:\n%s", text)
		}
	}
}
