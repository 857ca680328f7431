package engine

import (
	"math/rand/v2"
	"testing"
)

// A port is a NIC with a kernel ring and perhaps an engine behind it, frame by frame.
type simulatedPort struct {
	nic, drops uint64 // what the NIC counts
	ring       uint64 // received, not yet processed
	attached   bool
}

func TestLedgerAddsUp(t *testing.T) {
	for seed := range uint64(500) {
		r := rand.New(rand.NewPCG(seed, 1))
		var l ledger
		p := simulatedPort{nic: r.Uint64N(1000)}
		now := int64(1)
		var received uint64 // by the NIC since the first attach, without what it dropped
		// Frames come between the reading of the NIC and the moment the sockets receive, in either order.
		attach := func() {
			first := l.Seen == 0
			read := p.nic
			late := r.Uint64N(3)
			p.nic += late
			if !first {
				received += late
			}
			l.attach(eth1, read, p.drops, now-1, now)
			p.attached, p.ring = true, 0
		}
		attach()
		l.read(p.nic, p.drops, 0, now, now)
		l.read(p.nic, p.drops, 0, now, now)
		for range 200 {
			now++
			switch n := r.Uint64N(50); r.IntN(6) {
			case 0, 1, 2: // frames come
				p.nic += n
				received += n
				if p.attached {
					lost := r.Uint64N(n + 1)
					p.ring += n - lost
					l.dropped(lost, now-1, now)
				}
			case 3: // the worker works
				n = min(n, p.ring)
				p.ring -= n
				l.Frames += n
			case 4: // the engine is killed with frames in its ring, and comes back
				if p.attached {
					p.attached = false
				} else {
					attach()
				}
			case 5:
				if p.attached {
					l.read(p.nic, p.drops, p.ring, now-1, now)
				}
			}
		}
		if !p.attached {
			attach()
		}
		l.Frames += p.ring
		l.read(p.nic, p.drops, 0, now, now+1)
		l.read(p.nic, p.drops, 0, now+1, now+2)
		if got := l.Frames + l.lost(); got != received {
			t.Fatalf("seed %d: %d frames processed and %d lost, want %d in all", seed, l.Frames, l.lost(), received)
		}
	}
}

func TestLedgerReplacedPort(t *testing.T) {
	var l ledger
	l.attach(eth1, 100, 0, 0, 1)
	l.Frames = 50
	l.read(150, 7, 0, 1, 2)
	l.attach(newDevice(12, "eth1"), 4, 0, 2, 3)
	l.Frames += 10
	l.read(14, 0, 0, 3, 4)
	l.read(14, 0, 0, 4, 5)
	if l.Frames != 60 || l.lost() != 7+4 {
		t.Errorf("%d frames processed and %d lost, want 60 and 11", l.Frames, l.lost())
	}
	if len(l.gaps) != 2 || l.gaps[1].Cause != "port" || l.gaps[1].Lost != 4 {
		t.Errorf("gaps are %+v", l.gaps)
	}
}

// What was lost before the engine came, and is only known when the port is quiet, is the port's loss and not that of captures of this engine.
func TestLossBeforeThisEngine(t *testing.T) {
	l := ledger{counts: counts{Frames: 50, Seen: 1}, early: true} // as the killed engine left it
	l.attach(eth1, 80, 0, 1, 2)
	then := l.lost()
	l.Frames += 40
	l.dropped(3, 3, 4)
	l.read(130, 0, 0, 4, 5)
	l.read(130, 0, 0, 5, 6) // quiet: 7 frames came between the reading and the sockets
	if l.Engine != 37 || l.lost()-then != 3 {
		t.Errorf("%d frames lost without an engine, %d since it came, want 37 and 3", l.Engine, l.lost()-then)
	}
	l.early = false // the port is removed, and comes back after it received 5 frames
	l.attach(newDevice(12, "eth1"), 5, 0, 6, 7)
	if l.lost()-then != 8 {
		t.Errorf("%d frames lost since the engine came, want 8", l.lost()-then)
	}
}

var eth1 = newDevice(2, "eth1")

// Two NICs change their places, in one engine and over an engine that was killed: what each received as another port is no loss of this one.
func TestNICsChangePorts(t *testing.T) {
	eth2 := newDevice(3, "eth2")
	for _, killed := range []bool{false, true} {
		nics := [2]device{eth1, eth2}
		received := [2]uint64{1000, 5_000_000}
		var ports [2]ledger
		for i := range ports {
			ports[i].attach(nics[i], received[i], 0, 0, 1)
			ports[i].Frames = 30
			received[i] += 30
			ports[i].read(received[i], 0, 0, 1, 2)
		}
		if killed {
			for i := range ports {
				ports[i] = ledger{counts: ports[i].counts, early: true}
			}
		}
		for i := range ports {
			received[1-i] += 7 // while no engine receives there
			ports[i].attach(nics[1-i], received[1-i], 0, 2, 3)
			ports[i].Frames += 20
			received[1-i] += 20
			ports[i].read(received[1-i], 0, 0, 3, 4)
			ports[i].read(received[1-i], 0, 0, 4, 5)
			if l := &ports[i]; l.Frames != 50 || l.Engine+l.lost() != 0 || len(l.gaps) != 0 {
				t.Errorf("killed %v, port %d: %d frames processed, %d lost, gaps %+v; want 50, 0 and none", killed, i+1, l.Frames, l.Engine, l.gaps)
			}
		}
		// What is lost on the new NIC counts from then on.
		l := &ports[0]
		l.attach(eth2, received[1]+5, 0, 5, 6)
		if l.Engine != 5 {
			t.Errorf("killed %v: %d frames lost of the new NIC, want 5", killed, l.Engine)
		}
	}
}

// A NIC whose name was changed is the same one.
func TestRenamedNIC(t *testing.T) {
	var l ledger
	l.attach(eth1, 10, 0, 0, 1)
	l.Frames = 5
	l.attach(newDevice(2, "uplink"), 18, 0, 2, 3)
	if l.Engine != 3 {
		t.Errorf("%d frames lost, want 3", l.Engine)
	}
}
