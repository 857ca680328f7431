package ring

import (
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"galvo/services/internal/ring/block"
	"galvo/services/internal/ring/files"
	"galvo/services/internal/ring/index"
	"galvo/services/internal/ring/state"
)

// A ring records before the blocks of all its segments are listed, and says so; who asks for packets is told what is missing all the same.
func TestRecordsBeforeItIsKnown(t *testing.T) {
	const segments, bytes = 100, 4 << 20
	l := newLarge(t, t.TempDir(), segments, bytes)
	last := blockOf(uint64((segments-1)*index.DataBlocks(bytes) + index.DataBlocks(bytes)/2))
	l.rewrite(t, 0, func(d *state.Descriptor) { d.Generation, d.Total = d.Generation+1, last.Total+5_000_000 })
	var free atomic.Int64
	free.Store(8)
	gate := make(chan struct{})
	l.cfg.Store = func(dir string) files.Store {
		return &watched{files.Open(dir), func(_ int, at int64) { // but for the first few, indexes cannot be read until the gate opens
			if at >= int64(index.DataBlocks(bytes))*block.Size && free.Add(-1) < 0 {
				<-gate
			}
		}}
	}
	r, err := Open(l.cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer closeRing(t, r)
	said := func() bool {
		return slices.ContainsFunc(r.State().Problems, func(p string) bool { return strings.Contains(p, "is being found out") })
	}
	if !said() {
		t.Errorf("problems %q", r.State().Problems)
	}
	if _, err := r.Protect(epoch, last.Last, math.MaxInt64); err == nil {
		t.Error("a time was protected of which nobody knows whether it is whole")
	}
	go func() {
		time.Sleep(20 * time.Millisecond) // for the query to begin
		close(gate)
	}()
	res, err := r.Query(t.Context(), Query{From: last.Last - 1, To: math.MaxInt64, NoMeta: true})
	if err != nil {
		t.Fatal(err)
	}
	res.joined.Wait()
	if !slices.ContainsFunc(res.Scan().Gaps, func(g Gap) bool { return g.Why == whyAbsent && g.From <= last.Last+1 }) {
		t.Errorf("gaps %v", res.Scan().Gaps)
	}
	res.Close()
	if said() {
		t.Errorf("it is known, and problems are %q", r.State().Problems)
	}
}

// Stretches are the same in whatever order blocks come, and leave out what is not there.
func TestStretches(t *testing.T) {
	var blocks []index.Slot
	for n := range uint64(200) {
		if n != 70 && n != 71 {
			blocks = append(blocks, index.Slot{Seq: n + 1, Total: (n + 1) * 10, Bytes: 10, First: int64(n), Last: int64(n), Worker: uint16(n % 3), Generation: 1})
		}
	}
	var list stretches
	for i := range 2 * len(blocks) { // each has a copy
		list = list.add(&blocks[i*7%len(blocks)]) // 7 and 198 have no divisor in common
	}
	if len(list) != 2 || list[0].from != 0 || list[0].to != 700 || list[1].from != 720 || list[1].to != 2000 || list[0].blocks != 70 || list[1].blocks != 128 {
		t.Fatalf("%d stretches: %+v", len(list), list)
	}
	if holes := holesOf(list); len(holes) != 1 || holes[0].bytes != 20 || holes[0].before != 1 {
		t.Errorf("holes %+v", holes)
	}
}
