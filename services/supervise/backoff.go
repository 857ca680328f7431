package supervise

import "time"

const (
	// A service that ends is started again after firstPause, and twice as long each time that it ends again within steady, up to longestPause.
	firstPause   = 100 * time.Millisecond
	longestPause = time.Second
	steady       = 10 * time.Second
	// An appliance has nobody who would end it: a service that ends without having been there is tried less often, up to this, and for ever. One that is there between its
	// ends does its work meanwhile, and comes back as soon as elsewhere.
	longestAbsence = 10 * time.Second
)

// A backoff says how long to wait before a service is started again. It is ready for use as its zero value.
type backoff struct {
	longest time.Duration // for a service that ends without having been there; 0 is longestPause
	pause   time.Duration // the next one; 0 is firstPause
}

// next returns the pause after a process that was there, or never came as far, and ran for a time.
func (b *backoff) next(there bool, ran time.Duration) time.Duration {
	longest := longestPause
	if !there {
		longest = max(longest, b.longest)
	}
	pause := min(max(b.pause, firstPause), longest)
	if ran > steady {
		pause = firstPause
	}
	b.pause = 2 * pause
	return pause
}
