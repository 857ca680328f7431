package pipeline

import (
	"context"
	"encoding/hex"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"galvo/services/internal/flow"
	"galvo/services/internal/l7"
	"galvo/services/internal/l7/call"
	"galvo/services/internal/packet"
	"galvo/services/internal/packet/packettest"
)

// invitation is a UDP packet with a SIP message whose SDP announces media.
func invitation() packet.Frame {
	sdp := "v=0\r\no=a 1 1 IN IP4 10.0.0.1\r\ns=-\r\nc=IN IP4 10.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n"
	sip := "INVITE sip:b@example.com SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.1;branch=z9hG4bK1\r\nFrom: <sip:a@example.com>;tag=1\r\nTo: <sip:b@example.com>\r\n" +
		"Call-ID: 1@example.com\r\nCSeq: 1 INVITE\r\nContent-Type: application/sdp\r\nContent-Length: " + strconv.Itoa(len(sdp)) + "\r\n\r\n" + sdp
	b := packettest.Ethernet(0x0800, packettest.IP(17, netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2"), packettest.UDP(5062, 5060, []byte(sip))))
	return packet.Frame{Data: b, Len: uint32(len(b)), Iface: 1, Time: 1e9}
}

// TestPanicIsOnePacket gives l7 a table of calls that was not made, so that a SIP message that announces media panics: its flow is not looked at again, and all
// others are as they would be.
func TestPanicIsOnePacket(t *testing.T) {
	var seen tally
	var told []*Panic
	var verdicts []l7.Verdict
	list := frames(20)
	list[3], list[7], list[18] = invitation(), invitation(), invitation()
	w := &Worker{
		Source: &loop{list, 3, io.EOF}, Flows: flow.New(flow.Config{Flows: 1024}), L7: l7.New(l7.Config{Calls: new(call.Table)}), Stages: []Stage{&seen, &lastVerdicts{&verdicts}},
		OnPanic: func(p *Panic) { told = append(told, p) },
	}
	if err := w.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	if want := (tally{batches: 3, packets: 60, flows: 60, wrong: 9}); seen != want {
		t.Errorf("the stage saw %+v, want %+v", seen, want)
	}
	if len(told) != 1 {
		t.Fatalf("%d panics, want 1", len(told))
	}
	p := told[0]
	if p.Flow != "IP protocol 17, 10.0.0.1:5062 and 10.0.0.2:5060" || !strings.Contains(p.Frame, hex.EncodeToString([]byte("INVITE"))) || !strings.Contains(p.Stack, "call.(*Table)") || p.Error() == "" {
		t.Errorf("told %+v", p)
	}
	for i, v := range verdicts {
		want := l7.Pending
		if i == 3 || i == 7 || i == 18 {
			want = l7.Unknown
		}
		if v.State != want {
			t.Errorf("packet %d is %v, want %v", i, v.State, want)
		}
	}
}

// lastVerdicts is a stage that keeps the verdicts of a batch.
type lastVerdicts struct{ of *[]l7.Verdict }

func (s *lastVerdicts) Process(b *Batch) {
	*s.of = nil
	for i := range b.Meta {
		*s.of = append(*s.of, b.Meta[i].L7)
	}
}

// TestPanicOfDecoding lets Decode meet a frame that no source makes: that of a port without a description.
func TestPanicOfDecoding(t *testing.T) {
	var seen tally
	told := 0
	f := frames(20)
	f[17].Iface = 9 // which has no description
	w := &Worker{Source: &loop{f, 1, io.EOF}, Stages: []Stage{&seen}, OnPanic: func(*Panic) { told++ }}
	if err := w.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	if told != 1 || seen.packets != 20 || seen.wrong != 1 || w.batch.Packets[:20][17].Layers != 0 {
		t.Errorf("%d panics, %d packets, %d of them not decoded", told, seen.packets, seen.wrong)
	}
}

// TestPanicGoesOn is a worker that nobody wants to hear of panics from, and one whose flow table panics, which nothing may be built on any more.
func TestPanicGoesOn(t *testing.T) {
	for _, c := range []struct {
		name string
		w    *Worker
	}{
		{"nobody is told", &Worker{Source: &loop{frames(1), 1, io.EOF}, Flows: flow.New(flow.Config{}), L7: new(l7.Engine)}},
		{"flow table", &Worker{Source: &loop{frames(1), 1, io.EOF}, Flows: new(flow.Table), L7: new(l7.Engine), OnPanic: func(*Panic) { t.Error("it was told") }}},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: it did not panic", c.name)
				}
			}()
			_ = c.w.Run(context.Background())
		}()
	}
}
