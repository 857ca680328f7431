package capture

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"galvo/ci/need"
	"galvo/services/api"
	"galvo/services/internal/flow"
	"galvo/services/internal/l7"
	"galvo/services/internal/packet"
	"galvo/services/internal/pcapng"
	"galvo/services/internal/pipeline"
	"galvo/services/internal/savefile"
	"galvo/services/internal/sink"
)

// readThrough runs a savefile through a worker with one capture, and returns what the capture wrote and its counters.
func readThrough(t *testing.T, file string, spec Spec) ([]byte, api.Capture) {
	t.Helper()
	source, err := savefile.Open([]string{file}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	cs := newCaptures(t, Options{Source: Source{Interfaces: source.Interfaces}})
	spec.Block = true
	if spec.HoldBytes == 0 {
		spec.HoldBytes = 64 << 20
	}
	var out bytes.Buffer
	c, wait := begin(t, cs, spec, sink.NewWriter(&out, "buffer"))
	engine := l7.New(l7.Config{Bytes: 1 << 20})
	w := &pipeline.Worker{
		Source: source, Flows: flow.New(flow.Config{Flows: 1 << 14, OnEnd: engine.End}), L7: engine, Stages: []pipeline.Stage{cs.Stage(0)},
	}
	w.Run(t.Context()) // a damaged file is read up to its damage
	cs.Stage(0).Finish()
	c.Finish("end of the savefile")
	wait()
	return out.Bytes(), cs.Finished()[0]
}

// readPackets returns the packets of a savefile with their link types, and whether its interfaces have several.
func readPackets(t *testing.T, file string) (packets []packet.Packet, links []packet.LinkType, mixed bool) {
	t.Helper()
	source, err := savefile.Open([]string{file}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	for b := new(pipeline.Batch); source.Next(context.Background(), b) == nil; {
		for _, p := range b.Packets {
			p.Data = bytes.Clone(p.Data)
			packets = append(packets, p)
			links = append(links, source.Interfaces()[p.Iface].Link)
		}
	}
	for _, in := range source.Interfaces() {
		mixed = mixed || in.Link != source.Interfaces()[0].Link
	}
	return packets, links, mixed
}

// Every savefile of the corpus comes out as it went in.
func TestCorpusComesOutAsItWentIn(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(need.Corpus(t), "protocols", "*.*cap*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no savefiles: %v", err)
	}
	for _, file := range files {
		want, links, mixed := readPackets(t, file)
		for _, format := range []Format{Pcapng, PcapNanos} {
			if mixed && format != Pcapng {
				continue
			}
			out, v := readThrough(t, file, Spec{Format: format})
			got := read(t, out)
			if len(got) != len(want) || v.Captured != uint64(len(want)) || total(&v) != v.Captured {
				t.Errorf("%s as %s: %d packets of %d, %+v", filepath.Base(file), format, len(got), len(want), v)
				continue
			}
			r, err := pcapng.NewReader(bytes.NewReader(out))
			if err != nil {
				t.Fatal(err)
			}
			for i := range got {
				g, w := &got[i], &want[i]
				one := make([]packet.Packet, 1)
				if _, err := r.Read(one); err != nil {
					t.Fatal(err)
				}
				link := r.Interfaces()[one[0].Iface].Link
				if !bytes.Equal(g.Data, w.Data) || g.Len != w.Len || g.Time != w.Time || links[i] != link {
					t.Errorf("%s as %s: packet %d differs", filepath.Base(file), format, i)
					break
				}
			}
		}
	}
	t.Logf("%d files", len(files))
}

// A file that editcap gave comments keeps them, in a capture of what matches too.
func TestCommentsStay(t *testing.T) {
	editcap, tshark := need.Tool(t, "editcap"), need.Tool(t, "tshark")
	dir := t.TempDir()
	plain, annotated := filepath.Join(dir, "plain.pcapng"), filepath.Join(dir, "annotated.pcapng")
	file := pcapng.AppendInterface(pcapng.AppendSection(nil, pcapng.Section{}), pcapng.Interface{Link: packet.LinkEthernet})
	for i := range uint64(300) {
		p := frame(i, 100, 1_700_000_000e9+int64(i), 0)
		file = pcapng.AppendPacket(file, 0, p.Time, p.Data, p.Len, p.Flags, nil)
	}
	if err := os.WriteFile(plain, file, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(editcap, "-F", "pcapng", "-a", "1:the first one", "-a", "150:Straße", "-a", "300:the last one", plain, annotated).CombinedOutput(); err != nil {
		t.Fatalf("editcap: %v: %s", err, out)
	}
	for _, c := range []struct {
		spec Spec
		want string
	}{
		{Spec{}, "1\tthe first one\n150\tStraße\n300\tthe last one\n"},
		{Spec{SnapLen: 50}, "1\tthe first one\n150\tStraße\n300\tthe last one\n"},
		{Spec{Filter: every(t, 2), Expression: "every second"}, "1\tthe first one\n"},
	} {
		out, v := readThrough(t, annotated, c.spec)
		name := filepath.Join(dir, "out.pcapng")
		if err := os.WriteFile(name, out, 0o600); err != nil {
			t.Fatal(err)
		}
		fields, err := exec.Command(tshark, "-r", name, "-Y", "frame.comment", "-T", "fields", "-e", "frame.number", "-e", "frame.comment").Output()
		if err != nil || string(fields) != c.want {
			t.Errorf("%s: tshark: %v: %q, want %q; %+v", c.spec.Expression, err, fields, c.want, v.Counters)
		}
	}
}

// With hold a capture gets what it gets with skip, and what came before the verdict; both account for every packet.
func TestHoldGetsMore(t *testing.T) {
	files, _ := filepath.Glob(filepath.Join(need.Corpus(t), "l7", "pcap", "*.*cap*"))
	more := 0
	for _, file := range files[:min(len(files), 25)] {
		for _, expression := range []string{"l7Protocol == TLS", "l7Protocol != DNS"} {
			spec := Spec{Filter: compile(t, expression), Expression: expression}
			_, skip := readThrough(t, file, spec)
			spec.Hold = true
			_, hold := readThrough(t, file, spec)
			if hold.Captured < skip.Captured || total(&hold) != total(&skip) || hold.Held != 0 {
				t.Errorf("%s, %s: skip %+v, hold %+v", filepath.Base(file), expression, skip.Counters, hold.Counters)
			}
			more += int(hold.Captured - skip.Captured)
		}
	}
	if more == 0 {
		t.Error("hold never got a packet more")
	}
	t.Logf("%d packets more", more)
}

// A store that is too small for a savefile's undecided packets loses some of those that an ample one gives, counts them, and keeps the order within each flow.
func TestHoldBound(t *testing.T) {
	files, _ := filepath.Glob(filepath.Join(need.Corpus(t), "l7", "pcap", "*.*cap*"))
	dropped := uint64(0)
	for i, file := range files {
		if i%30 != 0 {
			continue
		}
		for _, expression := range []string{"l7Protocol == TLS", "l7Protocol == DNS", "l7Protocol == unknown"} {
			spec := Spec{Filter: compile(t, expression), Expression: expression, Hold: true}
			ample, all := readThrough(t, file, spec)
			spec.HoldBytes = 1
			small, v := readThrough(t, file, spec)
			if total(&v) != total(&all) || v.Held != 0 || v.Captured+v.Dropped < all.Captured {
				t.Errorf("%s, %s: ample %+v, small %+v", filepath.Base(file), expression, all.Counters, v.Counters)
			}
			dropped += v.Dropped
			inOrder(t, file, ample)
			inOrder(t, file, small)
			want := make(map[string]int)
			for _, p := range read(t, ample) {
				want[fmt.Sprint(p.Time, p.Data)]++
			}
			for _, p := range read(t, small) {
				key := fmt.Sprint(p.Time, p.Data)
				if want[key]--; want[key] < 0 {
					t.Fatalf("%s, %s: a packet that the ample store does not give", filepath.Base(file), expression)
				}
			}
		}
	}
	if dropped == 0 {
		t.Error("the small store never overflowed")
	}
	t.Logf("%d packets dropped", dropped)
}

// inOrder wants the packets of each flow in the order of the savefile.
func inOrder(t *testing.T, file string, out []byte) {
	t.Helper()
	place := make(map[string][]int)
	packets, links, _ := readPackets(t, file)
	for i, p := range packets {
		key := fmt.Sprint(p.Time, p.Data)
		place[key] = append(place[key], i)
	}
	table := flow.New(flow.Config{Flows: 1 << 14, Sparse: true})
	last := make(map[uint64]int)
	for _, p := range read(t, out) {
		key := fmt.Sprint(p.Time, p.Data)
		at := place[key][0]
		place[key] = place[key][1:]
		q := packets[at]
		q.Decode(links[at])
		table.Begin()
		ref := table.Find(&q)
		if ref.Flow == nil {
			continue
		}
		if before, ok := last[ref.Flow.ID]; ok && before > at {
			t.Fatalf("%s: packet %d of a flow comes behind %d", filepath.Base(file), at, before)
		}
		last[ref.Flow.ID] = at
	}
}

// A client that pauses keeps its capture: what did not fit is counted, and what it gets is a whole file.
func TestPausedClient(t *testing.T) {
	cs := newCaptures(t, Options{})
	c, err := cs.Start(Spec{QueueBytes: 1})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := c.Run(r.Context(), sink.NewHTTP(r.Context(), w, time.Minute)); err != nil {
			t.Error(err)
		}
	}))
	defer server.Close()
	resp, err := server.Client().Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	<-c.Attached()
	frames := uint64(0)
	for cs.List()[0].Dropped < 100 {
		b := batchOf(0)
		for range 200 {
			b.Packets = append(b.Packets, frame(frames, 1400, int64(frames), 0))
			frames++
		}
		b.Meta = make([]pipeline.Meta, len(b.Packets))
		cs.Stage(0).Process(b)
	}
	if v := cs.List()[0]; v.State != Running || total(&v) != frames {
		t.Errorf("while the client pauses: %d frames, %+v", frames, v)
	}
	c.Finish("end time")
	file, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	<-c.Done()
	v := cs.Finished()[0]
	if n := len(read(t, file)); uint64(n) != v.Captured || total(&v) != frames || v.Dropped == 0 {
		t.Errorf("%d packets in the file: %+v", n, v)
	}
}

