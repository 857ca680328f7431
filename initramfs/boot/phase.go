package boot

import (
	"fmt"
	"runtime/debug"
	"strings"
	"time"
)

// A phase is a row of the table that a person sees.
type phase struct {
	name  string
	steps []step
}

// A step is one thing to do at the start.
type step struct {
	what string
	kind kind
	run  func(*machine) error
}

// A kind says what it means when a step does not work.
type kind string

const (
	must    kind = "must"    // the device cannot go on
	degrade kind = "degrade" // it goes on, and says what is wrong
)

// A result is what became of a step.
type result struct {
	phase, what string
	kind        kind
	begin, took time.Duration // since the kernel started
	err         error
}

// boot does the steps of all phases in order. It returns the first that must work and did not, or nil.
func (m *machine) boot(phases []phase) *result {
	var results []result
	defer func() { m.say("%s", table(results)) }()
	for _, p := range phases {
		for _, s := range p.steps {
			begin := time.Now()
			err := m.do(s)
			r := result{p.name, s.what, s.kind, begin.Sub(m.started), time.Since(begin), err}
			results = append(results, r)
			m.report.add(r)
			if err == nil {
				continue
			}
			m.say("%s: cannot %s: %v", p.name, s.what, err)
			if s.kind == must {
				return &r
			}
		}
	}
	return nil
}

// do runs one step; a panic in it is its error.
func (m *machine) do(s step) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("init failed there: %v\n%s", p, debug.Stack())
		}
	}()
	return s.run(m)
}

// table shows the steps with their times, as a person reads it.
func table(results []result) string {
	var b strings.Builder
	b.WriteString("phase     step                                begins    takes  state\n")
	last := ""
	for _, r := range results {
		name := r.phase
		if name == last {
			name = ""
		}
		last = r.phase
		state := "ok"
		if r.err != nil {
			state = map[kind]string{must: "failed", degrade: "degraded"}[r.kind]
		}
		fmt.Fprintf(&b, "%-9s %-34s %7.2f s %6.2f s  %s\n", name, r.what, r.begin.Seconds(), r.took.Seconds(), state)
	}
	return strings.TrimSuffix(b.String(), "\n")
}
