package ring

import "sync/atomic"

// Lost tells how many frames all ports have lost, from some time on: what they lost before it is called first is none of the ring's. One goroutine calls it.
func (r *Ring) Lost(frames uint64) { r.losses.tell(frames) }

// losses counts the frames that ports lost while the ring was open, since it was made. No block has them, and no time is known of one; but blocks say how many there were.
type losses struct {
	base  atomic.Uint64 // how many had been lost when the ring was opened
	since atomic.Uint64 // how many were lost then
	begun atomic.Bool   // somebody has told how many there were before
	then  atomic.Uint64 // so many
}

func (l *losses) tell(frames uint64) {
	if !l.begun.Swap(true) {
		l.then.Store(frames)
	}
	if then := l.then.Load(); frames > then {
		l.since.Store(frames - then)
	}
}

func (l *losses) all() uint64 { return l.base.Load() + l.since.Load() }

// atLeast says that so many had been lost when the ring was opened. What a block says later is known.
func (l *losses) atLeast(frames uint64) {
	for b := l.base.Load(); frames > b && !l.begun.Load() && !l.base.CompareAndSwap(b, frames); b = l.base.Load() {
	}
}
