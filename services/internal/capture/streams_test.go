package capture

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"galvo/services/internal/flow"
	"galvo/services/internal/l7"
	"galvo/services/internal/l7/protocol"
	"galvo/services/internal/packet"
	"galvo/services/internal/packet/packettest"
	"galvo/services/internal/pipeline"
	"galvo/services/internal/sink"
)

// segments makes a batch of segments of one flow; what is known of their stream lies in an arena that the next batch uses again.
func segments(rec *flow.Record, v l7.Verdict, arena []byte, texts ...string) *pipeline.Batch {
	b := &pipeline.Batch{}
	a := netip.MustParseAddr("10.0.0.1")
	for i, text := range texts {
		before, new, _ := strings.Cut(text, "|")
		p := packet.Packet{Frame: packet.Frame{Data: packettest.Ethernet(0x0800, packettest.IP(6, a, a, packettest.TCP(1, 80, 16, 1, []byte(new)))), Time: rec.Last}}
		p.Len = uint32(len(p.Data))
		p.Decode(packet.LinkEthernet)
		kept := arena[i*16:][:len(before)]
		copy(kept, before)
		b.Packets = append(b.Packets, p)
		b.Meta = append(b.Meta, pipeline.Meta{Ref: flow.Ref{Flow: rec, Outer: rec, Stream: &flow.Stream{Before: kept, New: len(new)}}, L7: v})
		b.Now = rec.Last
	}
	return b
}

// TestHeldPacketsKeepTheirStream: a packet that waits for the verdict of its flow is judged by what came before it, not by what is in that place since.
func TestHeldPacketsKeepTheirStream(t *testing.T) {
	cs := newCaptures(t, Options{})
	var out bytes.Buffer
	c, wait := begin(t, cs, Spec{Filter: compile(t, `l7Protocol == HTTP and streamRegexp == "needle"`), Expression: "x", Hold: true, HoldBytes: 1 << 20}, sink.NewWriter(&out, "buffer"))
	if n := cs.Stage(0).StreamReach(); n != len("needle") {
		t.Errorf("the stage looks %d bytes into streams", n)
	}
	rec, arena := &flow.Record{ID: 1, Last: 100}, make([]byte, 64)
	cs.Stage(0).Process(segments(rec, pending, arena, "nee|dle 1", "nee|dla 2", "x|needle 3"))
	for i := range arena {
		arena[i] = 'n'
	}
	if v := cs.List()[0]; v.Held != 2 || v.Ignored != 1 {
		t.Errorf("while all is pending: %+v", v)
	}
	cs.Stage(0).Process(segments(rec, l7.Verdict{Proto: protocol.HTTP, State: l7.Final}, arena, "needl|e 4", "needle|5"))
	c.Finish("end")
	if err := wait(); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range read(t, out.Bytes()) {
		got = append(got, string(p.Data[len(p.Data)-1:]))
	}
	if fmt.Sprint(got) != "[1 3 4]" {
		t.Errorf("the file has %v", got)
	}
	if n := cs.Stage(0).StreamReach(); n != 0 {
		t.Errorf("after the last capture the stage looks %d bytes into streams", n)
	}
}

// TestForgottenStreamsAreCounted: for the captures that would have looked at them.
func TestForgottenStreamsAreCounted(t *testing.T) {
	cs := newCaptures(t, Options{Max: 4})
	for _, expression := range []string{`streamRegexp == "needle"`, `regexp == "needle"`} {
		_, wait := begin(t, cs, Spec{Filter: compile(t, expression), Expression: expression}, sink.Discard{})
		defer wait()
	}
	b := segments(&flow.Record{ID: 1, Last: 100}, pending, make([]byte, 64), "|needle", "|a", "|b")
	b.Meta[1].Stream.Forgotten, b.Meta[2].Stream.Forgotten = true, true
	cs.Stage(0).Process(b)
	for _, v := range cs.List() {
		if want := uint64(2); strings.HasPrefix(v.Expression, "stream") && v.Forgotten != want || v.Expression[0] == 'r' && v.Forgotten != 0 {
			t.Errorf("%s: %d are forgotten", v.Expression, v.Forgotten)
		}
	}
	for _, v := range cs.List() {
		cs.Stop(v.ID, "end")
	}
}
