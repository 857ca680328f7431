package ring

import (
	"context"
	"errors"
	"io"
	"testing"

	"galvo/services/internal/pipeline"
)

// TestPassed holds what a query says that its filter did not want against the frames before what was delivered, at every batch: it reads ahead.
func TestPassed(t *testing.T) {
	set := newSetting(t, 1, 32<<20).create(t)
	r := set.open(t)
	s := r.Stage(0, table)
	frames := mix(71, 12_000)
	play(t, s, &traffic{frames: frames})
	for _, expression := range []string{"", "port == 53", "port == 443", "ip == 203.0.113.9", "l7Protocol == DNS"} {
		f := mustFilter(t, expression)
		q := Query{From: frames[100].Time, To: frames[11_000].Time, Filter: f, Hold: true}
		res, err := r.Query(context.Background(), q)
		if err != nil {
			t.Fatal(err)
		}
		var b pipeline.Batch
		delivered, at, whole := 0, 100, !f.NeedsL7()
		for {
			err := res.Next(context.Background(), &b)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			delivered += len(b.Packets)
			for len(b.Packets) > 0 && frames[at].Time <= b.Packets[len(b.Packets)-1].Time {
				at++
			}
			if got := int(res.Scan().Passed); whole && len(b.Packets) > 0 && got != at-100-delivered {
				t.Fatalf("%s: %d delivered of %d, %d were not wanted", expression, delivered, at-100, got)
			}
		}
		if scan := res.Scan(); scan.Passed != scan.Packets-scan.Matched || scan.Matched != uint64(delivered) || scan.Held != 0 || scan.Bytes == 0 && scan.Packets > 0 {
			t.Errorf("%s: %+v", expression, scan)
		}
		res.Close()
	}
	s.Finish()
	closeRing(t, r)
}
