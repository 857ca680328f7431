package analysis

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"galvo/ci/pace"
	"galvo/services/api"
	"galvo/services/internal/capture"
	"galvo/services/internal/filter"
	"galvo/services/internal/l7"
	"galvo/services/internal/packet"
	"galvo/services/internal/pcapng"
	"galvo/services/internal/pipeline"
	"galvo/services/internal/sink"
)

func TestMain(m *testing.M) { os.Exit(pace.Main(m)) }

// write writes a savefile with frames of one flow, one every two seconds from the given one on, and leaves out the last cut bytes.
func write(t *testing.T, name string, first, frames, cut int) string {
	t.Helper()
	b := pcapng.AppendSection(nil, pcapng.Section{})
	b = pcapng.AppendInterface(b, pcapng.Interface{Name: name, Link: packet.LinkEthernet})
	for i := range frames {
		f := make([]byte, 60)
		f[12], f[14], f[23] = 8, 0x45, 17
		f[17] = 46
		f[29], f[33], f[37] = 1, 2, 53 // UDP to port 53 from port 0
		b = pcapng.AppendPacket(b, 0, int64(1_000_000+first+2*i)*1e9, f, 60, 0, nil)
	}
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, b[:len(b)-cut], 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func captures(t *testing.T) *capture.Captures {
	t.Helper()
	cs, err := capture.New(capture.Options{Source: capture.Source{Workers: 2}, Max: 4})
	if err != nil {
		t.Fatal(err)
	}
	return cs
}

func start(t *testing.T, names ...string) *Analysis {
	t.Helper()
	a, err := Start(Options{Open: Savefiles(os.Open, names), Bytes: 32 << 20, L7: &l7.Config{}, Source: ":1"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(context.Background()) })
	return a
}

// TestNote: what no savefile can say of the times, and what is missing in them, is said where the analysis is shown, and in the end of a capture from it.
func TestNote(t *testing.T) {
	b := pcapng.AppendSection(nil, pcapng.Section{})
	b = pcapng.AppendInterface(b, pcapng.Interface{Link: packet.LinkEthernet})
	for _, time := range []int64{1, math.MaxInt64, math.MaxInt64 - 1} {
		b = pcapng.AppendPacket(b, 0, time, make([]byte, 60), 60, 0, nil)
	}
	b = pcapng.AppendStatistics(b, 0, pcapng.Statistics{Lost: 7})
	path := filepath.Join(t.TempDir(), "late")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	a := start(t, path, write(t, "ordinary", 0, 3, 0))
	<-a.Done()
	const note = "the times of 2 packets are before 1970 or after 2261"
	if s := a.Slot(); s.State != Ready || !strings.HasPrefix(s.Reason, note) || !strings.Contains(s.Reason, "; 7 packets are missing in the savefiles") {
		t.Errorf("the slot is %s, %q", s.State, s.Reason)
	}
	cs := captures(t)
	c, err := a.Capture(cs, capture.Spec{QueueBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	if n, rising := count(t, run(t, c)); n != 6 || !rising {
		t.Errorf("a capture has %d packets, in order: %v", n, rising)
	}
	if reason := cs.Finished()[0].Reason; !strings.HasPrefix(reason, "end of the savefiles; "+note) {
		t.Errorf("a capture ends with %q", reason)
	}
}

// A capture from savefiles says what these say of themselves, and then what its user says.
func TestComment(t *testing.T) {
	path := filepath.Join(t.TempDir(), "told")
	b := pcapng.AppendInterface(pcapng.AppendSection(nil, pcapng.Section{Comment: "branch office"}), pcapng.Interface{Link: packet.LinkEthernet})
	b = pcapng.AppendPacket(b, 0, 1, make([]byte, 60), 60, 0, nil)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	a := start(t, path)
	for given, want := range map[string]string{"": "branch office", "seen by Ann": "branch office\nseen by Ann"} {
		c, err := a.Capture(captures(t), capture.Spec{QueueBytes: 1 << 20, Comment: given})
		if err != nil {
			t.Fatal(err)
		}
		r, err := pcapng.NewReader(bytes.NewReader(run(t, c)))
		if err != nil {
			t.Fatal(err)
		}
		if got := r.Section().Comment; got != want {
			t.Errorf("given %q, the comment is %q, want %q", given, got, want)
		}
	}
}

// run returns what a capture writes.
func run(t *testing.T, c *capture.Capture) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := c.Run(context.Background(), sink.NewWriter(&out, "test")); err != nil {
		t.Error(err)
	}
	return out.Bytes()
}

func count(t *testing.T, file []byte) (n int, rising bool) {
	t.Helper()
	r, err := pcapng.NewReader(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	last, rising := int64(0), true
	batch := make([]packet.Packet, 100)
	for {
		k, err := r.Read(batch)
		for _, p := range batch[:k] {
			rising = rising && p.Time >= last
			last = p.Time
		}
		n += k
		if err != nil {
			return n, rising
		}
	}
}

func TestAnalysis(t *testing.T) {
	a := start(t, write(t, "even", 0, 1000, 0), write(t, "odd", 1, 1000, 0))
	<-a.Done()
	s := a.Slot()
	if s.State != Ready || s.Packets != 2000 || s.Bytes != s.TotalBytes || s.SecondsLeft != 0 || s.StartTime != 1_000_000e6 || s.EndTime != 1_001_999e6 || s.Flows == 0 {
		t.Errorf("%+v", s)
	}
	ports := a.Ports()
	if len(ports) != 2 || ports[0].Name != "even" || ports[1].ID != 2 || ports[1].RxPackets != 1000 {
		t.Errorf("%+v", ports)
	}
	if p := a.Protocols(); len(p) < 2 || p[0].Name != "IPv4" || p[0].Packets != 2000 {
		t.Errorf("%+v", p)
	}
	cs := captures(t)
	c, err := a.Capture(cs, capture.Spec{QueueBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Capture(cs, capture.Spec{}); api.ErrorOf(err).Kind != api.TooManyCaptures {
		t.Errorf("a second capture at once: %v", err)
	}
	if list := cs.List(); len(list) != 1 || list[0].State != "waiting" || list[0].Source != ":1" {
		t.Errorf("%+v", list)
	}
	if n, rising := count(t, run(t, c)); n != 2000 || !rising {
		t.Errorf("%d packets, in order %v", n, rising)
	}
	f, err := filter.Compile("interface == 2", &filter.Env{Ports: []filter.Port{{ID: 1}, {ID: 2}}})
	if err != nil {
		t.Fatal(err)
	}
	c, err = a.Capture(cs, capture.Spec{QueueBytes: 1 << 20, Filter: f, Expression: f.String(), MaxDuration: 100 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	if n, _ := count(t, run(t, c)); n != 50 {
		t.Errorf("%d packets of 100 seconds of one file, want 50", n)
	}
	list := cs.Finished()
	if len(list) != 2 || list[0].Captured != 50 || list[0].Reason != "time limit" || list[1].Captured != 2000 || list[1].Dropped != 0 || list[1].Reason != "end of the savefiles" {
		t.Errorf("%+v", list)
	}
}

// A gated input gives nothing before its gate is opened.
type gated struct {
	Input
	gate chan struct{}
}

func (g *gated) Next(ctx context.Context, b *pipeline.Batch) error {
	<-g.gate
	return g.Input.Next(ctx, b)
}

// An analysis that ends while it is asked how it is does not say that it is ready with what it had counted before.
func TestReadyIsComplete(t *testing.T) {
	name, gate := write(t, "one", 0, 1000, 0), make(chan struct{})
	var a *Analysis
	open := func() (Input, error) {
		input, err := Savefiles(os.Open, []string{name})()
		progress := input.Progress
		input.Source = &gated{input, gate}
		input.Progress = func() (done, total int64, packets uint64) {
			done, total, packets = progress()
			if !isClosed(gate) {
				close(gate)
			}
			<-a.Done()
			return done, total, packets
		}
		return input, err
	}
	a, err := Start(Options{Open: open, Bytes: 32 << 20, Source: ":1"})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close(context.Background())
	if s := a.Slot(); s.State == Ready && s.Packets != 1000 {
		t.Errorf("ready with %d of 1000 packets", s.Packets)
	}
	if s := a.Slot(); s.State != Ready || s.Packets != 1000 {
		t.Errorf("at the end: %+v", s)
	}
}

// A damaged file does not keep the others from being read.
func TestDamaged(t *testing.T) {
	a := start(t, write(t, "torn", 0, 100, 7), write(t, "good", 0, 100, 0))
	<-a.Done()
	if s := a.Slot(); s.State != Failed || s.Reason == "" || s.Packets != 199 {
		t.Errorf("%+v", s)
	}
}

// A ring that is gone before all of it was read fails the capture: its client must not take what there is for the whole. What a damaged file has is the whole.
func TestUnreadable(t *testing.T) {
	name := write(t, "torn", 0, 100, 7)
	for _, c := range []struct {
		scan  func() api.Scan
		state string
	}{{nil, capture.Finished}, {func() api.Scan { return api.Scan{Dropped: 5} }, capture.Failed}} {
		open := Savefiles(os.Open, []string{name})
		a, err := Start(Options{Open: func() (Input, error) {
			in, err := open()
			in.Scan = c.scan
			return in, err
		}, Bytes: 32 << 20})
		if err != nil {
			t.Fatal(err)
		}
		<-a.Done()
		if s := a.Slot(); (s.Scan != nil) != (c.scan != nil) {
			t.Errorf("%+v", s)
		}
		cs := captures(t)
		one, err := a.Capture(cs, capture.Spec{QueueBytes: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		err = one.Run(context.Background(), sink.Discard{})
		v := cs.Finished()[0]
		if (err != nil) != (c.state == capture.Failed) || v.State != c.state || v.Captured != 99 || (v.Scan != nil) != (c.scan != nil) {
			t.Errorf("%v, %+v", err, v)
		}
		a.Close(context.Background())
	}
}

func TestNoSavefile(t *testing.T) {
	if _, err := Start(Options{Open: Savefiles(os.Open, []string{filepath.Join(t.TempDir(), "none")}), Bytes: 32 << 20}); err == nil {
		t.Error("a file that is not there was analysed")
	}
}

// An analysis can be ended at any time, also with a capture that nobody fetches, or that is stuck.
func TestClose(t *testing.T) {
	for i, use := range []func(*testing.T, *Analysis){
		func(*testing.T, *Analysis) {},
		func(t *testing.T, a *Analysis) {
			if _, err := a.Capture(captures(t), capture.Spec{QueueBytes: 1 << 20}); err != nil {
				t.Error(err)
			}
		},
		func(t *testing.T, a *Analysis) {
			c, err := a.Capture(captures(t), capture.Spec{QueueBytes: 1 << 20})
			if err != nil {
				t.Error(err)
				return
			}
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { r.Close(); w.Close() })
			go c.Run(context.Background(), sink.NewWriter(w, "a pipe that nobody reads"))
			<-c.Attached()
		},
	} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			a := start(t, write(t, "big", 0, 200_000, 0))
			use(t, a)
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			if err := a.Close(ctx); err != nil {
				t.Error(err)
			}
			if _, err := a.Capture(captures(t), capture.Spec{QueueBytes: 1 << 20}); api.ErrorOf(err).Kind != api.NotFound {
				t.Errorf("a capture from what has ended: %v", err)
			}
		})
	}
}
