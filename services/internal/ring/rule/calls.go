package rule

import (
	"sync"
	"sync/atomic"

	"galvo/services/internal/flow"
)

// Calls is which calls a rule is for: those of which a message matched its filter. What else belongs to them, other messages and the media that they negotiated,
// matches too. It has fixed size; the call that nothing was seen of for the longest time makes room. Workers share it, because a call and its media often go
// between different addresses; readers take no lock.
type Calls struct {
	mu   sync.Mutex // among writers
	sets [callSets][callWays]callEntry
}

const (
	callSets = 1024 // a power of two
	callWays = 4
)

// A callEntry is an identifier of a call (flow.Call), and the time of the last packet that belonged to it.
type callEntry struct {
	id   atomic.Uint64 // 0 = none
	seen atomic.Int64
}

func (c *Calls) set(id uint64) *[callWays]callEntry {
	return &c.sets[id*0x9e3779b97f4a7c15>>32&(callSets-1)]
}

// add takes in the calls of a message that matched.
func (c *Calls) add(call *flow.Call, now int64) {
	for _, id := range call.IDs {
		if id != 0 && !c.touch(id, now) {
			c.insert(id, now)
		}
	}
}

// has reports whether a packet belongs to one of the calls.
func (c *Calls) has(call *flow.Call, now int64) (yes bool) {
	for _, id := range call.IDs {
		if id != 0 && c.touch(id, now) {
			yes = true
		}
	}
	return yes
}

// touch reports whether a call is there, and notes that it is alive.
func (c *Calls) touch(id uint64, now int64) bool {
	set := c.set(id)
	for i := range set {
		if set[i].id.Load() == id {
			set[i].seen.Store(now)
			return true
		}
	}
	return false
}

func (c *Calls) insert(id uint64, now int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.touch(id, now) {
		return // another worker was faster
	}
	set := c.set(id)
	at := 0
	for i := range set {
		if set[i].id.Load() == 0 {
			at = i
			break
		}
		if set[i].seen.Load() < set[at].seen.Load() {
			at = i
		}
	}
	set[at].seen.Store(now)
	set[at].id.Store(id)
}
