package capture

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"galvo/services/internal/flow"
	"galvo/services/internal/l7"
	"galvo/services/internal/l7/call"
	"galvo/services/internal/l7/protocol"
	"galvo/services/internal/packet"
	"galvo/services/internal/pcapng"
	"galvo/services/internal/pipeline"
	"galvo/services/internal/sink"
)

// A talk is a flow of a test.
type talk struct {
	rec     flow.Record
	verdict l7.Verdict
	sent    int
}

// say appends the flow's next packet to a batch.
func (f *talk) say(b *pipeline.Batch, number uint64, time int64) {
	f.sent++
	p := frame(number, 100, time, 0)
	b.Packets = append(b.Packets, p)
	b.Meta = append(b.Meta, pipeline.Meta{Ref: flow.Ref{Flow: &f.rec, Outer: &f.rec}, L7: f.verdict})
	b.Now = time
}

var pending = l7.Verdict{State: l7.Pending}

func TestHeldPacketsFollowTheVerdict(t *testing.T) {
	cs := newCaptures(t, Options{})
	var out bytes.Buffer
	c, wait := begin(t, cs, Spec{Filter: compile(t, "l7Protocol == DNS"), Expression: "x", Hold: true, HoldBytes: 1 << 20}, sink.NewWriter(&out, "buffer"))
	dns, tls := &talk{rec: flow.Record{ID: 1}, verdict: pending}, &talk{rec: flow.Record{ID: 2}, verdict: pending}
	first := &pipeline.Batch{}
	dns.say(first, 1, 100)
	tls.say(first, 2, 200)
	dns.say(first, 3, 300)
	cs.Stage(0).Process(first)
	if v := cs.List()[0]; v.Held != 3 || v.Captured != 0 {
		t.Errorf("while all is pending: %+v", v)
	}
	dns.verdict = l7.Verdict{Proto: protocol.DNS, State: l7.Final}
	tls.verdict = l7.Verdict{Proto: protocol.TLS, State: l7.Partial}
	second := &pipeline.Batch{}
	tls.say(second, 4, 400)
	dns.say(second, 5, 500)
	cs.Stage(0).Process(second)
	if v := cs.List()[0]; v.Held != 0 || v.Captured != 3 || v.Ignored != 2 {
		t.Errorf("after the verdicts: %+v", v)
	}
	c.Finish("end")
	if err := wait(); err != nil {
		t.Fatal(err)
	}
	var got []uint64
	for _, p := range read(t, out.Bytes()) {
		got = append(got, number(p.Data))
	}
	if fmt.Sprint(got) != "[1 3 5]" {
		t.Errorf("the file has %v", got)
	}
}

// TestHeldPacketsLearnTheirCall: a packet that begins a SIP message waits until the packet that ends its header tells the call, and not longer.
func TestHeldPacketsLearnTheirCall(t *testing.T) {
	id := call.ID([]byte("a@b"))
	waiting := func(message uint32) *flow.Call { return &flow.Call{Pending: true, Message: message} }
	tells := func(message uint32, ids ...uint64) *flow.Call {
		c := &flow.Call{Continues: message, Own: uint8(len(ids))}
		copy(c.IDs[:], ids)
		return c
	}
	for expression, want := range map[string]string{`callId == "a@b"`: "[1 2 5 6]", `callId != "a@b"`: "[3 4]"} {
		cs := newCaptures(t, Options{})
		var out bytes.Buffer
		c, wait := begin(t, cs, Spec{Filter: compile(t, expression), Expression: "x", Hold: true, HoldBytes: 1 << 20}, sink.NewWriter(&out, "buffer"))
		sip := &talk{rec: flow.Record{ID: 1}, verdict: l7.Verdict{Proto: protocol.SIP, State: l7.Final}}
		for i, call := range []*flow.Call{waiting(2), tells(2, id), waiting(4), tells(4, id+1), waiting(6), tells(6, id)} {
			b := &pipeline.Batch{}
			sip.say(b, uint64(i+1), int64(i+1)*100)
			b.Meta[0].Call = call
			cs.Stage(0).Process(b)
			*call = flow.Call{} // it is valid in its batch only
			if v := cs.List()[0]; i%2 == 0 && v.Held != 1 || i%2 == 1 && v.Held != 0 {
				t.Errorf("%s: %d held after packet %d", expression, v.Held, i+1)
			}
		}
		c.Finish("end")
		if err := wait(); err != nil {
			t.Fatal(err)
		}
		var got []uint64
		for _, p := range read(t, out.Bytes()) {
			got = append(got, number(p.Data))
		}
		if fmt.Sprint(got) != want {
			t.Errorf("%s: %v, want %s", expression, got, want)
		}
	}
}

