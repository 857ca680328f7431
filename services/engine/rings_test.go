package engine

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"galvo/ci/rig"
	"galvo/services/api"
	"galvo/services/config"
	"galvo/services/internal/capture"
	"galvo/services/internal/filter"
	"galvo/services/internal/handover"
	"galvo/services/internal/memory"
	"galvo/services/internal/packet"
	"galvo/services/internal/pipeline"
)

// A list of rings that is damaged is read from its copy, rules and all; where there is none either, the engine goes on and what is left of the files is kept.
func TestRingsListIsDamaged(t *testing.T) {
	const good = `[{"name":"office","devices":["data"],"sizeBytes":100,"rules":[{"type":"all","action":"l4"}],"Made":true}]`
	for _, c := range []struct {
		name, list, second string
		rings              int
	}{
		{"whole", good, good, 1},
		{"empty", "", good, 1},
		{"cut off", good[:40], good, 1},
		{"null", "[null]", good, 1},
		{"missing", "-", good, 1},
		{"both damaged", good[:40], "x", 0},
		{"no copy", good[:40], "-", 0},
		{"none", "-", "-", 0},
	} {
		dir := t.TempDir()
		for name, text := range map[string]string{"rings.json": c.list, "rings.json" + copySuffix: c.second} {
			if text == "-" {
				continue
			}
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		rs := openRings(dir, &memoryPlan{Plan: &memory.Plan{}}, nil, nil, nil, nil)
		if len(rs.list) != c.rings || c.rings == 1 && (rs.list[0].Name != "office" || len(rs.list[0].Rules) != 1 || !rs.list[0].Made) {
			t.Errorf("%s: %d rings", c.name, len(rs.list))
		}
		if _, err := os.Stat(filepath.Join(dir, "rings.json.damaged")); (err == nil) != (c.list != good && c.list != "-") {
			t.Errorf("%s: the damaged list is kept: %v", c.name, err)
		}
		rs.list = []*recorder{{RingRequest: api.RingRequest{Name: "new"}}}
		if err := rs.save(); err != nil {
			t.Fatal(err)
		}
		if rs := openRings(dir, &memoryPlan{Plan: &memory.Plan{}}, nil, nil, nil, nil); len(rs.list) != 1 || rs.list[0].Name != "new" {
			t.Errorf("%s: saved anew: %v", c.name, rs.list)
		}
	}
}

// What is wrong with a rule is said of the value that somebody wrote.
func TestRuleErrors(t *testing.T) {
	for _, c := range []struct {
		rule     api.RingRule
		pos, len int
	}{
		{api.RingRule{Type: "ip", Value: "10.0.0.300", Action: "full"}, 0, 10},
		{api.RingRule{Type: "port", Value: "80,70000", Action: "full"}, 3, 5},
		{api.RingRule{Type: "mac", Value: "x", Action: "full"}, 0, 1},
		{api.RingRule{Type: "filter", Value: "port == 80 and x", Action: "full"}, 15, 1},
	} {
		_, err := ringRules([]api.RingRule{{Type: "all", Action: "full"}, c.rule}, &filter.Env{}, nil)
		if wrong := api.ErrorOf(err); err == nil || wrong.Kind != api.BadExpression || wrong.Pos != c.pos || wrong.Len != c.len || !strings.HasPrefix(wrong.Text, "rule 2: ") {
			t.Errorf("%+v: %d, %d: %v", c.rule, wrong.Pos, wrong.Len, err)
		}
	}
}

// Who asks for no ring, or for one that is not there, is told which there are.
func TestRingNames(t *testing.T) {
	open, _ := newRings(t, "a", "b")
	rs := open(2)
	for name, want := range map[string]string{"": "say which, a or b", "c": "there are: a, b"} {
		if _, err := rs.find(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// A ring whose rules name what is not there any more is opened all the same: it can be read, and records what it is not sure about in full.
func TestRingWithoutItsGroup(t *testing.T) {
	open, _ := newRings(t, "a")
	rs := open(1)
	env := &filter.Env{Groups: []filter.Group{{Name: "office", VLANs: []int{5}}}}
	rs.env = func() *filter.Env { return env }
	rs.envNow = rs.env
	rules := []api.RingRule{{Type: "port", Value: "53", Action: "discard"}, {Type: "group", Value: "office", Action: "full"}, {Type: "all", Action: "discard"}}
	r, err := rs.setRules("a", rules)
	if err != nil {
		t.Fatal(err)
	}
	env = &filter.Env{}
	if rs.renew(); r.state != ringRecording || !strings.Contains(r.reason, "its rules are those of before") {
		t.Errorf("while it records: %s, %q", r.state, r.reason)
	}
	rs.close()

	rs = open(1)
	if r, _, err = rs.opened("a"); err != nil {
		t.Fatal(err)
	}
	if r.state != ringRecording || !strings.HasPrefix(r.reason, "rule 2: ") || !strings.HasSuffix(r.reason, "is kept in full") {
		t.Errorf("opened anew: %s, %q", r.state, r.reason)
	}
	if c, err := rs.config(r, r.dirs); err == nil || len(c.Rules) != 1 {
		t.Errorf("%d rules, %v", len(c.Rules), err)
	}
	if rs.renew(); !strings.HasSuffix(r.reason, "is kept in full") {
		t.Errorf("still without the group: %q", r.reason)
	}
	rs.env = func() *filter.Env { return &filter.Env{Groups: []filter.Group{{Name: "office", VLANs: []int{5}}}} }
	if rs.renew(); r.state != ringRecording || r.reason != "" {
		t.Errorf("the group is back: %s, %q", r.state, r.reason)
	}
}

// The value of a rule is one value, whatever is in it.
func TestRuleValues(t *testing.T) {
	groups := []string{`ends with \`, `it's "quoted"`, `both \" and '`}
	env := &filter.Env{}
	for i, name := range groups {
		env.Groups = append(env.Groups, filter.Group{Name: name, VLANs: []int{i}})
	}
	for _, name := range groups {
		if _, err := ringRules([]api.RingRule{{Type: "group", Value: name, Action: "full"}}, env, nil); err != nil {
			t.Errorf("group %s: %v", name, err)
		}
	}
	for _, number := range []string{`+49 30\`, `a"b`, `\`} {
		if _, err := ringRules([]api.RingRule{{Type: "sip", Value: number, Action: "full"}}, env, nil); err != nil {
			t.Errorf("SIP number %s: %v", number, err)
		}
	}
	if _, err := ringRules([]api.RingRule{{Type: "ip", Value: `10.0.0.1" or ip == "10.0.0.2`, Action: "full"}}, env, nil); err == nil {
		t.Error("a value that ends its quotes was taken for two")
	}
}

// called returns a storage device with a directory.
func called(name, directory string) handover.Device {
	return handover.Device{ID: name, Name: name, Directory: directory, Active: true}
}

// newRings makes rings on the storage device data, and returns what opens them: as many at once as it is told.
func newRings(t *testing.T, names ...string) (open func(most int) *rings, vs *volumes) {
	t.Helper()
	state := t.TempDir()
	if err := os.Mkdir(filepath.Join(state, "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	vs = newVolumes(state)
	t.Cleanup(vs.close)
	vs.set([]handover.Device{called("data", "data")}, nil)
	open = func(most int) *rings {
		plan := &memoryPlan{Settings: memory.Settings{Workers: 1}, Plan: &memory.Plan{Rings: most, RingQueueBytes: 8 << 20, ReorderBytes: 8 << 20}}
		env := func() *filter.Env { return &filter.Env{} }
		rs := openRings(state, plan, vs, env, env, func() []pipeline.Interface { return []pipeline.Interface{{Port: 1, Link: packet.LinkEthernet}} })
		t.Cleanup(rs.close)
		rs.follow()
		return rs
	}
	rs := open(len(names))
	for _, name := range names {
		r, err := rs.create(api.RingRequest{Name: name, SizeBytes: 16 << 20})
		if err != nil {
			t.Fatal(err)
		}
		<-r.created
	}
	rs.close()
	return open, vs
}

// Of a storage device that was deactivated a ring says that, and not that nothing lies there.
func TestRingWithoutADevice(t *testing.T) {
	open, vs := newRings(t)
	if err := os.Mkdir(filepath.Join(vs.state, "second"), 0o700); err != nil {
		t.Fatal(err)
	}
	rs := open(1)
	second := called("second", "second")
	vs.set([]handover.Device{called("data", "data"), second}, rs.letGo)
	r, err := rs.create(api.RingRequest{Name: "both", Devices: []string{"data", "second"}, SizeBytes: 32 << 20})
	if err != nil {
		t.Fatal(err)
	}
	<-r.created
	for _, c := range []struct {
		devices []handover.Device
		want    string
	}{
		{[]handover.Device{called("data", "data"), {ID: "second", Name: "second", Directory: "second"}}, "storage device second is missing: it is not active"},
		{[]handover.Device{called("data", "data")}, "storage device second is missing: there is no such storage device now"},
	} {
		vs.set(c.devices, rs.letGo)
		rs.follow()
		if v := rs.views()[0]; v.State != ringRecording || !slices.Equal(v.Problems, []string{c.want}) {
			t.Errorf("%s, problems %q, want %q", v.State, v.Problems, c.want)
		}
		vs.set([]handover.Device{called("data", "data"), second}, rs.letGo)
		rs.follow()
		if v := rs.views()[0]; v.State != ringRecording || len(v.Problems) != 0 {
			t.Errorf("back again: %s, problems %q", v.State, v.Problems)
		}
	}
}

// A ring stays where it is when the directory that it lies in is called something else, while it records and while it does not, and though another one is called as
// that was.
func TestRingOnRenamedDirectory(t *testing.T) {
	open, vs := newRings(t, "one")
	rs := open(1)
	rename := func(d ...handover.Device) {
		for _, v := range vs.set(d, rs.letGo) {
			t.Log("opened", v.ID())
		}
	}
	if err := os.Mkdir(filepath.Join(vs.state, "new"), 0o700); err != nil {
		t.Fatal(err)
	}
	want := func(device, state string) {
		t.Helper()
		v := rs.views()[0]
		if v.State != state || !slices.Equal(v.Devices, []string{device}) || v.DeviceStates[0].Device != device {
			t.Errorf("want it %s on %s: %+v", state, device, v)
		}
	}
	want("data", ringRecording)
	rename(called("disk 1", "data"), called("data", "new"))
	rs.follow()
	want("disk 1", ringRecording)
	rs.close()
	rename(called("disk 2", "data"))
	rs = open(1)
	want("disk 2", ringRecording)
	rename()
	rs.follow()
	want("disk 2", ringWaiting)
	rename(called("disk 3", "data"))
	if err := rs.delete("one"); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(vs.state, "data", ".galvo", "rings", "*")); len(left) > 0 {
		t.Errorf("left of a deleted ring: %v", left)
	}
}

// A ring that is one too many waits, and says so of a device that is there; when another one is deleted it records.
func TestRingWaitsForAnother(t *testing.T) {
	open, _ := newRings(t, "one", "two")
	rs := open(1)
	two := func() api.Ring { return rs.views()[len(rs.views())-1] }
	if v := two(); v.State != ringWaiting || v.DeviceStates[0].State != "active" {
		t.Errorf("one ring of two: %+v", v)
	}
	if _, err := rs.create(api.RingRequest{Name: "three", SizeBytes: 16 << 20}); err == nil || !strings.Contains(err.Error(), "restart the processing") {
		t.Errorf("one ring too many: %v", err)
	}
	if err := rs.delete("one"); err != nil {
		t.Fatal(err)
	}
	if v := two(); v.State != ringRecording {
		t.Errorf("the only ring: %+v", v)
	}
	if r, _, err := rs.opened("two"); err != nil || !slices.Equal(r.Devices, []string{"data"}) {
		t.Errorf("%v, %v", r, err)
	}
}

// A device is let go though a ring is being created there, which is made when the device is back.
func TestRingCreatedOnDeviceThatGoes(t *testing.T) {
	open, vs := newRings(t)
	rs := open(1)
	r, err := rs.create(api.RingRequest{Name: "one", SizeBytes: 256 << 20})
	if err != nil {
		t.Fatal(err)
	}
	vs.set(nil, func(device string) {
		rs.letGo(device)
		select {
		case <-r.created:
		default:
			t.Error("it is let go, and files are made there")
		}
	})
	rs.follow()
	if v := rs.views()[0]; v.State != ringWaiting {
		t.Errorf("without its device: %+v", v)
	}
	vs.set([]handover.Device{called("data", "data")}, nil)
	rs.follow()
	<-r.created
	if v := rs.views()[0]; v.State != ringRecording {
		t.Errorf("with its device: %+v", v)
	}
}

// The setting of the reorder buffer is taken over while rings are open, and by those that are opened later.
func TestReorderSetting(t *testing.T) {
	open, vs := newRings(t, "one")
	rs := open(1)
	want := func(bytes int64) {
		t.Helper()
		if _, opened, err := rs.opened("one"); err != nil || opened.Reorder() != bytes {
			t.Errorf("want %d bytes: %v", bytes, err)
		}
	}
	want(8 << 20)
	rs.setReorder(64 << 20)
	want(64 << 20)
	vs.set(nil, rs.letGo)
	rs.follow()
	vs.set([]handover.Device{called("data", "data")}, nil)
	rs.follow()
	want(64 << 20)
}

// A capture of a ring that has no packet yet may be limited in time like any other: that counts from now.
func TestPastOfEmptyRing(t *testing.T) {
	open, _ := newRings(t, "one")
	captures, err := capture.New(capture.Options{Source: capture.Source{Workers: 1, Interfaces: func() []pipeline.Interface { return nil }}, Max: 4})
	if err != nil {
		t.Fatal(err)
	}
	e := &Engine{captures: captures, rings: open(1)}
	e.settings.Store(&settings{config: *config.Default()})
	for _, expression := range []string{"", "port == 80", `callId == "x"`} {
		f, err := filter.Compile(expression, &filter.Env{})
		if err != nil {
			t.Fatal(err)
		}
		c, err := e.startPast(capture.Spec{Sink: "discard", Source: "one", Filter: f, Format: "pcapng", QueueBytes: 1 << 20, MaxDuration: time.Minute})
		if err != nil {
			t.Errorf("%q: %v", expression, err)
			continue
		}
		c.Finish("end")
	}
	e.running.Wait()
}

// record has the ring of a name record so many frames.
func (rs *rings) record(t *testing.T, name string, frames int) {
	t.Helper()
	r, err := rs.named(name)
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range rig.Mix(5, frames) {
		p := packet.Packet{Frame: packet.Frame{Data: f.Data, Len: uint32(len(f.Data)), Time: 1_700_000_000e9 + int64(i)}}
		p.Decode(packet.LinkEthernet)
		r.stages[0].Process(&pipeline.Batch{Packets: []packet.Packet{p}, Meta: make([]pipeline.Meta, 1), Now: p.Time})
	}
}

// The list of rings is lost, with its copy: a ring that is created where one lies is that one, with its packets, whatever size was asked for, and however full the device is;
// what is left of a creation that was cut off is not.
func TestRingIsThereAlready(t *testing.T) {
	open, vs := newRings(t, "one", "other")
	rs := open(2)
	rs.record(t, "one", 1000)
	rs.close()
	forget := func() {
		for _, name := range []string{"rings.json", "rings.json" + copySuffix} {
			if err := os.Remove(filepath.Join(vs.state, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	forget()
	rs = open(2)
	for name, size := range map[string]uint64{"one": 1 << 60, "other": 24 << 20} {
		r, err := rs.create(api.RingRequest{Name: name, SizeBytes: size})
		if err != nil {
			t.Fatal(err)
		}
		<-r.created
		v := rs.view(r)
		if (v.Oldest == 1_700_000_000e6) != (name == "one") || (v.SizeBytes == 15<<20) != (name == "one") || (len(v.Problems) > 0) != (name == "one") || v.State != ringRecording {
			t.Errorf("%+v", v)
		}
	}
	if err := rs.delete("one"); err != nil {
		t.Fatal(err)
	}
	r, err := rs.create(api.RingRequest{Name: "one", SizeBytes: 16 << 20})
	if err != nil {
		t.Fatal(err)
	}
	if <-r.created; rs.view(r).Oldest != 0 {
		t.Errorf("a ring that was deleted is there again: %+v", rs.view(r))
	}
	// One that cannot be opened is failed, and its files stay until it is deleted.
	rs.record(t, "one", 1000)
	rs.close()
	forget()
	dir := filepath.Join(vs.state, "data", ".galvo", "rings", "one")
	for _, name := range []string{"state", "000001.pcapng"} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	rs = open(2)
	if r, err = rs.create(api.RingRequest{Name: "one", SizeBytes: 16 << 20}); err != nil {
		t.Fatal(err)
	}
	<-r.created
	if v := rs.view(r); v.State != ringFailed || !strings.Contains(v.Reason, "segments are not there") {
		t.Errorf("%+v", v)
	}
	if _, err := os.Stat(filepath.Join(dir, "000000.pcapng")); err != nil {
		t.Error(err)
	}
	if err := rs.delete("one"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("the files of a deleted ring are there")
	}
}

// Files of a deleted ring that cannot be removed are not those of a new one: that would lose its own when they can.
func TestFilesOfDeletedRing(t *testing.T) {
	open, vs := newRings(t, "one")
	rs := open(1)
	stuck := filepath.Join(vs.state, "data", ".galvo", "rings", "one", "000009.pcapng")
	if err := os.MkdirAll(filepath.Join(stuck, "somebody's"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := rs.delete("one"); err == nil {
		t.Error("all of it is deleted")
	}
	_, err := rs.create(api.RingRequest{Name: "one", SizeBytes: 16 << 20})
	if err == nil || !strings.Contains(err.Error(), "deleted") {
		t.Errorf("it is created: %v", err)
	}
	if err := os.RemoveAll(stuck); err != nil {
		t.Fatal(err)
	}
	r, err := rs.create(api.RingRequest{Name: "one", SizeBytes: 16 << 20})
	if err != nil {
		t.Fatal(err)
	}
	if <-r.created; rs.view(r).State != ringRecording {
		t.Errorf("%+v", rs.view(r))
	}
}

// A path that leads to no ring is told from a ring that cannot be read, and an interval that ends before it begins is the caller's fault.
func TestRingPaths(t *testing.T) {
	open, vs := newRings(t, "one")
	e := &Engine{rings: open(1)}
	e.settings.Store(&settings{config: *config.Default(), env: &filter.Env{}})
	ask := func(name string, pin api.RingPin) (api.Kind, api.Kind) {
		t.Helper()
		path := api.NameInput{Name: name}
		_, dry := e.dryRun(t.Context(), &api.DryRunInput{NameInput: path})
		_, pinned := e.pinRing(t.Context(), &api.PinInput{NameInput: path, Body: pin})
		kind := func(err error) api.Kind {
			if err == nil {
				return ""
			}
			return api.ErrorOf(err).Kind
		}
		return kind(dry), kind(pinned)
	}
	whole := api.RingPin{StartTime: 1, EndTime: 2}
	if dry, pinned := ask("none", whole); dry != api.NotFound || pinned != api.NotFound {
		t.Errorf("a ring that is not there: %q, %q", dry, pinned)
	}
	if dry, pinned := ask("one", whole); dry != "" || pinned != "" {
		t.Errorf("a ring: %q, %q", dry, pinned)
	}
	if _, pinned := ask("one", api.RingPin{StartTime: 2, EndTime: 2}); pinned != api.BadRequest {
		t.Errorf("an interval without a length: %q", pinned)
	}
	vs.set(nil, e.rings.letGo)
	e.rings.follow()
	if dry, pinned := ask("one", whole); dry != api.NoRing || pinned != api.NoRing {
		t.Errorf("a ring without its device: %q, %q", dry, pinned)
	}
}
