package capture

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"galvo/services/api"
	"galvo/services/durable"
	"galvo/services/internal/pipeline"
	"galvo/services/internal/sink"
)

func reopen(t *testing.T, dir string) (*Captures, error) {
	t.Helper()
	return New(Options{Source: Source{Workers: 1}, Max: 4, Directory: dir})
}

func TestFinishedOutlivesTheEngine(t *testing.T) {
	dir := t.TempDir()
	cs := newCaptures(t, Options{Directory: dir, Report: func(err error) { t.Error(err) }})
	for i := range keepFinished + 5 {
		c, err := cs.Start(Spec{QueueBytes: 1, Expression: "", User: fmt.Sprint(i)})
		if err != nil {
			t.Fatal(err)
		}
		cs.Stop(c.ID(), "stopped")
	}
	cs.Close(t.Context(), "the end")
	again, err := reopen(t, dir)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(cs.Finished(), again.Finished()); diff != "" || len(again.Finished()) != keepFinished || again.Finished()[0].User != "104" {
		t.Errorf("%d finished captures came back: %s", len(again.Finished()), diff)
	}
	if err := again.DeleteFinished(); err != nil {
		t.Fatal(err)
	}
	if again, _ = reopen(t, dir); len(again.Finished()) != 0 {
		t.Errorf("deleted captures came back: %v", again.Finished())
	}
}

