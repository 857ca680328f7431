package supervise

import (
	"slices"
	"testing"
	"time"
)

func TestBackoff(t *testing.T) {
	type end struct {
		there bool
		ran   time.Duration
	}
	absent, there, well := end{false, 50 * time.Millisecond}, end{true, 2 * time.Second}, end{true, time.Minute}
	const ms = time.Millisecond
	for _, c := range []struct {
		name    string
		longest time.Duration
		ends    []end
		want    []time.Duration
	}{
		{"a host", 0, []end{absent, absent, absent, absent, absent, absent}, []time.Duration{100 * ms, 200 * ms, 400 * ms, 800 * ms, time.Second, time.Second}},
		{"an appliance's that never comes up", longestAbsence, slices.Repeat([]end{absent}, 9),
			[]time.Duration{100 * ms, 200 * ms, 400 * ms, 800 * ms, 1600 * ms, 3200 * ms, 6400 * ms, 10 * time.Second, 10 * time.Second}},
		{"an appliance's that is killed again and again", longestAbsence, slices.Repeat([]end{there}, 6), []time.Duration{100 * ms, 200 * ms, 400 * ms, 800 * ms, time.Second, time.Second}},
		{"it came up at last", longestAbsence, []end{absent, absent, absent, absent, absent, absent, there, absent, well, absent},
			[]time.Duration{100 * ms, 200 * ms, 400 * ms, 800 * ms, 1600 * ms, 3200 * ms, time.Second, 2 * time.Second, 100 * ms, 200 * ms}},
	} {
		b := backoff{longest: c.longest}
		var got []time.Duration
		for _, e := range c.ends {
			got = append(got, b.next(e.there, e.ran))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}
