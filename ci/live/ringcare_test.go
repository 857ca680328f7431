package live

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"galvo/ci/need"
	"galvo/ci/rig"
	"galvo/services/api"
)

// A rule for a SIP number keeps the number's calls with their media, and nothing else.
func TestRingKeepsCalls(t *testing.T) {
	need.Tool(t, "curl")
	tx, rx := rig.VethFor(t)
	d := start(t, rx.Netns, twoWorkers+"[captures]\nqueueBytes = 64000000\n", rx.Name)
	d.portsUp(1)
	d.storageReady()
	frames := rig.Mix(35, 60_000)
	number := regexp.MustCompile(`\nTo: <sip:(\w+)@`)
	calls := map[string][]string{} // by who is called
	for _, f := range frames {
		to, id := number.FindSubmatch(f.Data), regexp.MustCompile(`\nCall-ID: (\S+)\r`).FindSubmatch(f.Data)
		if to != nil && id != nil && !slices.Contains(calls[string(to[1])], string(id[1])) {
			calls[string(to[1])] = append(calls[string(to[1])], string(id[1]))
		}
	}
	who := ""
	for w, ids := range calls {
		if len(ids) > len(calls[who]) || len(ids) == len(calls[who]) && w < who {
			who = w
		}
	}
	d.makeRing(api.RingRequest{Name: "calls", SizeBytes: 64 << 20, Rules: []api.RingRule{{Type: "sip", Value: who, Action: "full"}, {Type: "all", Action: "discard"}}})
	sent := play(t, tx, frames, 30_000)
	d.settle(sent)
	d.wait("everything is recorded or left out", func() bool { r := d.ring("calls"); return r.Packets+r.Discarded == sent })
	all := filepath.Join(t.TempDir(), "sent.pcap")
	if err := rig.WritePcap(all, frames); err != nil {
		t.Fatal(err)
	}
	// The calls that the number makes, too.
	var terms []string
	for _, f := range frames {
		id := regexp.MustCompile(`\nCall-ID: (\S+)\r`).FindSubmatch(f.Data)
		if id != nil && strings.Contains(string(f.Data), "sip:"+who+"@") {
			if term := fmt.Sprintf("callIdMedia == %q", id[1]); !slices.Contains(terms, term) {
				terms = append(terms, term)
			}
		}
	}
	want := framesOf(t, d.read(strings.Join(terms, " or "), all))
	signalling := framesOf(t, d.read(strings.ReplaceAll(strings.Join(terms, " or "), "callIdMedia", "callId"), all))
	if len(want) < 3*len(signalling) || len(signalling) == 0 {
		t.Fatalf("%d calls with %d messages and %d packets: the comparison says nothing", len(terms), len(signalling), len(want))
	}
	sameFrames(t, "calls of "+who, framesOf(t, d.past(url.Values{})), want)
}

// A ring that is deleted while one of its devices is away leaves nothing behind: its files there go when the device comes back. A capture that reads it fails, and
// says why.
func TestRingDeletedWithoutDevice(t *testing.T) {
	need.Tool(t, "curl")
	tx, rx := rig.VethFor(t)
	two := "[[storage]]\nname = \"one\"\ndirectory = \"one\"\n[[storage]]\nname = \"two\"\ndirectory = \"two\"\n"
	d := start(t, rx.Netns, twoWorkers+two, rx.Name)
	d.portsUp(1)
	for _, id := range []string{"one", "two"} {
		d.wait("the storage device is active", func() bool { return d.call("GET", "/api/v1/storage/"+id+"/files/", nil, nil) == nil })
	}
	d.must("POST", "/api/v1/rings", api.RingRequest{Name: "both", SizeBytes: 64 << 20, Devices: []string{"one", "two"}}, nil)
	d.recording("both")
	frames := rig.Mix(36, 10_000)
	sent := play(t, tx, frames, 40_000)
	d.settle(sent)
	d.wait("everything is recorded", func() bool { return d.ring("both").Packets == sent })
	reader := d.curl(url.Values{"fromCaptureBuffer": {"true"}, "endTime": {fmt.Sprint(time.Now().Add(time.Hour).UnixMicro())}}, "")
	d.wait("the capture of the ring has read what is there", func() bool { c := d.captures().Captures; return len(c) == 1 && c[0].Captured == sent })
	d.must("POST", "/api/v1/storage/two/deactivate", nil, nil)
	d.wait("the capture of the ring has ended", func() bool { return len(d.finished().Captures) == 1 })
	if err := reader.cmd.Wait(); err == nil {
		t.Error("the download of a capture that failed looks complete")
	}
	if c := d.finished().Captures[0]; c.State != "failed" || !strings.Contains(c.Reason, "the ring was closed") {
		t.Errorf("the capture: %+v", c)
	}
	d.recording("both")
	if r := d.ring("both"); !slices.ContainsFunc(r.DeviceStates, func(s api.RingDevice) bool {
		return s.Device == "two" && s.State == "absent" && strings.Contains(s.Reason, "not active")
	}) || !slices.Contains(r.Problems, "storage device two is missing: it is not active") {
		t.Errorf("a ring without one of its devices: %+v", r)
	}
	d.past(url.Values{})
	if c := d.finished().Captures[0]; c.Scan == nil || len(c.Scan.Gaps) == 0 || !strings.Contains(c.Scan.Gaps[0].Reason, "missing") {
		t.Errorf("a capture without one of the devices: %+v, scan %+v", c, c.Scan)
	}
	files := func(device string) []string {
		left, _ := filepath.Glob(filepath.Join(d.State, device, ".galvo", "rings", "*"))
		return left
	}
	d.must("DELETE", "/api/v1/rings/both", nil, nil)
	if len(files("one")) != 0 || len(files("two")) != 1 {
		t.Errorf("left are %v and %v", files("one"), files("two"))
	}
	d.kill("engine") // the next one remembers
	d.wait("the storage device is active", func() bool { return d.call("GET", "/api/v1/storage/one/files/", nil, nil) == nil })
	d.must("POST", "/api/v1/storage/two/activate", nil, nil)
	d.wait("the files of the deleted ring are gone", func() bool { return len(files("two")) == 0 })
	d.must("POST", "/api/v1/rings", api.RingRequest{Name: "both", SizeBytes: 64 << 20, Devices: []string{"one", "two"}}, nil)
	d.recording("both")
}