// A capture that ended is listed as it ended, though the engine is killed before the list is on the disk; one whose ending was cut off as interrupted.
func TestEndOutlivesTheEngine(t *testing.T) {
	dir := t.TempDir()
	cs := newCaptures(t, Options{Directory: dir, Report: func(err error) { t.Error(err) }})
	for _, user := range []string{"whole", "torn"} {
		c, err := cs.Start(Spec{QueueBytes: 1, User: user})
		if err != nil {
			t.Fatal(err)
		}
		cs.Stop(c.ID(), "stopped by "+user)
	}
	// What a killed engine leaves: neither capture is in the list, each has its file.
	left := t.TempDir()
	for _, v := range cs.Finished() {
		name := v.ID + runningSuffix
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if v.User == "torn" {
			b = b[:len(b)-1]
		}
		if err := os.WriteFile(filepath.Join(left, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	again, err := reopen(t, left)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"whole": "finished: stopped by whole", "torn": "interrupted: the engine ended without notice"}
	for _, v := range again.Finished() {
		if got := v.State + ": " + v.Reason; got != want[v.User] {
			t.Errorf("%s is %s, want %s", v.User, got, want[v.User])
		}
		delete(want, v.User)
	}
	if len(want) != 0 {
		t.Errorf("missing: %v", want)
	}
	cs.Close(t.Context(), "the end")
	if files, _ := filepath.Glob(filepath.Join(dir, "*")); len(files) != 1 || filepath.Base(files[0]) != finishedName {
		t.Errorf("after Close there are %v", files)
	}
}

// A capture that was cut off is listed with the file that it wrote last, and with the counters of its last batch.
func TestLatestFileOutlivesTheEngine(t *testing.T) {
	dir, left := t.TempDir(), t.TempDir()
	cs := newCaptures(t, Options{Directory: dir, Report: func(err error) { t.Error(err) }})
	out := toDisk(t, t.TempDir(), 1e9)
	c, wait := begin(t, cs, Spec{SplitBytes: 1, Latest: out.Latest}, out)
	const frames = 3
	for i := range uint64(frames) {
		cs.Stage(0).Process(batchOf(0, frame(i, 100, int64(i+1)*1e9, 0)))
	}
	until(t, "all is written", func() bool { return c.delivered.Load() == frames })
	name := c.ID() + runningSuffix
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	for cut, want := range map[int]string{0: "3.pcapng", 1: "1.pcapng"} { // what is torn says nothing
		if err := os.WriteFile(filepath.Join(left, name), b[:len(b)-cut], 0o600); err != nil {
			t.Fatal(err)
		}
		again, err := reopen(t, left)
		if err != nil || len(again.Finished()) != 1 {
			t.Fatalf("%v, %v", err, again.Finished())
		}
		if v := again.Finished()[0]; v.State != Interrupted || v.FileName != want || cut == 0 && v.Files != frames || v.Captured != frames {
			t.Errorf("cut by %d bytes: %+v", cut, v)
		}
		if err := again.DeleteFinished(); err != nil {
			t.Fatal(err)
		}
	}
	c.Finish("end")
	if err := wait(); err != nil {
		t.Fatal(err)
	}
}

// encodeEnd returns what the file of a capture gains when it ends.
func encodeEnd(t testing.TB, v *api.Capture) []byte {
	t.Helper()
	f := &file{path: filepath.Join(t.TempDir(), "x")}
	if err := os.WriteFile(f.path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := f.tell(v); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(f.path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestDamagedFilesBeginAnew(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{
		finishedName:        `{"version": 1, "captures": [{]`,
		"a" + runningSuffix: "nonsense",
		"b" + runningSuffix: fileMagic + strings.Repeat("\xff", 100),
		strings.ReplaceAll(durable.Aside, "*", "x"): "half",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cs, err := reopen(t, dir)
	if err == nil || strings.Count(err.Error(), dir) != 3 || len(cs.Finished()) != 0 {
		t.Errorf("New = %v, with %v", err, cs.Finished())
	}
	if _, err := reopen(t, dir); err != nil {
		t.Errorf("the damage is reported again: %v", err)
	}
}

// TestKilledEngine kills a process in the middle of its work. Its captures must be listed as interrupted, with the counters of its last batch.
func TestKilledEngine(t *testing.T) {
	dir := t.TempDir()
	child := exec.Command(os.Args[0], "-test.run", "^TestChildOfKilledEngine$")
	child.Env = append(os.Environ(), "GALVO_CAPTURE_CHILD="+dir)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	var frames uint64
	var written []int64 // sizes of the file: what comes before the last write is counted
	for lines := bufio.NewScanner(out); (frames < 20_000 || len(written) < 4) && lines.Scan(); {
		fmt.Sscan(lines.Text(), &frames)
		if info, err := os.Stat(filepath.Join(dir, "out")); err == nil && frames%1000 == 0 && info.Size() > 1000 && !slices.Contains(written, info.Size()) {
			written = append(written, info.Size())
		}
	}
	child.Process.Kill()
	child.Wait()
	if frames < 20_000 {
		t.Fatalf("the child came to %d frames only", frames)
	}

	cs, err := New(Options{Source: Source{Workers: 1}, Max: 4, Directory: dir})
	if err != nil {
		t.Fatal(err)
	}
	finished := cs.Finished()
	if len(finished) != 3 {
		t.Fatalf("%d captures were cut off, want 3: %+v", len(finished), finished)
	}
	for _, v := range finished {
		if v.State != Interrupted || v.Reason == "" {
			t.Errorf("%+v", v)
		}
		switch v.User {
		case "waiting":
			if total(&v) != 0 {
				t.Errorf("a waiting capture: %+v", v)
			}
		case "good", "blocks":
			// The child may have processed up to a pipe's worth of batches that were not read, and always whole ones.
			if n := total(&v); n < frames || n%childBatch != 0 || v.Lost != 7 || v.EndTime < v.StartTime {
				t.Errorf("%d frames were told, the counters are %+v", frames, v)
			}
		}
		if v.User == "good" {
			checkChildFile(t, filepath.Join(dir, "out"), &v)
		}
		if v.User == "blocks" && v.Captured != 0 {
			t.Errorf("nothing was taken, the counters are %+v", v)
		}
	}
	if again, _ := reopen(t, dir); len(again.Finished()) != 3 {
		t.Errorf("after another start: %+v", again.Finished())
	}
}

// checkChildFile compares the file with the counters: a write that was done may not be counted yet.
func checkChildFile(t *testing.T, name string, v *api.Capture) {
	t.Helper()
	file, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	packets, _ := readSome(file)
	if n := uint64(len(packets)); v.Captured == 0 || v.Captured > n {
		t.Errorf("the file has %d packets, the counters are %+v", n, v)
	}
}

const childBatch = 50

func TestChildOfKilledEngine(t *testing.T) {
	dir := os.Getenv("GALVO_CAPTURE_CHILD")
	if dir == "" {
		return // TestKilledEngine runs it in a process of its own
	}
	lost := uint64(5)
	cs := newCaptures(t, Options{Directory: dir, Source: Source{Lost: func() []uint64 { return []uint64{lost} }}})
	f, err := os.Create(filepath.Join(dir, "out"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cs.Start(Spec{User: "waiting", QueueBytes: 1}); err != nil {
		t.Fatal(err)
	}
	_, _ = begin(t, cs, Spec{User: "good", Filter: every(t, 2), Expression: "x"}, sink.NewWriter(f, "out"))
	_, _ = begin(t, cs, Spec{User: "blocks", Filter: every(t, 3), Expression: "x"}, newMoody("blocks", 0))
	lost += 7
	for n := uint64(0); ; {
		b := batchOf(0)
		for range childBatch {
			b.Packets = append(b.Packets, frame(n, 100, int64(n), 0))
			n++
		}
		b.Meta = make([]pipeline.Meta, childBatch)
		cs.Stage(0).Process(b)
		if n%1000 == 0 {
			cs.List() // notes what was lost, as the page does every second
		}
		fmt.Println(n)
	}
}

func TestCellSurvivesATornWrite(t *testing.T) {
	b := make([]byte, cellSize)
	c := &cell{b: b}
	for turn := range uint64(9) {
		c.store([cellWords]uint64{turn, 2 * turn, 3 * turn})
		before := loadCell(b)
		if before[0] != turn {
			t.Fatalf("loadCell = %v after turn %d", before, turn)
		}
		// The next store is cut off after any number of bytes.
		next := bytes.Clone(b)
		(&cell{b: next, turn: c.turn}).store([cellWords]uint64{turn + 1, 2*turn + 2, 3*turn + 3})
		at := (c.turn + 1) & 1 * placeSize
		for n := range uint64(placeSize) {
			torn := bytes.Clone(b)
			copy(torn[at:at+n], next[at:])
			if got := loadCell(torn); got != before {
				t.Fatalf("cut off after %d bytes: %v, want %v", n, got, before)
			}
		}
	}
}

func FuzzDecodeFile(f *testing.F) {
	good, err := encodeFile(&api.Capture{ID: "x", Expression: "ip == 1.2.3.4"}, 2)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	for _, state := range []string{Finished, Running} {
		f.Add(append(bytes.Clone(good), encodeEnd(f, &api.Capture{ID: "x", State: state})...))
	}
	f.Add([]byte(fileMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := decodeFile(b)
		if err == nil && v.State != Interrupted && v.State != Finished && v.State != Failed {
			t.Errorf("state %q", v.State)
		}
	})
}

// TestFormat holds the layout to what FORMAT.md says.
func TestFormat(t *testing.T) {
	b, err := encodeFile(&api.Capture{ID: "x"}, 1)
	if err != nil {
		t.Fatal(err)
	}
	(&cell{b: b[32:][:112]}).store([cellWords]uint64{1, 2, 3, 4, 5})
	const k = 0x9e3779b97f4a7c15
	sum := uint64(1)
	sum *= k
	for w := uint64(1); w <= 5; w++ {
		sum = (sum ^ w) * k
	}
	place := b[32+56:][:56] // turn 1
	if string(b[:8]) != "GALVOCAP" || le.Uint32(b[8:]) != 1 || le.Uint32(b[12:]) != 2 || int(le.Uint32(b[16:])) != len(b)-32-2*112 ||
		le.Uint64(place) != 1 || le.Uint64(place[40:]) != 5 || le.Uint64(place[48:]) != sum || b[32+2*112] != '{' {
		t.Errorf("the file is %q", b)
	}
}