// What a savefile says of a packet waits with it.
func TestHeldPacketsKeepTheirComments(t *testing.T) {
	cs := newCaptures(t, Options{})
	var out bytes.Buffer
	c, wait := begin(t, cs, Spec{Filter: compile(t, "l7Protocol == DNS"), Expression: "x", Hold: true, HoldBytes: 1 << 20, Block: true}, sink.NewWriter(&out, "buffer"))
	f := &talk{rec: flow.Record{ID: 1}, verdict: pending}
	for i := range uint64(4) {
		if i == 3 {
			f.verdict = l7.Verdict{Proto: protocol.DNS, State: l7.Final}
		}
		b := &pipeline.Batch{}
		f.say(b, i, int64(i+1)*100)
		b.Options = [][]byte{nil}
		if i != 1 {
			b.Options[0] = pcapng.AppendComment(nil, fmt.Sprint("about ", i))
		}
		cs.Stage(0).Process(b)
		clear(b.Options[0]) // it is valid in its batch only
	}
	c.Finish("end")
	if err := wait(); err != nil {
		t.Fatal(err)
	}
	r, err := pcapng.NewReader(&out)
	if err != nil {
		t.Fatal(err)
	}
	packets := make([]packet.Packet, 10)
	n, err := r.Read(packets)
	for i, p := range packets[:n] {
		var want []byte
		if number(p.Data) != 1 {
			want = pcapng.AppendComment(nil, fmt.Sprint("about ", number(p.Data)))
		}
		if !bytes.Equal(r.Options(i), want) || int(number(p.Data)) != i {
			t.Errorf("packet %d is number %d with options %q, want %q", i, number(p.Data), r.Options(i), want)
		}
	}
	if n != 4 || err != nil {
		t.Errorf("%d packets, %v", n, err)
	}
}

func TestSilentFlowsAreGivenUp(t *testing.T) {
	for expression, want := range map[string]string{"l7Protocol == unknown": "1 captured", "l7Protocol == DNS": "1 ignored"} {
		cs := newCaptures(t, Options{})
		c, wait := begin(t, cs, Spec{Filter: compile(t, expression), Expression: "x", Hold: true, HoldBytes: 1 << 20}, sink.Discard{})
		f, b := &talk{rec: flow.Record{ID: 1}, verdict: pending}, &pipeline.Batch{}
		f.say(b, 1, 100)
		cs.Stage(0).Process(b)
		cs.Stage(0).Process(&pipeline.Batch{Now: 4e9})
		if v := cs.List()[0]; v.Held != 1 {
			t.Errorf("after 4 s: %+v", v)
		}
		cs.Stage(0).Process(&pipeline.Batch{Now: 6e9})
		v := cs.List()[0]
		if got := fmt.Sprint(v.Captured, " captured"); v.Held != 0 || got != want && fmt.Sprint(v.Ignored, " ignored") != want {
			t.Errorf("after 6 s, %s: %+v", expression, v)
		}
		c.Finish("end")
		wait()
	}
}

// What is held at the end of a live capture stays held; at the end of a savefile the flows have no verdict.
func TestHeldAtTheEnd(t *testing.T) {
	for _, past := range []bool{false, true} {
		cs := newCaptures(t, Options{})
		c, wait := begin(t, cs, Spec{Filter: compile(t, "l7Protocol != DNS"), Expression: "x", Hold: true, HoldBytes: 1 << 20, Block: past}, sink.Discard{})
		f, b := &talk{rec: flow.Record{ID: 1}, verdict: pending}, &pipeline.Batch{}
		f.say(b, 1, 100)
		cs.Stage(0).Process(b)
		cs.Stage(0).Finish()
		c.Finish("end")
		wait()
		if v := cs.Finished()[0]; past && v.Captured != 1 || !past && v.Held != 1 {
			t.Errorf("past %v: %+v", past, v)
		}
	}
}

