package l7

import (
	"galvo/services/internal/flow"
	"galvo/services/internal/l7/dissect"
	"galvo/services/internal/l7/store"
)

// rejoin puts a segment behind the bytes that were kept of its stream, so that v.Data begins where the stream does.
func (e *Engine) rejoin(v *dissect.Payload) {
	sl := e.slotOf(v)
	if sl == nil || sl.Dir != v.Dir {
		return
	}
	sl.Put(int(int32(v.Seq-sl.Base)), v.Data)
	v.Data, v.Base, v.Joined = sl.Head(), sl.Base, true
	v.Wire += max(len(v.Data)-len(v.Packet), 0)
}

// keep stores the stream from this segment on, unless it is kept already.
func (e *Engine) keep(v *dissect.Payload) {
	if v.Joined || v.Cut {
		return
	}
	sl := e.slotOf(v)
	if sl == nil {
		if sl = e.takeSlot(v); sl == nil {
			return
		}
	}
	sl.Reset(v.Seq, v.Dir)
	sl.Put(0, v.Packet)
}

func (e *Engine) slotOf(v *dissect.Payload) *store.Slot {
	i := get16(&v.Flow.L7, 12)
	if i == 0 {
		return nil
	}
	return e.store.At(i-1, v.Flow.ID)
}

func (e *Engine) takeSlot(v *dissect.Payload) *store.Slot {
	i, ok := e.store.Take(v.Flow.ID)
	if !ok {
		return nil
	}
	put16(&v.Flow.L7, 12, i+1)
	return e.store.At(i, v.Flow.ID)
}

func (e *Engine) releaseSlot(s *state, id uint64) {
	if i := get16(s, 12); i != 0 {
		e.store.Release(i-1, id)
		put16(s, 12, 0)
	}
}

// slots is the engine as dissectors see it: what it keeps of the flow at hand (dissect.Keeper).
type slots Engine

func (e *slots) Kept(v *dissect.Payload) *store.Slot { return (*Engine)(e).slotOf(v) }

func (e *slots) Keep(v *dissect.Payload) *store.Slot { return (*Engine)(e).takeSlot(v) }

func (e *slots) HostName(r *flow.Record) []byte { return (*Engine)(e).HostName(r) }
