package capture

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"galvo/ci/pace"
	"galvo/services/api"
	"galvo/services/internal/filter"
	"galvo/services/internal/packet"
	"galvo/services/internal/pcapng"
	"galvo/services/internal/pipeline"
	"galvo/services/internal/sink"
)

func TestMain(m *testing.M) { os.Exit(pace.Main(m)) }

// frame returns an Ethernet frame of size bytes that says its number, and has its number modulo 60 as its VLAN.
func frame(number uint64, size int, time int64, iface uint16) packet.Packet {
	b := make([]byte, size)
	copy(b[12:], []byte{0x81, 0, 0, byte(number % 60), 0x88, 0xb5})
	binary.BigEndian.PutUint64(b[18:], number)
	p := packet.Packet{Frame: packet.Frame{Data: b, Len: uint32(size), Time: time, Iface: iface, Flags: packet.DirIn}}
	p.Decode(packet.LinkEthernet)
	return p
}

func number(b []byte) uint64 { return binary.BigEndian.Uint64(b[18:]) }

func batchOf(worker int, packets ...packet.Packet) *pipeline.Batch {
	b := &pipeline.Batch{Packets: packets, Meta: make([]pipeline.Meta, len(packets)), Worker: worker}
	if n := len(packets); n > 0 {
		b.Now = packets[n-1].Time
	}
	return b
}

var ethernet = []pipeline.Interface{{Port: 1, Name: "eth1", Link: packet.LinkEthernet}, {Port: 2, Name: "eth2", Link: packet.LinkEthernet}}

func newCaptures(t testing.TB, o Options) *Captures {
	t.Helper()
	if o.Interfaces == nil {
		o.Interfaces = func() []pipeline.Interface { return ethernet }
	}
	if o.Max == 0 {
		o.Max = 4
	}
	if o.Workers == 0 {
		o.Workers = 1
	}
	cs, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cs.Close(context.Background(), "the test ended") })
	return cs
}

// begin starts a capture into a buffer and returns it when the stages see it.
func begin(t testing.TB, cs *Captures, spec Spec, s sink.Sink) (c *Capture, wait func() error) {
	t.Helper()
	if spec.QueueBytes == 0 {
		spec.QueueBytes = 4 << 20
	}
	c, err := cs.Start(spec)
	if err != nil {
		t.Fatal(err)
	}
	result := make(chan error, 1)
	go func() { result <- c.Run(t.Context(), s) }()
	<-c.Attached()
	return c, sync.OnceValue(func() error { return <-result })
}

// read returns the packets of a savefile.
func read(t testing.TB, file []byte) []packet.Packet {
	t.Helper()
	packets, err := readSome(file)
	if err != nil {
		t.Fatal(err)
	}
	return packets
}

// readSome returns the packets of a savefile up to its damage.
func readSome(file []byte) (packets []packet.Packet, err error) {
	r, err := pcapng.NewReader(bytes.NewReader(file))
	if err != nil {
		return nil, err
	}
	batch := make([]packet.Packet, 16)
	for {
		n, err := r.Read(batch)
		for _, p := range batch[:n] {
			p.Data = bytes.Clone(p.Data)
			packets = append(packets, p)
		}
		if errors.Is(err, io.EOF) {
			return packets, nil
		}
		if err != nil {
			return packets, err
		}
	}
}

