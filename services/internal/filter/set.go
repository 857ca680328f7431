package filter

type key struct {
	kind uint8
	a, b uint64
}

type keysFunc func(s *set) []key

func addressKeys(s *set) []key  { return nil }
func macKeys(s *set) []key      { return nil }
func portKeys(s *set) []key     { return nil }
func vlanKeys(s *set) []key     { return nil }
func protocolKeys(s *set) []key { return nil }
func verdictKeys(s *set) []key  { return nil }
