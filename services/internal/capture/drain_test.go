package capture

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"galvo/ci/need"
	"galvo/ci/pace"
	"galvo/services/api"
	"galvo/services/internal/packet"
	"galvo/services/internal/pcapng"
	"galvo/services/internal/pipeline"
	"galvo/services/internal/sink"
)

// until waits for a state.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

func TestSinglePacketArrivesSoon(t *testing.T) {
	cs := newCaptures(t, Options{Source: Source{Workers: 2}})
	m := newMoody("good", 0)
	c, wait := begin(t, cs, Spec{}, m)
	until(t, "the header comes before any packet", func() bool { return m.size() > 0 })
	pace.Within(t, 200*time.Millisecond, func() time.Duration {
		before, start := m.size(), time.Now()
		cs.Stage(0).Process(batchOf(0, frame(1, 60, start.UnixNano(), 0))) // worker 1 sleeps and says nothing
		until(t, "the packet", func() bool { return m.size() > before })
		return time.Since(start)
	})
	c.Finish("end")
	wait()
}

// drainByHand starts a capture whose packets leave when the test makes a pass, by the time that it gives.
func drainByHand(t *testing.T, cs *Captures, spec Spec, m *moody) *drain {
	t.Helper()
	c, err := cs.Start(spec)
	if err == nil {
		err = c.attach(m)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Finish("end")
		cs.retire(c)
	})
	d := newDrain(t.Context(), c, m)
	d.writeHeader("")
	return d
}

// Packets of two workers leave in the order of time, although one of them is ahead.
func TestOrderOverWorkers(t *testing.T) {
	cs := newCaptures(t, Options{Source: Source{Workers: 2}})
	m := newMoody("good", 0)
	d := drainByHand(t, cs, Spec{QueueBytes: 4 << 20}, m)
	start := time.Now().UnixNano()
	look := func() { // at the time of the first packet: the test may take as long as it likes
		for d.pass(time.Unix(0, start), false) {
		}
	}
	var packets [2][]packet.Packet
	for i := range uint64(400) {
		packets[i/20%2] = append(packets[i/20%2], frame(i, 60, start+int64(i)*1e6, 0))
	}
	for w := range 2 {
		for at := 0; at < 200; at += 50 {
			cs.Stage(w).Process(batchOf(w, packets[w][at:at+50]...))
			look()
		}
	}
	cs.Stage(0).Finish()
	look()
	cs.Stage(1).Finish()
	look()
	got := read(t, m.taken.Bytes())
	for i, p := range got {
		if number(p.Data) != uint64(i) {
			t.Fatalf("packet %d is number %d", i, number(p.Data))
		}
	}
	if len(got) != 400 {
		t.Errorf("%d packets", len(got))
	}
}