func compile(t testing.TB, expression string) *filter.Filter {
	t.Helper()
	f, err := filter.Compile(expression, nil)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// every takes the frames whose number is a multiple of k, which divides 60.
func every(t testing.TB, k uint64) *filter.Filter {
	expression := "vlan == 0"
	for n := k; n < 60; n += k {
		expression += fmt.Sprintf(",%d", n)
	}
	return compile(t, expression)
}

// TestRate: the rate is that of the last second, and not of the last in which the worker had a turn: one that reads the past waits for a slow sink.
func TestRate(t *testing.T) {
	for _, c := range []struct {
		since time.Duration // the worker's last turn
		rate  bool
	}{{-time.Minute, true} /* which no slow machine makes old */, {5 * time.Second, false}} {
		cs := newCaptures(t, Options{})
		begin(t, cs, Spec{}, sink.NewWriter(io.Discard, "nowhere"))
		last := time.Now().Add(-c.since).UnixNano()
		for _, turn := range []int64{last - 1e9, last - 1, last} {
			cs.Stage(0).Process(batchOf(0, frame(1, 100, turn, 0)))
		}
		if rate := cs.List()[0].BitRate; rate > 0 != c.rate {
			t.Errorf("%s after its last packets a capture has %d bit/s", c.since, rate)
		}
	}
}

func TestCaptureOfEverything(t *testing.T) {
	for _, format := range []Format{Pcapng, Pcap, PcapNanos} {
		t.Run(string(format), func(t *testing.T) {
			cs := newCaptures(t, Options{Source: Source{Workers: 2}})
			var out bytes.Buffer
			// Room for everything, so that nothing depends on when the sink gets its turn.
			c, wait := begin(t, cs, Spec{Format: format, QueueBytes: 16 << 20}, sink.NewWriter(&out, "buffer"))
			const count = 5000
			// Younger than the clock: older ones do not wait for a worker that has none yet.
			start := time.Now().Add(time.Hour).UnixMicro() * 1000
			for i := range uint64(count) {
				w := int(i % 2)
				cs.Stage(w).Process(batchOf(w, frame(i, 60+int(i%1400), start+int64(i)*1000, uint16(w))))
			}
			c.Finish("stopped")
			if err := wait(); err != nil {
				t.Fatal(err)
			}
			packets := read(t, out.Bytes())
			if len(packets) != count {
				t.Fatalf("the file has %d packets, want %d", len(packets), count)
			}
			for i, p := range packets {
				if number(p.Data) != uint64(i) || p.Time != start+int64(i)*1000 || len(p.Data) != 60+i%1400 {
					t.Fatalf("packet %d is number %d, time %d, %d bytes", i, number(p.Data), p.Time, len(p.Data))
				}
				if format == Pcapng && int(p.Iface) != i%2 {
					t.Fatalf("packet %d is of interface %d", i, p.Iface)
				}
			}
			f := cs.Finished()
			if len(f) != 1 || f[0].Captured != count || f[0].State != Finished || f[0].Reason != "stopped" {
				t.Errorf("finished: %+v", f)
			}
			if len(cs.List()) != 0 {
				t.Errorf("running: %+v", cs.List())
			}
		})
	}
}

func TestLimitsAreExact(t *testing.T) {
	cs := newCaptures(t, Options{Source: Source{Workers: 2}})
	var out bytes.Buffer
	_, wait := begin(t, cs, Spec{Filter: every(t, 3), Expression: "x", MaxPackets: 10}, sink.NewWriter(&out, "buffer"))
	var workers sync.WaitGroup
	for w := range 2 {
		workers.Go(func() {
			for i := range uint64(1000) {
				cs.Stage(w).Process(batchOf(w, frame(i, 100, int64(i), 0), frame(i+1, 100, int64(i), 0)))
			}
		})
	}
	workers.Wait()
	if err := wait(); err != nil {
		t.Fatal(err)
	}
	packets := read(t, out.Bytes())
	f := cs.Finished()[0]
	if len(packets) != 10 || f.Captured != 10 || f.Reason != "packet limit" {
		t.Errorf("the file has %d packets, want 10; %+v", len(packets), f)
	}
}

func TestByteLimit(t *testing.T) {
	cs := newCaptures(t, Options{})
	var out bytes.Buffer
	_, wait := begin(t, cs, Spec{MaxBytes: 1000, SnapLen: 90}, sink.NewWriter(&out, "buffer"))
	for i := range uint64(1000) {
		cs.Stage(0).Process(batchOf(0, frame(i, 60+int(rand.N(100)), int64(i), 0)))
	}
	if err := wait(); err != nil {
		t.Fatal(err)
	}
	packets := read(t, out.Bytes())
	total := 0
	for _, p := range packets {
		total += len(p.Data)
		if len(p.Data) > 90 {
			t.Errorf("a packet has %d bytes", len(p.Data))
		}
	}
	if f := cs.Finished()[0]; total > 1000 || total <= 910 || f.Bytes != uint64(total) || f.Reason != "byte limit" {
		t.Errorf("the file has %d bytes of packets; %+v", total, f)
	}
}

// A capture whose limit of bytes is below its first packet says that, in the list and in the file, and not that nothing came or matched.
func TestByteLimitBelowTheFirstPacket(t *testing.T) {
	for name, scan := range map[string]func() api.Scan{"live": nil, "ring": func() api.Scan { return api.Scan{Blocks: 7, Read: 7} }} {
		cs := newCaptures(t, Options{})
		var out bytes.Buffer
		_, wait := begin(t, cs, Spec{MaxBytes: 59, Block: scan != nil, Scan: scan, Sifted: scan != nil}, sink.NewWriter(&out, "buffer"))
		cs.Stage(0).Process(batchOf(0, frame(1, 60, 1, 0)))
		if err := wait(); err != nil {
			t.Fatal(err)
		}
		f := cs.Finished()[0]
		if total(&f) != 0 || f.State != Finished || f.Reason != limitTooLow || scan != nil && f.Scan.Empty != limitTooLow {
			t.Errorf("%s: %+v, scan %+v", name, f, f.Scan)
		}
		if !strings.Contains(out.String(), limitTooLow) || strings.Contains(out.String(), "no frame came") {
			t.Errorf("%s: the file does not say why it is empty: %q", name, out.String())
		}
	}
}

// What a capture of a source that gives all packets was given after its end it has not looked at, though the source says that it came further.
func TestScanUntil(t *testing.T) {
	cs := newCaptures(t, Options{})
	var out bytes.Buffer
	spec := Spec{Start: 1e9, Block: true, Scan: func() api.Scan { return api.Scan{Blocks: 7, Read: 7, Until: 9e6} }}
	c, wait := begin(t, cs, spec, sink.NewWriter(&out, "buffer"))
	until := func() int64 { return cs.List()[0].Scan.Until }
	cs.Stage(0).Process(batchOf(0, frame(1, 60, 5e8, 0)))
	if n := until(); n != 0 {
		t.Errorf("before its start it was looked at up to %d", n)
	}
	cs.Stage(0).Process(batchOf(0, frame(2, 60, 2e9, 0)))
	if n := until(); n != 2e6 {
		t.Errorf("looked at up to %d us, want %d", n, int64(2e6))
	}
	c.Finish("stopped by admin")
	cs.Stage(0).Process(batchOf(0, frame(3, 60, 3e9, 0)))
	cs.Stage(0).Finish()
	if err := wait(); err != nil {
		t.Fatal(err)
	}
	if n, want := cs.Finished()[0].Scan.Until, "looked at up to 1970-01-01 00:00:02.000000 UTC"; n != 2e6 || !strings.Contains(out.String(), want) {
		t.Errorf("it was stopped: looked at up to %d us, %q", n, out.String())
	}
}

func TestTooManyCaptures(t *testing.T) {
	cs := newCaptures(t, Options{Max: 2})
	for range 2 {
		if _, err := cs.Start(Spec{QueueBytes: 1}); err != nil {
			t.Fatal(err)
		}
	}
	_, err := cs.Start(Spec{QueueBytes: 1})
	if e := api.ErrorOf(err); err == nil || e.Kind != api.TooManyCaptures {
		t.Errorf("a third capture: %v", err)
	}
	if n := len(cs.List()); n != 2 {
		t.Errorf("%d captures are listed", n)
	}
	for _, c := range cs.List() {
		if c.State != Waiting {
			t.Errorf("state %s", c.State)
		}
		if err := cs.Stop(c.ID, "stopped by admin"); err != nil {
			t.Error(err)
		}
	}
	if f := cs.Finished(); len(f) != 2 || f[0].Reason != "stopped by admin" {
		t.Errorf("finished: %+v", f)
	}
	cs.Close(context.Background(), "test")
}

// A source that fails breaks the stream off, after what it gave.
func TestFail(t *testing.T) {
	cs := newCaptures(t, Options{})
	m := newMoody("good", 0)
	c, wait := begin(t, cs, Spec{}, m)
	cs.Stage(0).Process(batchOf(0, frame(1, 60, 1, 0)))
	c.Fail("the ring could not be read on")
	err := wait()
	v := cs.Finished()[0]
	if err == nil || err.Error() != "the ring could not be read on" || v.State != Failed || v.Captured != 1 || v.Dropped != 0 {
		t.Errorf("Run = %v, %+v", err, v)
	}
	if packets, _ := readSome(m.bytes()); len(packets) != 1 {
		t.Errorf("%d packets in the file, want 1", len(packets))
	}
}