func TestSixtyFourCaptures(t *testing.T) {
	cs := newCaptures(t, Options{Source: Source{Workers: 2}, Max: 64})
	var all []*running
	for i := range 64 {
		k := []uint64{1, 2, 3, 4, 5, 6, 10}[i%7]
		r := &running{sink: newMoody([]string{"good", "blocks", "slow"}[i%3], i*1000), yes: func(n uint64) bool { return n%k == 0 }}
		r.spec = Spec{Filter: every(t, k), Expression: fmt.Sprint("every ", k), QueueBytes: 1}
		r.c, r.wait = begin(t, cs, r.spec, r.sink)
		all = append(all, r)
	}
	if _, err := cs.Start(Spec{}); api.ErrorOf(err).Kind != api.TooManyCaptures {
		t.Errorf("capture 65: %v", err)
	}
	frames := uint64(0)
	for range 100 {
		for w := range 2 {
			b := batchOf(w)
			for range 50 {
				b.Packets = append(b.Packets, frame(frames, 400, int64(frames), 0))
				frames++
			}
			b.Meta = make([]pipeline.Meta, len(b.Packets))
			cs.Stage(w).Process(b)
		}
	}
	for _, v := range cs.List() {
		if total(&v) != frames {
			t.Errorf("%d frames passed: %+v", frames, v)
		}
	}
	for _, r := range all {
		cs.Stop(r.c.ID(), "stopped")
		checkEnd(t, cs, r, frames)
	}
}
