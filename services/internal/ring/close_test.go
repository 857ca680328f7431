package ring

import (
	"context"
	"errors"
	"math"
	"os"
	"testing"

	"galvo/services/internal/pipeline"
)

func TestClosedWhileRead(t *testing.T) {
	set := newSetting(t, 1, 32<<20).create(t)
	r := set.open(t)
	s := r.Stage(0, table)
	frames := mix(71, 10_000)
	play(t, s, &traffic{frames: frames})
	ctx := context.Background()
	var open []*Results
	for _, live := range []bool{false, true} {
		res, err := r.Query(ctx, Query{From: epoch, To: math.MaxInt64, Live: live})
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, res)
	}
	batches := make([]pipeline.Batch, len(open))
	for i, res := range open {
		for len(batches[i].Packets) == 0 { // a live one says after 50 ms that there is nothing yet
			if err := res.Next(ctx, &batches[i]); err != nil {
				t.Fatal(err)
			}
		}
	}
	closeRing(t, r)
	for i, res := range open {
		for k := range batches[i].Packets {
			if string(batches[i].Packets[k].Data) != string(frames[k].Data) {
				t.Fatalf("packet %d has changed", k)
			}
		}
		if err := res.Next(ctx, &batches[i]); !errors.Is(err, ErrClosed) {
			t.Errorf("error %v", err)
		}
		res.Close()
		res.Close()
	}
	if _, err := r.Query(ctx, everything); err == nil {
		t.Error("a closed ring can be queried")
	}
}

// Who is in the middle of a ring that is closed takes nothing that cannot be read any more for damaged, and who asks it something hears that it is closed.
func TestClosedUnderWork(t *testing.T) {
	set := newSetting(t, 1, 32<<20).create(t)
	r := set.open(t)
	s := r.Stage(0, table)
	play(t, s, &traffic{frames: mix(72, 20_000)})
	s.Finish()
	waitIdle(t, r)
	res, err := r.newResults(context.Background(), everything)
	if err != nil {
		t.Fatal(err)
	}
	tasks, _, _ := newFollower(res).round()
	closeRing(t, r)
	set.disks["a"].fail = func(string, bool, int64) error { return os.ErrClosed }
	for _, task := range tasks {
		res.tokens <- struct{}{}
		if v := res.look(task); v != nil {
			t.Error("a block of a closed ring is read")
		}
	}
	r.mu.Lock()
	for _, s := range r.devices[0].segments {
		s.slots = nil
		_ = r.load(s)
	}
	r.mu.Unlock()
	if scan := res.Scan(); len(tasks) == 0 || len(scan.Gaps) != 0 || len(r.State().Problems) != 0 {
		t.Errorf("of %d blocks: gaps %v, problems %q", len(tasks), scan.Gaps, r.State().Problems)
	}
	res.release()
	if _, err := r.Protect(epoch, math.MaxInt64, math.MaxInt64); !errors.Is(err, ErrClosed) {
		t.Errorf("a time is protected: %v", err)
	}
}
