package ring

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"galvo/services/internal/ring/index"
	"galvo/services/internal/ring/state"
)

// A Pin protects a time from being overwritten.
type Pin struct {
	From, To int64 // both included
	Until    int64 // when the protection ends
	Bytes    int64 // that are protected
}

// Protect keeps the packets of an interval (ns since the epoch, half-open) from being overwritten until a time; whole segments are kept. Recording goes on
// in the others. A time that has passed ends the protection. It returns with that on the disk, and what is protected now; an error if so little would be left that
// recording stops soon, or if it could not be kept.
func (r *Ring) Protect(from, to, until int64) ([]Pin, error) {
	was := map[*segment]int64{}
	ends := until <= r.now()
	if said := r.ofStock(); said != "" && !ends {
		return nil, fmt.Errorf("protect an interval of ring %q: %s: ask again in a moment", r.d.Name, said)
	}
	bound := r.show(nil, to <= r.now()-endSlack)
	whole, err := r.protect(from, to, until, was) // before the blocks that are finished now take the place of older ones
	if err == nil && !ends {
		if err = r.settle(from, to); err == nil {
			_, err = r.protect(from, to, until, was)
		}
		if err == nil && len(was) == 0 {
			err = errors.New("it has no packet of the interval")
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		for s, before := range was {
			err = errors.Join(err, r.keepUntil(s, before))
		}
		return nil, fmt.Errorf("protect an interval of ring %q: %w", r.d.Name, err)
	}
	for i := range whole {
		whole[i].To = min(whole[i].To, bound)
	}
	r.keep(whole, was, until)
	return r.pins(), nil
}

// protect is Protect for what lies on the devices. It returns which times of the interval are whole, and notes in was until when the segments were protected before. A
// segment that is being written and has old packets of the interval is left as it is: the next block goes to another one.
func (r *Ring) protect(from, to, until int64, was map[*segment]int64) (whole []Gap, err error) {
	r.mu.Lock()
	chosen, err := r.chosen(from, to, until)
	if err == nil && until > r.now() {
		err = r.keeps(chosen)
		whole = r.wholeIn(from, to-1)
	}
	if err != nil {
		chosen = nil
	}
	var left []*segment
	for _, s := range chosen {
		if _, known := was[s]; !known {
			was[s] = s.Pinned
		}
		err = errors.Join(err, r.keepUntil(s, until))
		if s == s.dev.current && s.hasOld(from, to) && until > r.now() {
			s.used = len(s.slots)
			if s.inFlight == 0 && s.broken == nil && s.dev.failed == nil { // else who writes does it
				left = append(left, s)
			}
		}
	}
	r.mu.Unlock()
	for _, s := range left {
		r.rekey(s)
		r.close(s.dev, s)
	}
	return whole, err
}

// wholeIn returns the times from a time to another, both included, of which nothing was overwritten. r.mu is held.
func (r *Ring) wholeIn(from, to int64) []Gap {
	oldest, _ := r.stored()
	whole := []Gap{{From: max(from, min(r.d.Created, oldest)), To: to}}
	for _, g := range r.overwrittenIn(from, to, "") {
		whole = without(whole, g)
	}
	return whole
}

// without takes a time out of others.
func without(times []Gap, g Gap) (rest []Gap) {
	for _, t := range times {
		if t.From < g.From {
			rest = append(rest, Gap{t.From, min(t.To, g.From-1), t.Why})
		}
		if t.To > g.To {
			rest = append(rest, Gap{max(t.From, g.To+1), t.To, t.Why})
		}
	}
	return rest
}

// keep notes times that are whole and protected until a time, since the segments were. Others that have a part in these are so until then at most. r.mu is held.
func (r *Ring) keep(whole []Gap, segments map[*segment]int64, until int64) {
	now := r.now()
	kept := slices.Clone(r.d.Kept)
	for i := range kept {
		for s := range segments {
			if k := &kept[i]; r.hasIn(s, k.From, k.To) {
				k.Until = min(k.Until, until)
			}
		}
	}
	kept = slices.DeleteFunc(kept, func(k state.Kept) bool {
		return k.Until <= now || slices.ContainsFunc(whole, func(g Gap) bool { return g.From <= k.From && k.To <= g.To })
	})
	for _, g := range whole {
		if g.From <= g.To {
			kept = append(kept, state.Kept{From: g.From, To: g.To, Until: until})
		}
	}
	r.setKept(kept[max(0, len(kept)-state.MaxKept):])
	for _, d := range r.devices {
		if d.failed != nil {
			continue
		}
		if err := r.saveDescriptor(d, false); err != nil {
			r.fail(d, err)
		}
	}
}

// hasIn reports whether a segment has a block with packets between two times, both included. One that was being written when it was protected has some of two times, and
// none of what is between them. r.mu is held.
func (r *Ring) hasIn(s *segment, from, to int64) bool {
	in := func(b index.Slot) bool { return b.Seq != 0 && b.First <= to && b.Last >= from }
	switch {
	case s.First > to || s.Last < from:
		return false
	case s.First >= from && s.First <= to || s.Last >= from && s.Last <= to:
		return true
	}
	return r.load(s) != nil || slices.ContainsFunc(s.slots, in)
}

func (r *Ring) setKept(kept []state.Kept) {
	r.d.Kept = kept
	r.d.KeptTurn++
}

// checkKept forgets the times that were whole and protected whose protection is over, or of which a segment is not protected, as the state may have been damaged. r.mu is held.
func (r *Ring) checkKept() {
	now := r.now()
	if left := slices.DeleteFunc(slices.Clone(r.d.Kept), func(k state.Kept) bool { return k.Until <= now || r.unprotected(k) }); len(left) < len(r.d.Kept) {
		r.setKept(left)
	}
}

// keepOnAll protects on each device what is protected: one that was away, or has lost its state, does not know of it. r.mu is held.
func (r *Ring) keepOnAll() {
	for _, k := range r.d.Kept {
		if k.Until <= r.now() {
			continue
		}
		for _, d := range r.devices {
			if !d.rebuilt && d.said.KeptTurn == r.d.KeptTurn {
				continue
			}
			for _, s := range d.segments {
				if s.State != state.Empty && s.Pinned < k.Until && r.hasIn(s, k.From, k.To) {
					s.Pinned, d.pinned = k.Until, true
				}
			}
		}
	}
}

// unprotected reports whether packets of a time lie in a segment that is not protected as long as that says. r.mu is held.
func (r *Ring) unprotected(k state.Kept) bool {
	for _, d := range r.devices {
		for _, s := range d.segments {
			if s.State != state.Empty && s.Pinned < k.Until && r.hasIn(s, k.From, k.To) {
				return true
			}
		}
	}
	return false
}

// chosen returns the segments that have packets of an interval. r.mu is held.
func (r *Ring) chosen(from, to, until int64) (chosen []*segment, err error) {
	if r.closed {
		return nil, ErrClosed
	}
	now := r.now()
	if from >= to {
		return nil, errors.New("it ends before it begins")
	}
	for _, d := range r.devices {
		free := 0
		for _, s := range d.segments {
			if s.State == state.Open {
				s.span()
			}
			switch {
			case s.State != state.Empty && r.hasIn(s, from, to-1):
				chosen = append(chosen, s)
			case s.broken == nil && (s.State == state.Empty || s.Pinned <= now):
				free++
			}
		}
		if until > now && free < minFree && d.failed == nil {
			return nil, fmt.Errorf("only %d of %d segments of %s would be left to record to; choose a shorter one", free, len(d.segments), d.name)
		}
	}
	return chosen, nil
}

// keeps returns an error if segments lie on so many devices that have failed that one block of them may lie on such devices alone: their protection could not be saved, so
// the next opening, to which the devices may work again, would know nothing of it. r.mu is held.
func (r *Ring) keeps(chosen []*segment) error {
	failed := make(map[*device]bool)
	for _, s := range chosen {
		if s.dev.failed != nil {
			failed[s.dev] = true
		}
	}
	for d := range failed {
		if len(failed) > int(r.d.Copies) {
			return fmt.Errorf("%s takes nothing, not even that it is protected: %w", d.name, d.failed)
		}
	}
	return nil
}

// keepUntil protects a segment until a time. It returns with that on the disk, or an error if the device fails. r.mu is held.
func (r *Ring) keepUntil(s *segment, until int64) error {
	s.Pinned = until
	if s.dev.failed != nil || r.cfg.ReadOnly {
		return nil
	}
	err := r.saveEntry(s.dev, s.number, true)
	if err != nil {
		err = fmt.Errorf("%s: %w", s.dev.name, err)
		r.fail(s.dev, err)
	}
	return err
}

// hasOld reports whether a segment that is being written has packets of an interval where the next blocks would go. Ring.mu is held.
func (s *segment) hasOld(from, to int64) bool {
	return slices.ContainsFunc(s.slots[min(s.used, len(s.slots)):], func(b index.Slot) bool { return b.Seq != 0 && b.First < to && b.Last >= from })
}

// settle has the unfinished blocks finished, and waits until what was recorded before lies on the devices, for a moment: a segment is chosen by what is in it. It is an
// error if packets of the interval still do not.
func (r *Ring) settle(from, to int64) error {
	for _, s := range r.stages {
		s.part.Store(!s.finished.Load())
	}
	parted := func(s *stage) bool { return !s.part.Load() || s.finished.Load() }
	end := time.Now().Add(settleTime)
	for !allOf(r.stages, parted) && time.Now().Before(end) {
		time.Sleep(settleTime / 200)
	}
	last := r.seq.Load()
	for r.waitsFor(last, math.MinInt64, math.MaxInt64) && time.Now().Before(end) {
		time.Sleep(settleTime / 200)
	}
	unfinished := func(s *stage) bool {
		return !parted(s) && s.current.Load() != 0 && s.first.Load() < to && s.last.Load() >= from
	}
	if slices.ContainsFunc(r.stages, unfinished) || r.waitsFor(last, from, to) {
		return errNotYet
	}
	total := r.total.Load()
	for end = time.Now().Add(syncTime); r.synced.Load() < total; time.Sleep(settleTime / 200) {
		if time.Now().After(end) {
			return errNotYet
		}
	}
	return nil
}

var errNotYet = errors.New("packets of the interval are not on the disk yet: ask again in a moment")

// settleTime is longer than workers and devices take, unless something is wrong with them, and syncTime than devices take to make it permanent.
const (
	settleTime = time.Second
	syncTime   = 5 * time.Second
)

func allOf(stages []*stage, is func(*stage) bool) bool {
	return !slices.ContainsFunc(stages, func(s *stage) bool { return !is(s) })
}

// waitsFor reports whether a block up to a number that has packets of an interval was not written yet.
func (r *Ring) waitsFor(last uint64, from, to int64) bool {
	r.handing.Lock()
	defer r.handing.Unlock()
	for seq, img := range r.waiting {
		if seq <= last && img.Header.First < to && img.Header.Last >= from {
			return true
		}
	}
	return false
}

// minFree is how many segments of a device protection leaves to recording.
const minFree = 2

// pins lists what is protected: the times that somebody has asked for, and segments of which no such time is known. Ring.mu is held.
func (r *Ring) pins() (list []Pin) {
	now := r.now()
	for _, k := range r.d.Kept {
		if k.Until > now {
			list = append(list, Pin{From: k.From, To: k.To, Until: k.Until})
		}
	}
	asked := len(list)
	for _, d := range r.devices {
		for _, s := range d.segments {
			if s.State != state.Empty && s.Pinned > now {
				list = s.addTo(list, asked, r.d.SegmentBytes)
			}
		}
	}
	return list
}

// addTo adds a protected segment of so many bytes to a list, of which the first ones are times that somebody has asked for.
func (s *segment) addTo(list []Pin, asked int, bytes int64) []Pin {
	known := false
	for i := range list[:asked] {
		if p := &list[i]; s.First <= p.To && s.Last >= p.From {
			p.Bytes += bytes
			known = true
		}
	}
	if known {
		return list
	}
	i := slices.IndexFunc(list[asked:], func(p Pin) bool { return p.Until == s.Pinned })
	if i < 0 {
		return append(list, Pin{From: s.First, To: s.Last, Until: s.Pinned, Bytes: bytes})
	}
	p := &list[asked+i]
	p.From, p.To, p.Bytes = min(p.From, s.First), max(p.To, s.Last), p.Bytes+bytes
	return list
}
