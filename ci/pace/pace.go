// Package pace lets tests hold the product to times on machines that are slow, or busy with something else.
//
// A machine that takes the processors away from a test makes it slow now and then; what is slow by itself is so each time. So an upper bound on a time is held
// against the best of several tries (Within), and one that can be tried once only against what the machine does meanwhile (Slowness). Where a test itself has to do
// something within a time of the product's, that time is made longer until it can (Patiently). Goroutines that tests leave behind have time to end (Main). What should happen at all, soon or
// not, is waited for, without this package.
package pace

import (
	"fmt"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// tries are how often Within tries.
const tries = 8

// Within wants a try to take at most limit, by its own account. All of them have to do what is right; the time of the best one counts.
func Within(t testing.TB, limit time.Duration, try func() time.Duration) {
	t.Helper()
	var took []time.Duration
	for range tries {
		d := try()
		if took = append(took, d); d <= limit || t.Failed() {
			return
		}
	}
	t.Errorf("it took %s, and may take %s", took, limit)
}

// Patiently wants a try to succeed with times of once, 4 or 16 times the usual length. A try that fails leaves nothing behind.
func Patiently(t testing.TB, try func(times time.Duration) error) {
	t.Helper()
	var errs []error
	for _, times := range []time.Duration{1, 4, 16} {
		err := try(times)
		if err == nil {
			return
		}
		errs = append(errs, fmt.Errorf("with %d times the usual length: %w", times, err))
	}
	t.Errorf("%v", errs)
}

// Main runs the tests of a package and returns the exit code. They fail if they leave goroutines behind that have not ended a minute later.
func Main(m *testing.M) int { return runAll(m, time.Minute) }

func runAll(m interface{ Run() int }, leave time.Duration) int {
	code := m.Run()
	for deadline := time.Now().Add(leave); code == 0; {
		err := goleak.Find() // which tries for a second or two
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	return code
}

const (
	steps = 20_000_000            // of a random number generator
	usual = 60 * time.Millisecond // that they take on an idle processor of today
)

// Slowness returns how many times as long as on an idle machine of today something takes here and now, at least 1: by the programs that there were for each processor in the
// last minute, or, where that is more, by what a piece of work takes on all processors at once, which other machines on the same hardware show in.
func Slowness() float64 {
	b, err := os.ReadFile("/proc/loadavg")
	var load float64
	if _, scanErr := fmt.Sscan(string(b), &load); err != nil || scanErr != nil {
		load = 0
	}
	return max(1, load/float64(runtime.NumCPU()), float64(work())/float64(usual))
}

// work returns how long all processors need for a piece of work each.
func work() time.Duration {
	begun := time.Now()
	var all sync.WaitGroup
	for n := range runtime.NumCPU() {
		all.Go(func() {
			x := uint64(n + 1)
			for range steps {
				x ^= x << 13
				x ^= x >> 7
				x ^= x << 17
			}
			runtime.KeepAlive(x)
		})
	}
	all.Wait()
	return time.Since(begun)
}
