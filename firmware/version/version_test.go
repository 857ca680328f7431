package version

import "testing"

func TestCompare(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{
		{"1.2.3", "1.2.3", 0}, {"1.2.3", "1.2.4", -1}, {"1.10", "1.9", 1}, {"1.2", "1.2.0", 0}, {"0.0.345-gabc", "0.0.345-gdef", 0}, {"0.0.9-z", "0.0.10-a", -1}, {"2.0", "1.999.999", 1},
	} {
		if got := Compare(c.a, c.b); got != c.want || Compare(c.b, c.a) != -c.want {
			t.Errorf("Compare(%s, %s) = %d, want %d", c.a, c.b, got, c.want)
		}
	}
}

func TestCheck(t *testing.T) {
	for v, ok := range map[string]bool{"1.2": true, "1.2.3.4": true, "0.0.345-gabc1234": true, "1": false, "1.2.3.4.5": false, "v1.2": false, "1.2+3-0": false, "1.2-A": false,
		"1.2-": false, "": false, "1.2-a/b": false, "1.2\n": false, "1.1234567890": false} {
		if err := Check(v); (err == nil) != ok {
			t.Errorf("Check(%q) = %v", v, err)
		}
	}
}
