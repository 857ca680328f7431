package capture

import (
	"bytes"
	"testing"

	"galvo/services/internal/pipeline"
	"galvo/services/internal/sink"
)

// TestFeeds runs captures of two sources side by side: each has the packets of its own and the interfaces of its own, and both are in one list.
func TestFeeds(t *testing.T) {
	cs := newCaptures(t, Options{})
	past := NewFeed(Source{Workers: 2, Interfaces: func() []pipeline.Interface { return ethernet[1:] }})
	var live, ring bytes.Buffer
	a, waitLive := begin(t, cs, Spec{}, sink.NewWriter(&live, "live"))
	b, waitRing := begin(t, cs, Spec{Feed: past, Block: true, Source: "office"}, sink.NewWriter(&ring, "ring"))
	if n := len(cs.List()); n != 2 {
		t.Errorf("%d captures are listed", n)
	}
	cs.Stage(0).Process(batchOf(0, frame(1, 60, 10, 0), frame(2, 60, 11, 1)))
	past.Stage(1).Process(batchOf(1, frame(3, 60, 7, 0)))
	past.Stage(0).Process(batchOf(0, frame(4, 60, 5, 0)))
	past.Stage(0).Finish()
	past.Stage(1).Finish()
	a.Finish("enough")
	b.Finish("end of the ring")
	for _, err := range []error{waitLive(), waitRing()} {
		if err != nil {
			t.Error(err)
		}
	}
	for _, c := range []struct {
		file []byte
		want []uint64
	}{{live.Bytes(), []uint64{1, 2}}, {ring.Bytes(), []uint64{4, 3}}} {
		var got []uint64
		for _, p := range read(t, c.file) {
			got = append(got, number(p.Data))
		}
		if len(got) != 2 || got[0] != c.want[0] || got[1] != c.want[1] {
			t.Errorf("packets %d, want %d", got, c.want)
		}
	}
}
