package live

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"galvo/ci/device"
	"galvo/ci/need"
	"galvo/ci/rig"
	"galvo/services/api"
)

// makeRing creates a ring on the storage device data, and waits until it records.
func (d *tested) makeRing(r api.RingRequest) {
	d.t.Helper()
	var made api.Ring
	d.must("POST", "/api/v1/rings", r, &made)
	if made.Name != r.Name || !slices.Equal(made.Devices, []string{"data"}) {
		d.t.Errorf("created %+v", made)
	}
	d.recording(r.Name)
}

// recording waits until a ring records.
func (d *tested) recording(name string) {
	d.t.Helper()
	d.wait("the ring records", func() bool { return d.ring(name).State == "recording" })
}

func (d *tested) ring(name string) (r api.Ring) {
	d.call("GET", "/api/v1/rings/"+name, nil, &r) // an engine that is just back is asked again
	return r
}

// past fetches what a ring has with the capture URL, up to now.
func (d *tested) past(query url.Values) string {
	d.t.Helper()
	query.Set("fromCaptureBuffer", "true")
	if query.Get("endTime") == "" {
		query.Set("endTime", "now")
	}
	file := filepath.Join(d.t.TempDir(), "past.pcapng")
	cmd := exec.Command("curl", "-sSkN", "-f", "-u", "admin:"+device.Password, "-o", file,
		d.URL+api.CaptureURLPath+"?"+strings.ReplaceAll(query.Encode(), "+", "%20"))
	cmd.Stderr = os.Stderr
	if err := d.Netns.Start(cmd); err != nil {
		d.t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		d.t.Fatalf("curl %v: %v", query, err)
	}
	return file
}

