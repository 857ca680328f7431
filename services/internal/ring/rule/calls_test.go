package rule

import (
	"testing"

	"galvo/services/internal/filter"
	"galvo/services/internal/flow"
)

func callOf(ids ...uint64) *flow.Call {
	c := &flow.Call{}
	for _, id := range ids {
		c.Add(id)
	}
	return c
}

// What belongs to a call that was taken in is known by any of its identifiers, and a call that goes on is not forgotten for new ones.
func TestCalls(t *testing.T) {
	c := new(Calls)
	if c.has(callOf(5), 1) {
		t.Error("an empty table knows a call")
	}
	c.add(callOf(5, 6), 1)
	for _, id := range []uint64{5, 6} {
		if !c.has(callOf(99, id), 2) {
			t.Errorf("call %d is not known", id)
		}
	}
	if c.has(callOf(7), 2) || c.has(callOf(), 2) {
		t.Error("a call is known that was never taken in")
	}
	for i := range uint64(4 * callSets * callWays) {
		c.add(callOf(1000+i*0x9e3779b97f4a7c15), int64(10+i))
		if !c.has(callOf(5), int64(10+i)) {
			t.Fatalf("a call that goes on is forgotten after %d others", i)
		}
	}
	if c.has(callOf(6), 1<<40) {
		t.Error("a call of which nothing was seen for long is still known: the table does not forget")
	}
	if n := testing.AllocsPerRun(100, func() { c.add(callOf(5), 1); c.has(callOf(1), 1) }); n > 0 {
		t.Errorf("%.1f allocations", n)
	}
}

// A rule for a call's messages is for its media too.
func TestRulesFollowCalls(t *testing.T) {
	f, err := filter.Compile("port == 5060", nil)
	if err != nil {
		t.Fatal(err)
	}
	r := NewSet([]Rule{{Filter: f, Calls: new(Calls), Action: Discard}})
	message, media, other := callOf(1), callOf(1), callOf(2)
	if r.follow(media, 0, 1) != 0 {
		t.Error("media of a call that nothing is known of matches")
	}
	r.follow(message, 1, 2)
	if r.follow(media, 0, 3) != 1 || r.follow(other, 0, 3) != 0 {
		t.Error("media of the call does not match, or that of another one does")
	}
}
