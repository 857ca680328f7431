package spelling

import "testing"

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"", "abc", 3}, {"vlan", "vlan", 0}, {"vlna", "vlan", 1}, {"valn", "vlan", 1}, {"l4protocl", "l4protocol", 1},
		{"kitten", "sitting", 3}, {"ca", "abc", 3}, {"port", "tcp", 4},
	} {
		if got := Distance(c.a, c.b); got != c.want {
			t.Errorf("Distance(%q, %q) = %d, want %d", c.a, c.b, got, c.want)
		}
		if got := Distance(c.b, c.a); got != c.want {
			t.Errorf("Distance(%q, %q) = %d, want %d", c.b, c.a, got, c.want)
		}
	}
}