// What was recorded comes back: all of it, what a filter names, an interval, after a killed engine, and on from there live.
func TestRing(t *testing.T) {
	need.Tool(t, "curl")
	tx, rx := rig.VethFor(t)
	d := start(t, rx.Netns, twoWorkers+"[captures]\nqueueBytes = 64000000\n", rx.Name)
	d.portsUp(1)
	d.storageReady()
	if err := d.call("GET", api.CaptureURLPath+"?fromCaptureBuffer=true", nil, nil); err == nil || api.ErrorOf(err).Kind != api.NoRing {
		t.Errorf("the past without a ring: %v", err)
	}
	d.makeRing(api.RingRequest{Name: "office", SizeBytes: 128 << 20})
	frames := rig.Mix(31, 60_000)
	sent := play(t, tx, frames, 40_000)
	d.settle(sent)
	d.wait("everything is recorded", func() bool { return d.ring("office").Packets == sent })

	sameFrames(t, "everything", framesOf(t, d.past(url.Values{})), dataOf(frames))
	file := filepath.Join(t.TempDir(), "remote.pcapng")
	if code, said := d.remote("capture", "-k", "-d", d.URL, "-from", "now-1h", "-ring", "office", "-max-packets", "100", "-w", file); code != 0 || len(framesOf(t, file)) != 100 {
		t.Errorf("galvo capture of the past: exit code %d, said %q", code, said)
	}
	all := filepath.Join(t.TempDir(), "sent.pcap")
	if err := rig.WritePcap(all, frames); err != nil {
		t.Fatal(err)
	}
	for _, expression := range []string{"port == 53", "l7Protocol == TLS", "ip == 10.16.0.10", "l4Protocol == 17 and l7Protocol != DNS", "vlan == any", "ip == 203.0.113.9"} {
		want := framesOf(t, d.read(expression, all))
		got := framesOf(t, d.past(url.Values{"expression": {expression}}))
		sameFrames(t, expression, got, want)
		if c := d.finished().Captures[0]; sum(c) != sent { // with what the index left out
			t.Errorf("%s: of %d frames %+v, scan %+v", expression, sent, c, c.Scan)
		}
	}
	for _, expression := range []string{"callId == \"" + callOf(t, frames) + "\"", "callIdMedia == \"" + callOf(t, frames) + "\""} {
		sameFrames(t, expression, framesOf(t, d.past(url.Values{"expression": {expression}})), framesOf(t, d.read(expression, all)))
		if c := d.finished().Captures[0]; c.Scan == nil || c.Scan.Matched != c.Captured || c.Scan.Packets != sent || c.Scan.StartTime == 0 || sum(c) != sent {
			t.Errorf("%s: %+v, scan %+v", expression, c, c.Scan)
		}
	}
	for _, expression := range []string{`streamRegexp == "(?i)host: [a-z]+"`, `streamRegexp == "HTTP/1.1.*" and l7Protocol == HTTP`, `port == 80 and streamRegexp != "[a-z]{4}"`} {
		sameFrames(t, expression, framesOf(t, d.past(url.Values{"expression": {expression}})), framesOf(t, d.read(expression, all)))
	}
	d.past(url.Values{"expression": {"port == 53"}, "maxPackets": {"100"}})
	if c := d.finished().Captures[0]; c.Captured != 100 || c.Scan.Matched != 100 || sum(c) > sent/2 || c.Reason != "packet limit" {
		t.Errorf("100 packets, of %d frames %+v, scan %+v", sum(c), c, c.Scan)
	}
	begin := fmt.Sprint(d.ring("office").Oldest)
	limited := framesOf(t, d.past(url.Values{"startTime": {begin}, "maxSeconds": {"1"}}))
	if c := d.finished().Captures[0]; len(limited) == 0 || sum(c) != uint64(len(limited)) || c.Scan.Packets >= sent || c.Reason != "time limit" {
		t.Errorf("a second of %d frames: %+v, scan %+v", len(limited), c, c.Scan)
	}
	d.past(url.Values{"expression": {"ip == 203.0.113.9"}})
	last := d.finished().Captures[0]
	if last.Source != "office" || last.Scan == nil || last.Scan.Empty == "" || last.Captured != 0 || last.Reason != "end time" {
		t.Errorf("finished: %+v, scan %+v", last, last.Scan)
	}
	var estimate api.DryRun
	d.must("POST", "/api/v1/rings/office/dryrun", api.DryRunRequest{Expression: "port == 53"}, &estimate)
	if estimate.Packets == 0 || estimate.Blocks == 0 {
		t.Errorf("dry run %+v", estimate)
	}

	var slot api.Slot
	d.must("POST", "/api/v1/slots", api.SlotRequest{Ring: &api.RingInterval{Name: "office"}}, &slot)
	d.wait("the interval is analysed", func() bool {
		var list api.SlotList
		d.must("GET", "/api/v1/slots", nil, &list)
		slot = list.Slots[0]
		return slot.State == "ready"
	})
	if slot.Packets != sent || slot.Ring == nil || slot.Flows == 0 {
		t.Errorf("slot %+v", slot)
	}

	d.kill("engine")
	d.recording("office")
	d.portsUp(1)
	before := d.received()
	sameFrames(t, "after a killed engine", framesOf(t, d.past(url.Values{})), dataOf(frames))
	live := d.curl(url.Values{"fromCaptureBuffer": {"true"}, "expression": {"port == 53"}}, "")
	more := rig.Mix(32, 5000)
	for i := range more {
		more[i].Time += frames[len(frames)-1].Time
	}
	d.settle(before + play(t, tx, more, 40_000))
	both := filepath.Join(t.TempDir(), "both.pcap")
	if err := rig.WritePcap(both, append(slices.Clone(frames), more...)); err != nil {
		t.Fatal(err)
	}
	want := framesOf(t, d.read("port == 53", both))
	d.wait("the capture goes on with what comes", func() bool {
		list := d.captures().Captures
		return len(list) == 1 && list[0].Captured >= uint64(len(want))
	})
	d.end(live)
	sameFrames(t, "on into the present", framesOf(t, live.file), want)

	d.must("DELETE", "/api/v1/rings/office", nil, nil)
	if err := d.call("GET", "/api/v1/rings/office", nil, nil); err == nil || api.ErrorOf(err).Kind != api.NotFound {
		t.Errorf("a deleted ring: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(d.State, "data", ".galvo", "rings", "*")); len(left) > 0 {
		t.Errorf("left of a deleted ring: %v", left)
	}
	// What is captured from an analysis is what was analysed, not what another ring of that name has.
	d.makeRing(api.RingRequest{Name: "office", SizeBytes: 64 << 20})
	d.must("POST", "/api/v1/slots", api.SlotRequest{Ring: &api.RingInterval{Name: "office", StartTime: 1}}, &slot)
	d.must("DELETE", "/api/v1/rings/office", nil, nil)
	d.makeRing(api.RingRequest{Name: "office", SizeBytes: 64 << 20})
	if status, b := d.raw("GET", api.CaptureURLPath+"?mm-id=:1", nil); status != http.StatusConflict || !strings.Contains(string(b), "was deleted") {
		t.Errorf("a capture from the analysis of a ring that was deleted: %d %s", status, b)
	}
}

// callOf returns the Call-ID of a call.
func callOf(t *testing.T, frames []rig.Frame) string {
	t.Helper()
	for _, f := range frames {
		if _, after, ok := strings.Cut(string(f.Data), "\nCall-ID: "); ok {
			id, _, _ := strings.Cut(after, "\r")
			return id
		}
	}
	t.Fatal("no call among the frames")
	return ""
}

// read returns a file with what galvo read takes of a savefile.
func (d *tested) read(expression, savefile string) string {
	d.t.Helper()
	out := filepath.Join(d.t.TempDir(), "read.pcapng")
	if b, err := exec.Command(d.Galvo, "read", "-filter", expression, "-undecided", "hold", "-w", out, savefile).CombinedOutput(); err != nil {
		d.t.Fatalf("galvo read: %v: %s", err, b)
	}
	return out
}

// Rules decide what a ring keeps, and wrong requests for rings are refused.
func TestRingRules(t *testing.T) {
	tx, rx := rig.VethFor(t)
	d := start(t, rx.Netns, twoWorkers, rx.Name)
	d.portsUp(1)
	d.storageReady()
	for _, c := range []struct {
		request any
		want    api.Kind
	}{
		{api.RingRequest{Name: "live", SizeBytes: 64 << 20}, api.BadRequest},
		{api.RingRequest{Name: "../x", SizeBytes: 64 << 20}, api.BadRequest},
		{api.RingRequest{Name: "a", SizeBytes: 1000}, api.BadRequest},
		{api.RingRequest{Name: "a", SizeBytes: 1e18}, api.StorageFull},
		{api.RingRequest{Name: "a", SizeBytes: 64 << 20, Devices: []string{"nowhere"}}, api.BadRequest},
		{api.RingRequest{Name: "a", SizeBytes: 64 << 20, Replication: 1}, api.BadRequest},
		{api.RingRequest{Name: "a", SizeBytes: 64 << 20, Rules: []api.RingRule{{Type: "ip", Value: "10.0.0", Action: "discard"}}}, api.BadExpression},
		{api.RingRequest{Name: "a", SizeBytes: 64 << 20, Rules: []api.RingRule{{Type: "all", Action: "snap"}}}, api.BadRequest},
	} {
		if err := d.call("POST", "/api/v1/rings", c.request, nil); err == nil || api.ErrorOf(err).Kind != c.want {
			t.Errorf("%+v: %v, want %s", c.request, err, c.want)
		}
	}
	d.makeRing(api.RingRequest{Name: "rules", SizeBytes: 64 << 20, Rules: []api.RingRule{
		{Type: "port", Value: "53", Action: "full"},
		{Type: "filter", Value: "l4Protocol == 17", Action: "discard"},
		{Type: "all", Action: "snap", SnapLength: 60},
	}})
	if err := d.call("POST", "/api/v1/rings", api.RingRequest{Name: "second", SizeBytes: 64 << 20}, nil); err == nil || api.ErrorOf(err).Kind != api.Conflict {
		t.Errorf("a ring more than the setting allows: %v", err)
	}
	frames := rig.Mix(33, 20_000)
	sent := play(t, tx, frames, 40_000)
	d.settle(sent)
	d.wait("everything is recorded or left out", func() bool { r := d.ring("rules"); return r.Packets+r.Discarded == sent })
	file := d.past(url.Values{})
	if n := len(framesOf(t, d.read("l4Protocol == 17 and not port == 53", file))); n != 0 {
		t.Errorf("%d packets that a rule discards", n)
	}
	if n := len(framesOf(t, d.read("port == 53", file))); n == 0 {
		t.Error("what a rule keeps is not there")
	}
	for _, f := range framesOf(t, d.read("l4Protocol == 6", file)) {
		if len(f) > 60 {
			t.Fatalf("%d bytes of a packet that a rule cuts to 60", len(f))
		}
	}
	until := time.Now().Add(time.Hour).UnixMicro()
	var pins []api.RingPin
	r := d.ring("rules")
	d.must("POST", "/api/v1/rings/rules/pins", api.RingPin{StartTime: r.Oldest, EndTime: r.Newest + 1, Until: until}, &pins)
	if len(pins) != 1 || len(d.ring("rules").Pins) != 1 {
		t.Errorf("pins %+v", pins)
	}
	if status, b := d.raw(http.MethodGet, api.CaptureURLPath+"?ring=rules", nil); status != http.StatusBadRequest {
		t.Errorf("ring without fromCaptureBuffer: %d %s", status, fmt.Sprint(string(b)))
	}
}

// A capture from the past that ends by the clock while packets come has every one up to its end time.
func TestRingEndsByClock(t *testing.T) {
	need.Tool(t, "curl")
	tx, rx := rig.VethFor(t)
	d := start(t, rx.Netns, twoWorkers+"[captures]\nqueueBytes = 64000000\n", rx.Name)
	d.portsUp(1)
	d.storageReady()
	d.makeRing(api.RingRequest{Name: "office", SizeBytes: 128 << 20})
	frames := rig.Mix(41, 20_000)
	sent, told := uint64(0), 0
	for range 4 {
		played := make(chan uint64)
		go func() { played <- play(t, tx, frames, 10_000) }()
		d.wait("packets come", func() bool { return d.ring("office").Packets > sent })
		from := time.Now().Add(-time.Second).UnixMicro()
		to := from + 1_700_000
		query := url.Values{"startTime": {fmt.Sprint(from)}, "endTime": {fmt.Sprint(to)}}
		got := framesOf(t, d.past(query))
		sent += <-played
		d.wait("everything is recorded", func() bool { return d.ring("office").Packets == sent })
		want := framesOf(t, d.past(query))
		if len(want) > 0 && d.ring("office").Newest > to {
			told++ // packets came before and after the end
		}
		sameFrames(t, "up to the end", got, want)
	}
	if told == 0 {
		t.Error("the comparison says nothing")
	}
}