// Packets wait for a worker that does not come to its turn, until they are 150 ms old; or less long, when the queue is filling up.
func TestStalledWorker(t *testing.T) {
	cs := newCaptures(t, Options{Source: Source{Workers: 2}})
	m := newMoody("good", 0)
	d := drainByHand(t, cs, Spec{QueueBytes: 8 * chunkSize}, m)
	start := time.Now()
	at := func(ms int) int64 { return start.Add(time.Duration(ms) * time.Millisecond).UnixNano() }
	var want []uint64
	look := func(ms int, more ...uint64) {
		t.Helper()
		for d.pass(time.Unix(0, at(ms)), false) {
		}
		want = append(want, more...)
		packets, _ := readSome(m.bytes())
		var got []uint64
		for _, p := range packets {
			got = append(got, number(p.Data))
		}
		if !slices.Equal(got, want) {
			t.Fatalf("after %d ms packets %v have left, want %v", ms, got, want)
		}
	}
	cs.Stage(0).Process(batchOf(0, frame(1, 60, at(0), 0), frame(4, 60, at(30), 0)))
	look(60)
	look(149)
	cs.Stage(1).Process(batchOf(1, frame(0, 60, at(-5), 0), frame(2, 60, at(10), 0)))
	look(150, 0, 1, 2)
	cs.Stage(1).Process(batchOf(1, frame(3, 60, at(20), 0)))
	look(151, 3)
	look(181, 4) // nobody has come past it, and it is old enough
	cs.Stage(0).Process(batchOf(0, frame(6, 60, at(200), 0)))
	cs.Stage(1).Process(&pipeline.Batch{Now: at(300), Given: at(190), Worker: 1})
	look(320)
	cs.Stage(1).Process(batchOf(1, frame(5, 60, at(195), 0)))
	look(321, 5)
	cs.Stage(1).Process(&pipeline.Batch{Now: at(345), Given: at(201), Worker: 1})
	look(345, 6)

	// A queue three quarters full does not wait: packets would be dropped. The oldest ones leave, as many as it takes.
	for i := range uint64(14) {
		cs.Stage(0).Process(batchOf(0, frame(100+i, chunkSize/2-200, at(400+int(i)), 0)))
	}
	for d.pass(time.Unix(0, at(420)), false) {
	}
	packets, _ := readSome(m.bytes())
	if n := len(packets) - len(want); n == 0 || n == 14 {
		t.Errorf("%d of 14 packets left a queue that was filling up", n)
	}
	d.c.Finish("end")
	for d.pass(time.Now(), true) {
	}
	if packets := read(t, m.bytes()); len(packets) != len(want)+14 {
		t.Errorf("%d packets", len(packets))
	}
}

// Nobody waits for what goes to a storage device: packets wait there for a worker that does not come to its turn, however old they are, for 2 s.
func TestStalledWorkerToDisk(t *testing.T) {
	cs := newCaptures(t, Options{Source: Source{Workers: 2}})
	m := newMoody("good", 0)
	d := drainByHand(t, cs, Spec{QueueBytes: 8 * chunkSize}, m)
	d.split = split{files: toDisk(t, t.TempDir(), 0), open: true, until: math.MaxInt64}
	start := time.Now()
	at := func(ms int) int64 { return start.Add(time.Duration(ms) * time.Millisecond).UnixNano() }
	look := func(ms int, want ...uint64) {
		t.Helper()
		for d.pass(time.Unix(0, at(ms)), false) {
		}
		packets, _ := readSome(m.bytes())
		var got []uint64
		for _, p := range packets {
			got = append(got, number(p.Data))
		}
		if !slices.Equal(got, want) {
			t.Fatalf("after %d ms packets %v have left, want %v", ms, got, want)
		}
	}
	cs.Stage(1).Process(batchOf(1, frame(0, 60, at(0), 0)))
	cs.Stage(0).Process(batchOf(0, frame(1, 60, at(1), 0), frame(3, 60, at(20), 0)))
	look(5000, 0)
	look(6900, 0)
	cs.Stage(1).Process(batchOf(1, frame(2, 60, at(10), 0)))
	look(6950, 0, 1, 2)
	look(8900, 0, 1, 2)
	look(8951, 0, 1, 2, 3)
}

// The end by the clock waits for a worker that is known to be behind, since the whole process may have had no turn; but not for ever.
func TestEndWaitsForWorkers(t *testing.T) {
	for _, comes := range []bool{true, false} {
		cs := newCaptures(t, Options{})
		start := time.Now().UnixNano()
		end := start + int64(50*time.Millisecond)
		d := drainByHand(t, cs, Spec{End: end}, newMoody("good", 0))
		cs.Stage(0).Process(batchOf(0, frame(0, 60, start, 0)))
		until(t, "the end", func() bool { return time.Now().Add(-endSlack).UnixNano() > end })
		if d.expired() {
			t.Error("it has ended without what its worker has not looked at yet")
		}
		if comes {
			cs.Stage(0).Process(batchOf(0, frame(1, 60, end-1, 0), frame(2, 60, end, 0)))
		} else {
			d.ending = d.ending.Add(-lagWait)
		}
		if !d.expired() {
			t.Errorf("it goes on, the worker's frames have come: %t", comes)
		}
		for d.pass(time.Now(), true) {
		}
		if want := map[bool]uint64{true: 2, false: 1}[comes]; d.c.delivered.Load() != want {
			t.Errorf("%d packets, want %d", d.c.delivered.Load(), want)
		}
	}
}

