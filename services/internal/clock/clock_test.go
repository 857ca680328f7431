package clock

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"galvo/ci/pace"
)

// A kernel is a clock that is off by something, and remembers what was done to it.
type kernel struct {
	off     time.Duration
	stepped []time.Duration
	slewed  []time.Duration
}

func (k *kernel) Now() time.Time { return time.Now().Add(k.off) }

func (k *kernel) Step(by time.Duration) error {
	k.off += by
	k.stepped = append(k.stepped, by)
	return nil
}

func (k *kernel) Slew(by, _ time.Duration) error {
	k.off += by / 2 // what the kernel manages until the next round
	k.slewed = append(k.slewed, by)
	return nil
}

// truth is a server that has the right time.
func (k *kernel) truth(context.Context, Server) (Sample, error) {
	return Sample{Offset: -k.off, Error: time.Millisecond}, nil
}

func servers(names ...string) func() []Server {
	var list []Server
	for _, n := range names {
		list = append(list, Server{n, "test"})
	}
	return func() []Server { return list }
}

// run keeps a clock for a time that passes at once.
func run(t *testing.T, c *Clock, d time.Duration) {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	c.Run(ctx)
	synctest.Wait()
}

// The first answer is stepped to, small offsets are slewed and asked for ever more rarely.
func TestConverge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &kernel{off: -3 * time.Hour}
		asked := 0
		c := &Clock{Kernel: k, Servers: servers("a"), Query: func(ctx context.Context, s Server) (Sample, error) {
			asked++
			if asked == 2 {
				k.off -= 20 * time.Millisecond // it drifted
			}
			return k.truth(ctx, s)
		}}
		run(t, c, 24*time.Hour)
		if len(k.stepped) != 1 || k.stepped[0] != 3*time.Hour || k.off.Abs() > time.Millisecond {
			t.Errorf("stepped by %v, off by %v", k.stepped, k.off)
		}
		if asked < 86400/1024 || asked > 86400/1024+12 {
			t.Errorf("asked %d times in a day", asked)
		}
		if s := c.State(); !s.Synced || s.Source != "a (test)" || s.Problem != "" {
			t.Errorf("state %+v", s)
		}
	})
}

// A clock that was right is not stepped because one answer says so, but is if they stay with it.
func TestJump(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &kernel{}
		lie := 0
		c := &Clock{Kernel: k, Servers: servers("a")}
		c.Query = func(ctx context.Context, s Server) (Sample, error) {
			if lie > 0 {
				lie--
				return Sample{Offset: time.Hour}, nil
			}
			return k.truth(ctx, s)
		}
		run(t, c, time.Minute)
		lie = 2
		run(t, c, time.Hour)
		if len(k.stepped) != 0 {
			t.Errorf("stepped by %v", k.stepped)
		}
		k.off = -time.Hour
		run(t, c, time.Hour)
		if len(k.stepped) != 1 || k.off != 0 {
			t.Errorf("stepped by %v, off by %v", k.stepped, k.off)
		}
	})
}

// Nothing leads to a time before the build: not a clock that begins in 1970, and not a server that says so.
func TestFloor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		floor := time.Now() // in the bubble
		k := &kernel{off: -50 * 365 * 24 * time.Hour}
		c := &Clock{Kernel: k, Floor: floor, Raise: true, Servers: servers("old"), Query: func(context.Context, Server) (Sample, error) {
			return Sample{Offset: -24 * time.Hour}, nil
		}}
		run(t, c, time.Hour)
		if k.Now().Before(floor) || len(k.stepped) != 1 {
			t.Errorf("it is %v, stepped by %v", k.Now(), k.stepped)
		}
		if s := c.State(); s.Synced || !strings.Contains(s.Problem, "old says that it is 1999-12-3") {
			t.Errorf("state %+v", s)
		}
	})
}

// One server of three that lies, and one that is silent, do no harm.
func TestLiar(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &kernel{}
		c := &Clock{Kernel: k, Servers: servers("a", "b", "liar", "silent"), Query: func(ctx context.Context, s Server) (Sample, error) {
			switch s.Name {
			case "liar":
				return Sample{Offset: 100 * time.Hour}, nil
			case "silent":
				return Sample{}, errors.New("no answer")
			}
			return k.truth(ctx, s)
		}}
		run(t, c, time.Hour)
		if len(k.stepped) != 0 || k.off != 0 {
			t.Errorf("stepped by %v, off by %v", k.stepped, k.off)
		}
	})
}

func TestNobodyAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		c := &Clock{Kernel: &kernel{}, Servers: servers("a"), Query: func(context.Context, Server) (Sample, error) {
			asked++
			return Sample{}, errors.New("timeout")
		}}
		run(t, c, time.Hour)
		if s := c.State(); s.Synced || s.Problem != "no NTP server gives the time: timeout" || asked < 10 || asked > 30 {
			t.Errorf("asked %d times: %+v", asked, s)
		}
	})
}

// Ask reads what a server on the wire says.
func TestAsk(t *testing.T) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	const off = 1500 * time.Millisecond
	go func() {
		b := make([]byte, 512)
		for {
			n, peer, err := conn.ReadFrom(b)
			if err != nil || n < 48 {
				return
			}
			now := stamp(time.Now().Add(off))
			reply := make([]byte, 48)
			reply[0], reply[1], reply[3] = 0x24, 2, 0xe8 // version 4, server; stratum 2
			copy(reply[12:], "\x7f\x7f\x01\x01")
			binary.BigEndian.PutUint64(reply[16:], now)
			copy(reply[24:], b[40:48])
			binary.BigEndian.PutUint64(reply[32:], now)
			binary.BigEndian.PutUint64(reply[40:], now)
			conn.WriteTo(reply, peer)
		}
	}()
	pace.Within(t, 100*time.Millisecond, func() time.Duration { // beside the truth
		s, err := Ask(nil)(t.Context(), Server{conn.LocalAddr().String(), "test"})
		if err != nil {
			t.Error(err)
		}
		return (s.Offset - off).Abs()
	})
}

// stamp is a time as NTP has it: seconds since 1900, and their fraction in 32 bits.
func stamp(t time.Time) uint64 {
	return uint64(t.Unix()+2208988800)<<32 | uint64(t.Nanosecond())<<32/1e9
}
