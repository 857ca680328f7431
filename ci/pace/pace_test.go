package pace

import (
	"errors"
	"testing"
	"time"
)

// A judged test notes whether it failed.
type judged struct {
	testing.TB
	failed bool
}

func (j *judged) Helper()               {}
func (j *judged) Failed() bool          { return j.failed }
func (j *judged) Errorf(string, ...any) { j.failed = true }

func TestWithin(t *testing.T) {
	for _, c := range []struct {
		name   string
		took   []time.Duration // in turn, and the last one from then on
		tries  int
		failed bool
	}{
		{"at once", []time.Duration{time.Second}, 1, false},
		{"at last", []time.Duration{3 * time.Second, 2 * time.Second, time.Second}, 3, false},
		{"never", []time.Duration{2 * time.Second}, tries, true},
	} {
		j, n := &judged{}, 0
		Within(j, time.Second, func() time.Duration {
			n++
			return c.took[min(n, len(c.took))-1]
		})
		if j.failed != c.failed || n != c.tries {
			t.Errorf("%s: failed %t after %d tries", c.name, j.failed, n)
		}
	}
	j := &judged{}
	Within(j, time.Second, func() time.Duration { j.Errorf("wrong"); return time.Hour })
	if !j.failed {
		t.Error("what is wrong passes")
	}
}

func TestPatiently(t *testing.T) {
	for enough, failed := range map[time.Duration]bool{1: false, 4: false, 16: false, 17: true} {
		j := &judged{}
		Patiently(j, func(times time.Duration) error {
			if times < enough {
				return errors.New("too short")
			}
			return nil
		})
		if j.failed != failed {
			t.Errorf("where %d times are enough: failed %t", enough, j.failed)
		}
	}
}

// A suite is tests that leave a goroutine behind.
type suite struct {
	code   int
	leaves time.Duration
}

func (s suite) Run() int {
	go time.Sleep(s.leaves)
	return s.code
}

func TestMainOfTests(t *testing.T) {
	for _, c := range []struct {
		suite
		leave time.Duration
		want  int
	}{{suite{0, 0}, 0, 0}, {suite{0, 3 * time.Second}, time.Minute, 0}, {suite{2, 0}, 0, 2}, {suite{0, time.Hour}, 0, 1}} {
		if got := runAll(c.suite, c.leave); got != c.want {
			t.Errorf("%+v: exit code %d, want %d", c, got, c.want)
		}
	}
}

func TestSlowness(t *testing.T) {
	if s := Slowness(); s < 1 || s > 10_000 {
		t.Errorf("%f times as long", s)
	}
}