// Of the past packets wait for verdicts that come behind the capture's end, which takes nothing else of there. The reason is the capture's end whether that is noticed
// before the source has ended, or then.
func TestHeldPastTheEnd(t *testing.T) {
	for _, c := range []struct {
		then   l7.Verdict // of the flow behind the end
		beyond bool       // anything comes behind the end
		want   string
	}{
		{l7.Verdict{Proto: protocol.DNS, State: l7.Final}, true, "2 captured, 2 ignored, 0 held: end time"},
		{l7.Verdict{Proto: protocol.TLS, State: l7.Final}, true, "0 captured, 4 ignored, 0 held: end time"},
		{pending, true, "0 captured, 4 ignored, 0 held: end time"},
		{pending, false, "0 captured, 4 ignored, 0 held: end of the savefiles"},
	} {
		cs := newCaptures(t, Options{})
		var out bytes.Buffer
		one, wait := begin(t, cs, Spec{Filter: compile(t, "l7Protocol == DNS"), Expression: "x", Hold: true, HoldBytes: 1 << 20, Block: true, End: 400}, sink.NewWriter(&out, "buffer"))
		other := &talk{rec: flow.Record{ID: 2}, verdict: l7.Verdict{Proto: protocol.TLS, State: l7.Final}}
		f, b := &talk{rec: flow.Record{ID: 1}, verdict: pending}, &pipeline.Batch{}
		f.say(b, 1, 100)
		other.say(b, 2, 200)
		f.say(b, 3, 300)
		other.say(b, 4, 301)
		cs.Stage(0).Process(b)
		if c.beyond {
			b = &pipeline.Batch{}
			other.say(b, 5, 500)
			cs.Stage(0).Process(b)
			f.verdict, b = c.then, &pipeline.Batch{}
			f.say(b, 6, 600)
			cs.Stage(0).Process(b)
		}
		cs.Stage(0).Finish()
		one.Exhaust("end of the savefiles")
		wait()
		v := cs.Finished()[0]
		if got := fmt.Sprintf("%d captured, %d ignored, %d held: %s", v.Captured, v.Ignored, v.Held, v.Reason); got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
}

func TestHoldOverflowIsDropped(t *testing.T) {
	cs := newCaptures(t, Options{})
	c, wait := begin(t, cs, Spec{Filter: compile(t, "l7Protocol == DNS"), Expression: "x", Hold: true, HoldBytes: 1}, sink.Discard{})
	f := &talk{rec: flow.Record{ID: 1}, verdict: pending}
	for i := range uint64(100) {
		b := &pipeline.Batch{}
		f.say(b, i, int64(i))
		cs.Stage(0).Process(b)
	}
	v := cs.List()[0]
	if room := uint64(len(c.lanes[0].hold.items)); v.Held != room || v.Dropped != 100-room {
		t.Errorf("%d items: %+v", room, v)
	}
	f.verdict = l7.Verdict{Proto: protocol.DNS, State: l7.Final}
	b := &pipeline.Batch{}
	f.say(b, 100, 100)
	cs.Stage(0).Process(b)
	if v := cs.List()[0]; v.Held != 0 || v.Captured != 65 {
		t.Errorf("after the verdict: %+v", v)
	}
	c.Finish("end")
	wait()
}

// Random flows with random verdicts: a packet is in the file exactly if its flow's verdict within the time says so, and the packets of a
// flow are in order.
func TestHoldIsTheVerdictInTime(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for round := range uint64(20) {
		holdRound(t, rand.New(rand.NewPCG(seed, round)))
	}
}

func holdRound(t *testing.T, rng *rand.Rand) {
	cs := newCaptures(t, Options{})
	var out bytes.Buffer
	// The second operand makes some packets of a DNS flow match at once, and others only with the verdict.
	f := compile(t, "l7Protocol == DNS and vlan == 0-29 or vlan == 50-59")
	c, wait := begin(t, cs, Spec{Filter: f, Expression: "x", Hold: true, HoldBytes: 8 << 20}, sink.NewWriter(&out, "buffer"))
	type sent struct {
		flow uint64
		time int64
	}
	flows := make([]*talk, 50)
	packets := map[uint64]sent{}
	decided := map[uint64]int64{} // when a flow got its verdict
	isDNS := map[uint64]bool{}
	frames := uint64(0)
	now := int64(1e9)
	for id := range flows {
		flows[id] = &talk{rec: flow.Record{ID: uint64(id + 1)}, verdict: pending}
	}
	for range 200 {
		b := &pipeline.Batch{}
		for range rng.IntN(20) {
			now += int64(rng.IntN(20e6))
			fl := flows[rng.IntN(len(flows))]
			if fl.sent > 3 && rng.IntN(10) == 0 && fl.verdict == pending {
				fl.verdict = l7.Verdict{Proto: []protocol.ID{protocol.DNS, protocol.TLS}[rng.IntN(2)], State: l7.Final}
				decided[fl.rec.ID], isDNS[fl.rec.ID] = now, fl.verdict.Proto == protocol.DNS
			}
			fl.say(b, frames, now)
			packets[frames] = sent{fl.rec.ID, now}
			frames++
		}
		b.Now = now
		cs.Stage(0).Process(b)
		if v := cs.List()[0]; total(&v) != frames {
			t.Fatalf("%d frames passed, counters are %+v", frames, v.Counters)
		}
	}
	now += 6e9
	cs.Stage(0).Process(&pipeline.Batch{Now: now})
	c.Finish("end")
	if err := wait(); err != nil {
		t.Fatal(err)
	}
	got := map[uint64]bool{}
	last := map[uint64]uint64{}
	for _, p := range read(t, out.Bytes()) {
		n := number(p.Data)
		id := packets[n].flow
		if got[n] || last[id] > n {
			t.Fatalf("packet %d comes twice or behind %d", n, last[id])
		}
		got[n], last[id] = true, n
	}
	for n, p := range packets {
		want := n%60 >= 50
		if at, ok := decided[p.flow]; ok && n%60 < 30 && isDNS[p.flow] {
			want = at-p.time < holdLive
		}
		if want != got[n] {
			t.Errorf("packet %d of flow %d at %d (verdict at %d, DNS %v): in the file %v, want %v", n, p.flow, p.time, decided[p.flow], isDNS[p.flow], got[n], want)
		}
	}
	v := cs.Finished()[0]
	if v.Held != 0 || v.Dropped != 0 || v.Captured != uint64(len(got)) {
		t.Errorf("%d packets in the file: %+v", len(got), v)
	}
}