// A flipped byte, a full and a read-only disk: each is reported, and nothing else is lost.
func TestRingFaults(t *testing.T) {
	need.Tool(t, "curl")
	tx, rx := rig.VethFor(t)
	d, ids := startWithDisks(t, rx.Netns, twoWorkers+"[captures]\nqueueBytes = 64000000\n", 2, 128<<20, rx.Name)
	d.portsUp(1)
	d.must("POST", "/api/v1/rings", api.RingRequest{Name: "both", SizeBytes: 128 << 20, Devices: ids}, nil)
	d.recording("both")
	frames := rig.Mix(37, 60_000)
	sent := play(t, tx, frames, 40_000)
	d.settle(sent)
	d.wait("everything is recorded", func() bool { return d.ring("both").Packets == sent })
	d.wait("the memory plan has what the ring takes", func() bool {
		var m api.Memory
		d.must("GET", "/api/v1/system/memory", nil, &m)
		i := slices.IndexFunc(m.Parts, func(p api.MemoryPart) bool { return p.Name == "ring queues" })
		return i >= 0 && m.Parts[i].Used != nil && *m.Parts[i].Used > 0 && *m.Parts[i].Used <= m.Parts[i].Bytes
	})
	mount := func(i int) string { return filepath.Join(d.State, "storage", ids[i]) }

	// Another device is full: the ring has its place already.
	fill := filepath.Join(mount(1), "fill")
	f, err := os.Create(fill)
	if err != nil {
		t.Fatal(err)
	}
	for b := make([]byte, 1<<20); err == nil; {
		_, err = f.Write(b)
	}
	f.Close()

	// A byte on the disk flips.
	segments, _ := filepath.Glob(filepath.Join(mount(0), ".galvo", "rings", "both", "*.pcapng"))
	if len(segments) == 0 {
		t.Fatalf("no segments in %s", mount(0))
	}
	s, err := os.OpenFile(segments[0], os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1)
	if _, err := s.ReadAt(b, 1<<20+5000); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1
	if _, err := s.WriteAt(b, 1<<20+5000); err != nil {
		t.Fatal(err)
	}
	s.Close()
	got := framesOf(t, d.past(url.Values{}))
	c := d.finished().Captures[0]
	if len(got) >= len(frames) || len(got) < len(frames)-20_000 || c.Scan == nil || len(c.Scan.Gaps) != 1 || c.Scan.Gaps[0].Reason != "damaged" {
		t.Errorf("%d of %d frames with a damaged block; %+v", len(got), len(frames), c.Scan)
	}
	if r := d.ring("both"); !strings.Contains(strings.Join(r.Problems, "\n"), "its checksum is wrong") {
		t.Errorf("problems %v", r.Problems)
	}

	// The file system of a disk gives up, and can only be read from now on: the ring goes on with the other one.
	if err := syscall.Mount("", mount(1), "", syscall.MS_REMOUNT, "abort"); err != nil {
		t.Fatal(err)
	}
	more := rig.Mix(38, 30_000)
	before := d.ring("both").Packets
	sent = play(t, tx, more, 40_000)
	d.wait("everything is recorded", func() bool { return d.ring("both").Packets-before == sent })
	from := c.EndTime
	if r := d.ring("both"); r.DeviceStates[1].State != "failed" || r.DeviceStates[1].Reason == "" || r.DeviceStates[0].State != "active" {
		t.Errorf("a ring with a disk that can only be read: %+v", r)
	}
	sameFrames(t, "after the faults", framesOf(t, d.past(url.Values{"startTime": {fmt.Sprint(from)}})), dataOf(more))

	// So does the last one: the ring does not say that it records, and what it has can be read.
	if err := syscall.Mount("", mount(0), "", syscall.MS_REMOUNT, "abort"); err != nil {
		t.Fatal(err)
	}
	play(t, tx, rig.Mix(39, 30_000), 40_000)
	d.wait("the ring says that no device takes packets", func() bool {
		r := d.ring("both")
		return r.State == "stopped" && strings.Contains(r.Reason, "none of its storage devices") && r.Dropped["disk"] > 0
	})
	end := fmt.Sprint(d.finished().Captures[0].EndTime)
	got = framesOf(t, d.past(url.Values{"startTime": {fmt.Sprint(from)}, "endTime": {end}}))
	c = d.finished().Captures[0]
	if len(got) < len(more)-10_000 || len(got) > len(more) || c.Scan == nil || len(c.Scan.Gaps) == 0 { // what had not been written yet is gone
		t.Errorf("%d of %d frames of a ring that is stopped; %+v", len(got), len(more), c.Scan)
	}
}