func TestWindowIsHalfOpen(t *testing.T) {
	cs := newCaptures(t, Options{})
	m := newMoody("good", 0)
	_, wait := begin(t, cs, Spec{Block: true, Start: 1000, End: 2000}, m)
	for i := range uint64(30) {
		cs.Stage(0).Process(batchOf(0, frame(2*i, 60, int64(i)*100, 0), frame(2*i+1, 60, int64(i)*100+50, 0)))
	}
	if err := wait(); err != nil {
		t.Fatal(err)
	}
	got := read(t, m.taken.Bytes())
	if len(got) != 20 || got[0].Time != 1000 || got[19].Time != 1950 {
		t.Errorf("%d packets", len(got))
	}
	if v := cs.Finished()[0]; total(&v) != 20 || v.Reason != "end time" {
		t.Errorf("%+v", v)
	}
}

func TestEndsByTheClock(t *testing.T) {
	cs := newCaptures(t, Options{})
	pace.Within(t, 2*time.Second, func() time.Duration {
		now := time.Now()
		_, wait := begin(t, cs, Spec{End: now.Add(50 * time.Millisecond).UnixNano()}, sink.Discard{})
		wait()
		if v := cs.Finished()[0]; v.Reason != "end time" && v.Reason != endPassed {
			t.Errorf("%+v", v)
		}
		return time.Since(now)
	})
	_, wait := begin(t, cs, Spec{MaxDuration: 50 * time.Millisecond}, sink.Discard{})
	wait()
	if v := cs.Finished()[0]; v.Reason != "time limit" {
		t.Errorf("%+v", v)
	}
}

func TestWaitsForItsStart(t *testing.T) {
	cs := newCaptures(t, Options{})
	start := time.Now().Add(time.Hour).UnixNano()
	c, wait := begin(t, cs, Spec{Start: start}, sink.Discard{})
	cs.Stage(0).Process(batchOf(0, frame(1, 60, start-1, 0)))
	if v := cs.List()[0]; v.State != Waiting || total(&v) != 0 || v.StartTime != start/1000 {
		t.Errorf("before: %+v", v)
	}
	cs.Stage(0).Process(batchOf(0, frame(1, 60, start, 0)))
	if v := cs.List()[0]; v.State != Running || v.Captured != 1 {
		t.Errorf("at the start: %+v", v)
	}
	c.Finish("end")
	wait()
}

func TestClientsThatLeave(t *testing.T) {
	cs := newCaptures(t, Options{})
	c, err := cs.Start(Spec{QueueBytes: 1})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c.Run(ctx, newMoody("blocks", 0))
	if v := cs.Finished()[0]; v.Reason != "client disconnected" || v.State != Finished {
		t.Errorf("%+v", v)
	}
	if err := c.Run(ctx, sink.Discard{}); err == nil {
		t.Error("a capture was run twice")
	}

	c, _ = cs.Start(Spec{QueueBytes: 1})
	ctx, cancelCause := context.WithCancelCause(t.Context())
	cancelCause(errors.New("the reader was interrupted"))
	c.Run(ctx, sink.Discard{})
	if v := cs.Finished()[0]; v.Reason != "the reader was interrupted" {
		t.Errorf("%+v", v)
	}

	c, wait := begin(t, cs, Spec{}, newMoody("blocks", 0))
	cs.Close(t.Context(), "the engine was stopped")
	wait()
	if v := cs.Finished()[0]; v.State != Interrupted || v.Reason != "the engine was stopped" || v.ID != c.ID() {
		t.Errorf("%+v", v)
	}
}

