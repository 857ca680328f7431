package stream

import "galvo/services/internal/flow"

// maxRuns is how many stretches of a stream are kept: one more than there may be holes at once.
const maxRuns = 8

// A side is a direction of a connection: the stretches that are known of its stream, in order, none touching another.
type side struct {
	key     uint64 // 0 = free
	n       uint8
	used    bool // since the hand came by
	dropped bool // there was one stretch more than there is room for
	runs    [maxRuns]run
}

// A run is a stretch of a stream without a hole.
type run struct {
	from, to   uint32 // sequence numbers
	at         uint32 // number of its ends
	head, tail uint16 // bytes of them
}

// ends are the first and the last bytes of a run; of a short one they are the same.
type ends struct{ head, tail [room]byte }

// room is for what anybody looks at, and one byte more that tells what is beyond.
const room = flow.StreamReach + 1

// far is a distance between sequence numbers that no window of TCP has (RFC 7323 section 2.3): what is so far away is another connection.
const far = 1 << 30

func (r *run) length() int { return int(r.to - r.from) }

// before reports whether a sequence number lies before another one.
func before(a, b uint32) bool { return int32(a-b) < 0 }

// open notes that the stream begins at a sequence number. If it is not what is known, it is another stream: the ports were used again.
func (s *Store) open(sd *side, seq uint32) {
	if sd.n > 0 && sd.runs[0].from-seq >= 1<<16 {
		s.clear(sd)
	}
}

// add takes a segment, and says in f what it brings.
func (s *Store) add(sd *side, f *flow.Stream, seq uint32, data []byte, reach int) {
	if n := sd.n; n > 0 && (seq-sd.runs[n-1].to+far) > 2*far {
		s.clear(sd)
	}
	a, b := seq, seq+uint32(len(data))
	i, left := 0, false
	for i < int(sd.n) && before(sd.runs[i].to, a) {
		i++
	}
	if i < int(sd.n) && !before(a, sd.runs[i].from) {
		if a, left = sd.runs[i].to, true; !before(a, b) {
			f.New = 0
			return
		}
		i++
	}
	// Runs from i up to k lie within the segment; run k may touch its end.
	k := i
	for k < int(sd.n) && before(sd.runs[k].to, b) {
		k++
	}
	right := k < int(sd.n) && !before(b, sd.runs[k].from)
	if right {
		b = sd.runs[k].from
	}
	f.Skip, f.New = int(a-seq), int(b-a)
	data = data[f.Skip:][:f.New]
	if left {
		f.Before, f.Open = s.last(&sd.runs[i-1], reach)
	} else if i == 0 && sd.dropped {
		f.Forgotten = true
	}
	if right {
		f.After, f.More = s.first(&sd.runs[k], reach)
	}
	s.cut(sd, i, k)
	switch {
	case left && right:
		s.push(&sd.runs[i-1], data, reach+1)
		s.join(&sd.runs[i-1], &sd.runs[i], reach+1)
		s.cut(sd, i, i+1)
	case left:
		s.push(&sd.runs[i-1], data, reach+1)
	case right:
		s.prepend(&sd.runs[i], data, reach+1)
	default:
		s.insert(sd, i, a, data, reach+1)
	}
}

// cut takes out the runs from i up to k.
func (s *Store) cut(sd *side, i, k int) {
	for _, r := range sd.runs[i:k] {
		s.free = append(s.free, r.at)
	}
	sd.n -= uint8(k - i)
	copy(sd.runs[i:], sd.runs[k:])
}

// insert begins a run at place i. If there are too many the first one makes room: its hole is the oldest.
func (s *Store) insert(sd *side, i int, seq uint32, data []byte, most int) {
	if sd.n == maxRuns {
		if sd.dropped = true; i == 0 {
			return
		}
		s.cut(sd, 0, 1)
		i--
	}
	had := sd.n
	at := s.take(sd)
	i = max(0, i-int(had-sd.n))
	copy(sd.runs[i+1:sd.n+1], sd.runs[i:sd.n])
	sd.n++
	sd.runs[i] = run{from: seq, to: seq, at: at}
	s.push(&sd.runs[i], data, most)
}

// last returns the last bytes of a run, and whether it has more before them.
func (s *Store) last(r *run, reach int) (b []byte, open bool) {
	tail := s.ends[r.at].tail[:r.tail]
	b = tail[max(0, len(tail)-reach-1):]
	return s.copied(b), len(b) < r.length() || len(b) > reach
}

// first returns the first bytes of a run, and whether it has more behind them.
func (s *Store) first(r *run, reach int) (b []byte, more bool) {
	b = s.ends[r.at].head[:min(int(r.head), reach+1)]
	return s.copied(b), len(b) < r.length() || len(b) > reach
}

// push adds data at the end of a run, of which so many bytes are kept at most.
func (s *Store) push(r *run, data []byte, most int) {
	e := &s.ends[r.at]
	if n := r.length(); n == int(r.head) && n < most {
		r.head += uint16(copy(e.head[n:most], data))
	}
	r.to += uint32(len(data))
	if r.length() > far {
		r.from, r.head = r.to-far, 0
	}
	if len(data) >= most {
		r.tail = uint16(copy(e.tail[:], data[len(data)-most:]))
		return
	}
	keep := copy(e.tail[:], e.tail[max(0, int(r.tail)-(most-len(data))):r.tail])
	r.tail = uint16(keep + copy(e.tail[keep:], data))
}

// prepend adds data at the beginning of a run.
func (s *Store) prepend(r *run, data []byte, most int) {
	e := &s.ends[r.at]
	if n := r.length(); n == int(r.tail) && n < most {
		add := data[max(0, len(data)-(most-n)):]
		copy(e.tail[len(add):], e.tail[:n])
		r.tail += uint16(copy(e.tail[:], add))
	}
	r.from -= uint32(len(data))
	if len(data) >= most {
		r.head = uint16(copy(e.head[:], data[:most]))
		return
	}
	keep := copy(e.head[len(data):most], e.head[:r.head])
	r.head = uint16(copy(e.head[:], data) + keep)
}

// join adds what is kept of a run to the one that it follows without a hole.
func (s *Store) join(r, next *run, most int) {
	e, with := &s.ends[r.at], &s.ends[next.at]
	if n := r.length(); n == int(r.head) && n < most {
		r.head += uint16(copy(e.head[n:most], with.head[:next.head]))
	}
	keep := 0
	if n := next.length(); n == int(next.tail) && n < most {
		keep = copy(e.tail[:], e.tail[max(0, int(r.tail)-(most-n)):r.tail])
	}
	r.tail = uint16(keep + copy(e.tail[keep:], with.tail[:next.tail]))
	r.to = next.to
}