// Rules follow the groups that they name, while the ring records.
func TestRingRulesFollowGroups(t *testing.T) {
	tx, rx := rig.VethFor(t)
	config := func(all bool) string {
		members := "vlans = [4000]"
		if all {
			members = "interfaces = [1]"
		}
		return twoWorkers + "[[group]]\nname = \"unwanted\"\n" + members + "\n[[storage]]\nname = \"data\"\ndirectory = \"data\"\n[[port]]\nname = \"" + rx.Name + "\"\n"
	}
	d := start(t, rx.Netns, config(false))
	d.portsUp(1)
	d.storageReady()
	d.makeRing(api.RingRequest{Name: "groups", SizeBytes: 64 << 20, Rules: []api.RingRule{{Type: "group", Value: "unwanted", Action: "discard"}}})
	frames := rig.Mix(39, 2000)
	sent := play(t, tx, frames, 20_000)
	d.wait("everything is recorded", func() bool { return d.ring("groups").Packets == sent })
	if status, b := d.raw("PUT", "/api/v1/config", strings.NewReader(config(true))); status != 200 {
		t.Fatalf("configuration: %d %s", status, b)
	}
	d.wait("the rule follows the group", func() bool {
		sent += play(t, tx, frames[:100], 20_000)
		r := d.ring("groups")
		return r.Discarded > 0 && r.State == "recording"
	})
	if r := d.ring("groups"); r.Packets < 2000 || r.Reason != "" {
		t.Errorf("%+v", r)
	}
	// A group that is no more: the ring goes on as before, and says so.
	if status, b := d.raw("PUT", "/api/v1/config", strings.NewReader(strings.Replace(config(true), "unwanted", "another", 1))); status != 200 {
		t.Fatalf("configuration: %d %s", status, b)
	}
	d.wait("the ring says that its rules are old", func() bool {
		r := d.ring("groups")
		return r.State == "recording" && strings.Contains(r.Reason, "rule 1")
	})
	// Other rules: what was recorded stays, and what comes is recorded by them, also in the next life of the engine.
	type rules struct {
		Rules []api.RingRule `json:"rules"`
	}
	other := rules{[]api.RingRule{{Type: "all", Action: "discard"}}}
	if err := d.call("PUT", "/api/v1/rings/groups/rules", rules{[]api.RingRule{{Type: "ip", Value: "10.0.0.300", Action: "full"}}}, nil); err == nil || api.ErrorOf(err).Kind != api.BadExpression {
		t.Errorf("a rule that makes no sense: %v", err)
	}
	if err := d.call("PUT", "/api/v1/rings/none/rules", other, nil); err == nil || api.ErrorOf(err).Kind != api.NotFound {
		t.Errorf("rules of a ring that there is not: %v", err)
	}
	var before api.Ring
	d.must("PUT", "/api/v1/rings/groups/rules", other, &before)
	if len(before.Rules) != 1 || before.Rules[0].Action != "discard" || before.Reason != "" || before.Packets < 2000 {
		t.Errorf("%+v", before)
	}
	discards := func() (all bool) {
		before := d.ring("groups")
		sent := play(t, tx, frames[:100], 20_000)
		d.wait("they are looked at", func() bool {
			r := d.ring("groups")
			return r.Packets+r.Discarded >= before.Packets+before.Discarded+sent
		})
		return d.ring("groups").Discarded == before.Discarded+sent
	}
	d.wait("the rules are in force", discards)
	d.kill("engine")
	d.recording("groups")
	d.portsUp(1)
	if !discards() {
		t.Errorf("the rules are forgotten: %+v", d.ring("groups"))
	}
}
