package savefile

import (
	"errors"
	"fmt"
	"io"

	"galvo/services/internal/packet"
)

// merge delivers the earliest frame of all files, again and again. It returns when a file has no more frames in hand: reading
// on would overwrite those of its frames that are already in dst.
func (s *Source) merge(dst []packet.Packet) (int, error) {
	for _, f := range s.empty {
		if err := f.refill(); err != nil {
			s.ended(f, err)
			continue
		}
		s.push(f)
	}
	s.empty = s.empty[:0]
	s.begin()
	if len(s.queue) == 0 {
		if err := errors.Join(s.errs...); err != nil {
			return 0, err
		}
		return 0, io.EOF
	}
	n := 0
	for n < len(dst) && len(s.queue) > 0 {
		f := s.queue[0]
		frame := f.run[f.at].Frame
		if int(frame.Iface) >= len(f.index) && !s.number(f) {
			s.ended(f, errors.New("more than 65536 interfaces in all savefiles"))
			s.pop()
			continue
		}
		frame.Iface = f.index[frame.Iface]
		dst[n].Frame = frame
		if f.reader.HasOptions() {
			s.note(n, f.reader.Options(f.at))
		}
		n++
		f.at++
		if f.at == len(f.run) {
			s.pop()
			s.empty = append(s.empty, f)
			break
		}
		s.sift()
	}
	return n, nil
}

func (s *Source) ended(f *file, err error) {
	if err != io.EOF {
		s.errs = append(s.errs, fmt.Errorf("savefile %s: %w", f.name, err))
	}
}

// before orders files by their next frame, then as they were given.
func before(a, b *file) bool {
	x, y := a.run[a.at].Time, b.run[b.at].Time
	return x < y || x == y && a.order < b.order
}

// push adds a file to the queue.
func (s *Source) push(f *file) {
	q := append(s.queue, f)
	for i := len(q) - 1; i > 0; {
		parent := (i - 1) / 2
		if !before(q[i], q[parent]) {
			break
		}
		q[i], q[parent] = q[parent], q[i]
		i = parent
	}
	s.queue = q
}

// pop takes the first file out of the queue.
func (s *Source) pop() {
	last := len(s.queue) - 1
	s.queue[0] = s.queue[last]
	s.queue[last] = nil
	s.queue = s.queue[:last]
	s.sift()
}

// sift moves the first file to its place after its next frame has changed.
func (s *Source) sift() {
	q := s.queue
	for i := 0; ; {
		child := 2*i + 1
		if child >= len(q) {
			return
		}
		if child+1 < len(q) && before(q[child+1], q[child]) {
			child++
		}
		if !before(q[child], q[i]) {
			return
		}
		q[i], q[child] = q[child], q[i]
		i = child
	}
}
