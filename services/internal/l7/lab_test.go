package l7

import (
	"encoding/binary"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"galvo/services/internal/flow"
	"galvo/services/internal/l7/l7test"
	"galvo/services/internal/packet"
)

// A lab is a worker's decoding, flow table and engine, and a clock.
type lab struct {
	table  *flow.Table
	engine *Engine
	now    int64
	frame  []byte
	last   *flow.Record
	ref    flow.Ref
	snap   int // captured bytes of payload, 0 = all
	pkt    packet.Packet
	seqs   [2]uint32
}

func newLab(c Config) *lab {
	if c.Bytes == 0 {
		c.Bytes = 1 << 18
	}
	l := &lab{engine: New(c), now: 1e18}
	l.table = flow.New(flow.Config{Flows: 1024, OnEnd: l.engine.End})
	return l
}

// send passes a packet on and returns the verdict.
func (l *lab) send(proto byte, a, b uint16, s l7test.Packet) Verdict {
	src, dst, dir := byte(1), byte(2), 0
	if s.Back {
		src, dst, a, b, dir = 2, 1, b, a, 1
	}
	f := append(l.frame[:0], 2, 0, 0, 0, 0, dst, 2, 0, 0, 0, 0, src, 8, 0)
	header := map[byte]int{6: 20, 17: 8}[proto]
	f = append(f, 0x45, 0)
	f = binary.BigEndian.AppendUint16(f, uint16(20+header+len(s.Payload)))
	f = append(f, 0, 0, 0, 0, 64, proto, 0, 0, 10, 0, 0, src, 10, 0, 0, dst)
	if header > 0 {
		f = binary.BigEndian.AppendUint16(f, a)
		f = binary.BigEndian.AppendUint16(f, b)
	}
	switch proto {
	case 6:
		l.seqs[dir] += s.Skip
		seq := l.seqs[dir]
		if s.Seq != 0 {
			seq = s.Seq
		} else {
			l.seqs[dir] += uint32(len(s.Payload))
		}
		f = binary.BigEndian.AppendUint32(f, seq)
		f = append(f, 0, 0, 0, 0, 0x50, s.Flags|0x10, 0xff, 0xff, 0, 0, 0, 0)
	case 17:
		f = binary.BigEndian.AppendUint16(f, uint16(8+len(s.Payload)))
		f = append(f, 0, 0)
	}
	l.frame = append(f, s.Payload...)
	return l.take(l.frame)
}

// take passes a frame on.
func (l *lab) take(frame []byte) Verdict {
	full := len(frame)
	if l.snap > 0 {
		frame = frame[:min(len(frame), l.snap)]
	}
	l.now += 1e6
	l.pkt = packet.Packet{Frame: packet.Frame{Data: frame, Len: uint32(full), Time: l.now}}
	l.pkt.Decode(packet.LinkEthernet)
	l.table.Begin()
	l.engine.Begin()
	ref := l.table.Find(&l.pkt)
	l.last = ref.Flow
	v := l.engine.Inspect(&l.pkt, l.table.Innermost(&l.pkt), &ref)
	l.ref = ref
	return v
}

// forget makes the last packet's flow a new one.
func (l *lab) forget() {
	l.engine.End(l.last)
	l.last.L7 = state{}
}

// measure shows the last packet as the first one of its flow again and again, and reports the processor time: on a shared machine it says more than the
// clock on the wall.
func (l *lab) measure(b *testing.B, ref *flow.Ref) { l.again(b, ref, l.forget) }

// again is measure for a packet before which something is to be put back as it was.
func (l *lab) again(b *testing.B, ref *flow.Ref, restore func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	now := func() int64 {
		var ts unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
			b.Fatal(err)
		}
		return ts.Nano()
	}
	start := now()
	for b.Loop() {
		restore()
		l.engine.worker.Forget()
		l.engine.Inspect(&l.pkt, &l.pkt, ref)
	}
	b.ReportMetric(float64(now()-start)/float64(b.N), "cpu-ns/op")
}
