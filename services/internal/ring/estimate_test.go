package ring

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"galvo/services/internal/ring/files"
)

// TestEstimate compares a dry run with the query: it reads the same blocks, is right where it says so, and else mostly off by less than it says.
func TestEstimate(t *testing.T) {
	set := newSetting(t, 2, 32<<20).create(t)
	r := set.open(t)
	s := r.Stage(0, table)
	frames := mix(17, 60_000)
	play(t, s, &traffic{frames: frames})
	s.Finish()
	near, exact, all := 0, 0, 0
	for _, text := range []string{"", "port == 443", "l7Protocol == DNS", "ip == 10.9.9.9 and port == 7", "ip == 10.0.3.7", "ip == 203.0.113.9", "vlan == 77", "len > 1000", "tcpFlags == syn"} {
		for _, cut := range [][2]int{{0, len(frames) - 1}, {5000, 52_000}, {20_000, 20_400}} {
			q := Query{From: frames[cut[0]].Time, To: frames[cut[1]].Time, Filter: mustFilter(t, text), Hold: true}
			e, err := r.Estimate(context.Background(), q)
			if err != nil {
				t.Fatal(err)
			}
			have, scan := collect(t, r, q)
			n := float64(len(have))
			if math.Abs(float64(e.Packets)-n) > 0.3*n+20 || e.Blocks != scan.Read || e.From != scan.From || e.To != scan.To {
				t.Errorf("%q, %v: %+v, and the query brings %d packets of %d blocks, from %d to %d", text, cut, e, len(have), scan.Read, scan.From, scan.To)
			}
			if (e.Empty == "") != (e.Packets > 0) || e.Exact && e.Empty != scan.Empty {
				t.Errorf("%q, %v: %d packets, because %q, and the query says %q", text, cut, e.Packets, e.Empty, scan.Empty)
			}
			if all++; e.Exact {
				exact++
			}
			switch off := math.Abs(float64(e.Packets) - n); {
			case e.Exact && (off > 0 || e.Error > 0):
				t.Errorf("%q, %v: %+v, and the query brings %d packets", text, cut, e, len(have))
			case off <= float64(e.Error):
				near++
			}
		}
	}
	if near < all*8/10 || exact == 0 {
		t.Errorf("%d of %d estimates are as near as they say, %d are exact", near, all, exact)
	}
	for text, exact := range map[string]bool{`ip == 10.9.9.9 and port == 7`: true, `callIdMedia == "a" and port == 7`: false, `streamRegexp == "a" and port == 7`: false} {
		e, err := r.Estimate(context.Background(), Query{From: epoch, To: epoch + 1, Filter: mustFilter(t, text), Hold: true})
		if err != nil || e.Exact != exact {
			t.Errorf("%q: %+v, %v", text, e, err)
		}
	}
	if e, err := r.Estimate(context.Background(), Query{From: 1000, To: 2000}); err != nil || !strings.HasPrefix(e.Empty, "the ring has no packet of the interval from 1970-01-01 00:00:00.000001 UTC to ") {
		t.Errorf("nothing of the interval: %+v, %v", e, err)
	}
	if e, err := r.Estimate(context.Background(), Query{From: epoch, To: math.MaxInt64, Filter: mustFilter(t, `callId == "a" and ip == 203.0.113.9`)}); err != nil || e.Blocks < 8 {
		t.Errorf("what is replayed as a whole: %+v, %v", e, err)
	}
	closeRing(t, r)
}

// An order in which a few blocks stand for all begins with some that are far apart.
func TestSpread(t *testing.T) {
	for n := range 40 {
		got := slices.Collect(spread(n))
		for i, k := range got[:min(8, n)] {
			if slices.ContainsFunc(got[:i], func(j int) bool { return (j-k)*(j-k) < (n/16)*(n/16) }) {
				t.Errorf("%d: %v", n, got)
			}
		}
		if slices.Sort(got); len(got) != n || n > 0 && (got[0] != 0 || got[n-1] != n-1 || len(slices.Compact(got)) != n) {
			t.Errorf("%d: %v", n, got)
		}
	}
}

// An estimate of a ring that is closed meanwhile is none.
func TestClosedWhileEstimated(t *testing.T) {
	set := newSetting(t, 1, 32<<20).create(t)
	var read atomic.Pointer[func()] // is called once
	set.cfg.Store = func(dir string) files.Store {
		return &watched{set.disks[dir], func(int, int64) {
			if f := read.Swap(nil); f != nil {
				(*f)()
			}
		}}
	}
	r := set.open(t)
	s := r.Stage(0, table)
	play(t, s, &traffic{frames: mix(73, 20_000)})
	s.Finish()
	waitIdle(t, r)
	closing := func() { closeRing(t, r) }
	read.Store(&closing)
	if e, err := r.Estimate(context.Background(), everything); !errors.Is(err, ErrClosed) {
		t.Errorf("%+v, %v", e, err)
	}
}