// A capture whose source has come to its end, and whose sink did not take what was left, says what was wrong with the sink; one that somebody has stopped, who stopped it.
func TestSinkFailsAtTheEnd(t *testing.T) {
	for want, stop := range map[string]func(cs *Captures, c *Capture){
		"client disconnected": func(_ *Captures, c *Capture) { c.Finish("end time") },
		"stopped by somebody": func(cs *Captures, c *Capture) { cs.Stop(c.ID(), "stopped by somebody") },
	} {
		cs := newCaptures(t, Options{})
		c, err := cs.Start(Spec{Block: true, QueueBytes: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- c.Run(ctx, newMoody("blocks", 0)) }()
		<-c.Attached()
		for i := range uint64(10) {
			cs.Stage(0).Process(batchOf(0, frame(i, 100, int64(i+1), 0)))
		}
		cs.Stage(0).Finish()
		stop(cs, c)
		cancel()
		<-done
		if v := cs.Finished()[0]; v.Reason != want || v.Dropped != 10 || v.State != Finished {
			t.Errorf("%+v, want %q", v, want)
		}
	}
}

// A source that may be blocked loses nothing, however small the queue.
func TestBlockingLosesNothing(t *testing.T) {
	for workers := 1; workers <= 2; workers++ {
		cs := newCaptures(t, Options{Source: Source{Workers: workers}})
		m := newMoody("slow", 0)
		c, wait := begin(t, cs, Spec{Block: true, QueueBytes: 1}, m)
		for i := range uint64(3000) {
			w := int(i) % workers
			cs.Stage(w).Process(batchOf(w, frame(i, 1400, int64(i+1), 0)))
		}
		for w := range workers {
			cs.Stage(w).Finish()
		}
		c.Finish("end of the savefile")
		if err := wait(); err != nil {
			t.Fatal(err)
		}
		v := cs.Finished()[0]
		if got := read(t, m.taken.Bytes()); len(got) != 3000 || v.Captured != 3000 || v.Dropped != 0 {
			t.Errorf("%d workers: %d packets, %+v", workers, len(got), v)
		}
	}
}

func TestOtherLinkType(t *testing.T) {
	table := []pipeline.Interface{{Port: 1, Link: packet.LinkEthernet}}
	var grown atomic.Pointer[[]pipeline.Interface]
	grown.Store(&table)
	cs := newCaptures(t, Options{Source: Source{Interfaces: func() []pipeline.Interface { return *grown.Load() }}})
	for _, spec := range []Spec{{Format: Pcap}, {SingleInterface: true}} {
		grown.Store(&table)
		m := newMoody("good", 0)
		_, wait := begin(t, cs, spec, m)
		cs.Stage(0).Process(batchOf(0, frame(1, 60, 1, 0)))
		more := append(table[:1:1], pipeline.Interface{Port: 2, Link: packet.LinkRaw})
		grown.Store(&more)
		cs.Stage(0).Process(batchOf(0, frame(2, 60, 2, 0), frame(3, 60, 3, 1), frame(4, 60, 4, 0)))
		err := wait()
		v := cs.Finished()[0]
		if err == nil || !strings.Contains(err.Error(), "link type 101") || v.State != Failed || v.Captured != 2 || total(&v) != 2 {
			t.Errorf("Run = %v, %+v", err, v)
		}
		if _, err := cs.Start(spec); err == nil {
			t.Error("a capture that cannot hold both link types was started")
		}
	}
}

// Interfaces that come later are described before their first packet.
func TestInterfacesThatComeLater(t *testing.T) {
	table := []pipeline.Interface{}
	var grown atomic.Pointer[[]pipeline.Interface]
	grown.Store(&table)
	cs := newCaptures(t, Options{Source: Source{Interfaces: func() []pipeline.Interface { return *grown.Load() }}})
	m := newMoody("good", 0)
	c, wait := begin(t, cs, Spec{Format: Pcapng}, m)
	for i := range uint16(4) {
		more := append(*grown.Load(), pipeline.Interface{Port: int(i) + 1, Name: "eth" + string('0'+rune(i)), Link: packet.LinkEthernet, MAC: [6]byte{2}})
		grown.Store(&more)
		cs.Stage(0).Process(batchOf(0, frame(uint64(i), 60, int64(i), i)))
	}
	c.Finish("end")
	if err := wait(); err != nil {
		t.Fatal(err)
	}
	r, err := pcapng.NewReader(bytes.NewReader(m.taken.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	packets := make([]packet.Packet, 10)
	n, _ := r.Read(packets)
	for i, p := range packets[:n] {
		if int(p.Iface) != i || r.Interfaces()[i].Name != "eth"+string('0'+rune(i)) || r.Interfaces()[i].MAC != [6]byte{2} {
			t.Errorf("packet %d is of interface %d, %+v", i, p.Iface, r.Interfaces()[i])
		}
	}
	if n != 4 {
		t.Errorf("%d packets", n)
	}
}

// A port that comes back as another kind of device ends the file, which has said what the port is.
func TestPortThatChangesItsLinkType(t *testing.T) {
	table := []pipeline.Interface{{Port: 1, Link: packet.LinkEthernet}}
	var now atomic.Pointer[[]pipeline.Interface]
	now.Store(&table)
	cs := newCaptures(t, Options{Source: Source{Interfaces: func() []pipeline.Interface { return *now.Load() }}})
	m := newMoody("good", 0)
	_, wait := begin(t, cs, Spec{}, m)
	cs.Stage(0).Process(batchOf(0, frame(1, 60, 1, 0)))
	until(t, "the first packet", func() bool { packets, _ := readSome(m.bytes()); return len(packets) == 1 })
	now.Store(&[]pipeline.Interface{{Port: 1, Link: packet.LinkRaw}})
	cs.Stage(0).Process(batchOf(0, frame(2, 60, 2, 0)))
	err := wait()
	if v := cs.Finished()[0]; err == nil || v.State != Failed || v.Captured != 1 || v.Dropped != 1 {
		t.Errorf("Run = %v, %+v", err, v)
	}
}

// What Wireshark's tools see in a file: comments, interfaces, directions, counters.
func TestFileForWireshark(t *testing.T) {
	capinfos, tshark := need.Tool(t, "capinfos"), need.Tool(t, "tshark")
	var lost atomic.Uint64
	cs := newCaptures(t, Options{Application: "Galvo test", Source: Source{Lost: func() []uint64 { return []uint64{lost.Load(), 0} }}})
	m := newMoody("good", 0)
	c, wait := begin(t, cs, Spec{Filter: every(t, 2), Expression: "every second", SnapLen: 64, Comment: "office", DeviceInfo: "device galvo"}, m)
	lost.Store(3)
	for i := range uint64(10) {
		cs.Stage(0).Process(batchOf(0, frame(i, 100, 1_700_000_000e9+int64(i), uint16(i%2))))
	}
	c.Finish("end")
	wait()
	name := filepath.Join(t.TempDir(), "x.pcapng")
	if err := os.WriteFile(name, m.taken.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(capinfos, name).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, want := range []string{"Number of packets:   5", "Number of interfaces in file: 2", "office", "device galvo", "Capture application: Galvo test", "every second", "eth1", "Time precision = nanoseconds"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("capinfos does not say %q:\n%s", want, out)
		}
	}
	fields, err := exec.Command(tshark, "-r", name, "-T", "fields", "-e", "frame.len", "-e", "frame.cap_len", "-e", "frame.interface_id", "-e", "frame.packet_flags_direction").Output()
	if err != nil || string(fields) != strings.Repeat("100\t64\t0\t0x00000001\n", 5) {
		t.Errorf("tshark: %v: %q", err, fields)
	}
	stats := statisticsOf(t, m.taken.Bytes())
	if want := (pcapng.Statistics{Received: 8, Lost: 3, Accepted: 5, Delivered: 5}); stats != want {
		t.Errorf("statistics of the first interface: %+v, want %+v", stats, want)
	}
}

// statisticsOf reads the counters of the first interface statistics block.
func statisticsOf(t *testing.T, file []byte) (s pcapng.Statistics) {
	t.Helper()
	for len(file) > 12 {
		size := le.Uint32(file[4:])
		if le.Uint32(file) == 5 {
			counters := map[uint16]*uint64{4: &s.Received, 5: &s.Lost, 6: &s.Accepted, 7: &s.Dropped, 8: &s.Delivered}
			for o := file[20 : size-4]; len(o) >= 4 && le.Uint16(o) != 0; {
				n := int(le.Uint16(o[2:]))
				if p := counters[le.Uint16(o)]; p != nil {
					*p = le.Uint64(o[4:])
				}
				o = o[4+(n+3)/4*4:]
			}
			return s
		}
		file = file[size:]
	}
	t.Error("no statistics")
	return s
}

func TestEmptyResultSaysWhy(t *testing.T) {
	for _, block := range []bool{false, true} {
		for _, format := range []Format{Pcapng, Pcap} {
			cs := newCaptures(t, Options{})
			m := newMoody("good", 0)
			c, wait := begin(t, cs, Spec{Filter: compile(t, "vlan == 99"), Expression: "vlan == 99", Format: format, Block: block, Source: "office.pcap"}, m)
			for i := range uint64(7) {
				cs.Stage(0).Process(batchOf(0, frame(i, 100, int64(i), 0)))
			}
			c.Finish("end")
			if err := wait(); err != nil {
				t.Fatal(err)
			}
			if n := len(read(t, m.taken.Bytes())); n != 0 {
				t.Errorf("%d packets", n)
			}
			const want = "No packet captured: 7 frames of office.pcap were compared with the filter vlan == 99: 7 did not match."
			if format == Pcapng && !strings.Contains(m.taken.String(), want) {
				t.Errorf("block %v: the file does not say why it is empty: %q", block, m.taken.String())
			}
		}
	}
}

// A capture that was offered no frame says that, and not that its filter is to blame.
func TestNothingCame(t *testing.T) {
	cs := newCaptures(t, Options{})
	var out bytes.Buffer
	c, wait := begin(t, cs, Spec{Filter: compile(t, "vlan == 99"), Expression: "vlan == 99", Source: "live"}, sink.NewWriter(&out, "buffer"))
	c.Finish("end")
	if err := wait(); err != nil {
		t.Fatal(err)
	}
	if want := "No packet captured: no frame came from live while the capture ran."; !strings.Contains(out.String(), want) {
		t.Errorf("the file does not say %q: %q", want, out.String())
	}
	if want, v := "no frame came from live while the capture ran", cs.Finished()[0]; v.Empty != want {
		t.Errorf("the list says %q, want %q", v.Empty, want)
	}
}

// A capture of what was recorded says that nothing of it lies in the interval, and what does, and does not claim to begin in the future.
func TestNothingOfTheInterval(t *testing.T) {
	const first, last = 1_000_000_000_000, 2_000_000_000_000
	span := func() (int64, int64) { return first, last }
	for _, c := range []struct {
		start, end int64
		want       string
	}{
		{start: last + 1000, want: "no frame of :1 has a time from 1970-01-01 00:33:20.000001 UTC on: what it has is from 1970-01-01 00:16:40.000000 UTC to 1970-01-01 00:33:20.000000 UTC"},
		{end: first, want: "no frame of :1 has a time before 1970-01-01 00:16:40.000000 UTC: what it has is from 1970-01-01 00:16:40.000000 UTC to 1970-01-01 00:33:20.000000 UTC"},
		{start: math.MaxInt64 / 1000 * 1000, want: "no frame of :1 has a time from 2262-04-11 23:47:16.854775 UTC on: what it has is from 1970-01-01 00:16:40.000000 UTC to 1970-01-01 00:33:20.000000 UTC"},
		{start: first, end: last, want: "no frame came from :1 while the capture ran"},
	} {
		for _, scan := range []func() api.Scan{nil, func() api.Scan { return api.Scan{} }} {
			cs := newCaptures(t, Options{})
			var out bytes.Buffer
			began := time.Now().UnixMicro()
			one, wait := begin(t, cs, Spec{Source: ":1", Block: true, Start: c.start, End: c.end, Span: span, Scan: scan}, sink.NewWriter(&out, "buffer"))
			one.Finish("end of the savefiles")
			if err := wait(); err != nil {
				t.Fatal(err)
			}
			if scan == nil && !strings.Contains(out.String(), "No packet captured: "+c.want+".") {
				t.Errorf("the file does not say %q: %q", c.want, out.String())
			}
			v := cs.Finished()[0]
			if scan == nil && v.Empty != c.want {
				t.Errorf("the list says %q, want %q", v.Empty, c.want)
			}
			if scan != nil && c.start != first && v.Scan.Empty != c.want {
				t.Errorf("the list says %q, want %q", v.Scan.Empty, c.want)
			}
			if v.StartTime < began || v.StartTime > v.EndTime {
				t.Errorf("it began at %d, is from %d to %d", began, v.StartTime, v.EndTime)
			}
		}
	}
}

// What was asked for is shown, whether the filter has a use for it or not.
func TestUndecidedIsShownAsAsked(t *testing.T) {
	for _, expression := range []string{"", "port == 53", "l7Protocol == DNS"} {
		for hold, want := range map[bool]string{true: "hold", false: "skip"} {
			cs := newCaptures(t, Options{})
			spec := Spec{Hold: hold, Expression: expression, HoldBytes: 1 << 20}
			if expression != "" {
				spec.Filter = compile(t, expression)
			}
			c, wait := begin(t, cs, spec, sink.Discard{})
			if v := c.view(); v.Undecided != want {
				t.Errorf("%q: shown is %s, want %s", expression, v.Undecided, want)
			}
			c.Finish("end")
			wait()
		}
	}
}

// A live capture whose end time has passed says so where its counters are and where its packets would be.
func TestEndHasPassed(t *testing.T) {
	cs := newCaptures(t, Options{})
	var out bytes.Buffer
	now := time.Now().UnixNano()
	_, wait := begin(t, cs, Spec{Start: now - 2e9, End: now - 1e9}, sink.NewWriter(&out, "buffer"))
	if err := wait(); err != nil {
		t.Fatal(err)
	}
	if v := cs.Finished()[0]; v.State != Finished || v.Reason != endPassed {
		t.Errorf("it is %s: %s", v.State, v.Reason)
	}
	if want := "No packet captured: " + endPassed + "."; !strings.Contains(out.String(), want) {
		t.Errorf("the file does not say %q: %q", want, out.String())
	}
}

// A capture that waits for its start time does not answer for what is lost before.
func TestLostBeforeTheStart(t *testing.T) {
	var lost atomic.Uint64
	cs := newCaptures(t, Options{Source: Source{Lost: func() []uint64 { return []uint64{lost.Load(), 0} }}})
	pace.Patiently(t, func(times time.Duration) error {
		start := time.Now().Add(times * time.Second).UnixNano()
		c, wait := begin(t, cs, Spec{Start: start}, sink.Discard{})
		began := lost.Add(3)
		waiting := func() bool { return time.Now().UnixNano() < start }
		for cs.List()[0].Lost != 0 && waiting() {
			time.Sleep(time.Millisecond)
		}
		forgotten := waiting()
		until(t, "the start", func() bool { return !waiting() })
		lost.Store(began + 2)
		cs.Stage(0).Process(batchOf(0, frame(1, 60, start+1, 0)))
		c.Finish("end")
		wait()
		if v := cs.Finished()[0]; !forgotten || v.Lost != 2 || v.Captured != 1 {
			return fmt.Errorf("forgotten before the start: %t; %+v, want 1 captured and 2 lost", forgotten, v)
		}
		return nil
	})
}
