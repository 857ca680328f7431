package capture

import "sync/atomic"

// counts is what a lane counts. What was looked at and is none of captured, dropped and held was ignored.
type counts struct {
	looked   uint64 // frames
	captured uint64 // packets put into the queue
	dropped  uint64
	held     uint64
	bytes    uint64 // of captured, after snapping
	rate     uint64 // bytes in the last full second
	second   uint64 // of the clock, after that
}

func (c *counts) add(o *counts) {
	c.looked += o.looked
	c.captured += o.captured
	c.dropped += o.dropped
	c.held += o.held
	c.bytes += o.bytes
}

// shown is the latest counts of a lane for others to read. Two places take turns, so that the writer never waits and a reader never
// mixes two states.
type shown struct {
	turn  atomic.Uint64
	place [2][7]atomic.Uint64
}

// store belongs to the lane's worker.
func (s *shown) store(c *counts) {
	turn := s.turn.Load() + 1
	p := &s.place[turn&1]
	for i, v := range [...]uint64{c.looked, c.captured, c.dropped, c.held, c.bytes, c.rate, c.second} {
		p[i].Store(v)
	}
	s.turn.Store(turn)
}

func (s *shown) load() counts {
	for {
		turn := s.turn.Load()
		p := &s.place[turn&1]
		c := counts{p[0].Load(), p[1].Load(), p[2].Load(), p[3].Load(), p[4].Load(), p[5].Load(), p[6].Load()}
		if s.turn.Load() == turn {
			return c
		}
	}
}
