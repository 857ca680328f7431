package rings

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"galvo/ci/rig"
	"galvo/services/api"
	"galvo/services/internal/filter"
	"galvo/services/internal/handover"
	"galvo/services/internal/packet"
	"galvo/services/internal/pipeline"
	"galvo/services/internal/volume"
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
		rs := Open(Config{State: dir})
		if len(rs.list) != c.rings || c.rings == 1 && (rs.list[0].Name != "office" || len(rs.list[0].Rules) != 1 || !rs.list[0].Made) {
			t.Errorf("%s: %d rings", c.name, len(rs.list))
		}
		if _, err := os.Stat(filepath.Join(dir, "rings.json.damaged")); (err == nil) != (c.list != good && c.list != "-") {
			t.Errorf("%s: the damaged list is kept: %v", c.name, err)
		}
		rs.list = []*Recorder{{RingRequest: api.RingRequest{Name: "new"}}}
		if err := rs.save(); err != nil {
			t.Fatal(err)
		}
		if rs := Open(Config{State: dir}); len(rs.list) != 1 || rs.list[0].Name != "new" {
			t.Errorf("%s: saved anew: %v", c.name, rs.list)
		}
	}
}

// A snap length belongs to one action, which needs it.
func TestRuleSnapLength(t *testing.T) {
	for _, c := range []struct {
		rule api.RingRule
		want string
	}{
		{api.RingRule{Type: "all", Action: "snap"}, "rule 1: the action snap needs a snapLength"},
		{api.RingRule{Type: "all", Action: "l2", SnapLength: 64}, "rule 1: snapLength goes with the action snap, not with l2"},
		{api.RingRule{Type: "all", Action: "snap", SnapLength: 64}, ""},
		{api.RingRule{Type: "all", Action: "l2"}, ""},
	} {
		_, err := compile([]api.RingRule{c.rule}, &filter.Env{}, nil)
		if (err == nil) != (c.want == "") || err != nil && !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.rule, err, c.want)
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
		_, err := compile([]api.RingRule{{Type: "all", Action: "full"}, c.rule}, &filter.Env{}, nil)
		if wrong := api.ErrorOf(err); err == nil || wrong.Kind != api.BadExpression || wrong.Pos != c.pos || wrong.Len != c.len || !strings.HasPrefix(wrong.Text, "rule 2: ") {
			t.Errorf("%+v: %d, %d: %v", c.rule, wrong.Pos, wrong.Len, err)
		}
	}
}

// Who asks for no ring, or for one that is not there, is told which there are.
func TestRingNames(t *testing.T) {
	open, _, _ := newRings(t, "a", "b")
	rs := open(2)
	for name, want := range map[string]string{"": "say which, a or b", "c": "there are: a, b"} {
		if _, err := rs.find(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// A ring whose rules name what is not there any more is opened all the same: it can be read, and records what it is not sure about in full.
func TestRingWithoutItsGroup(t *testing.T) {
	open, _, _ := newRings(t, "a")
	rs := open(1)
	env := &filter.Env{Groups: []filter.Group{{Name: "office", VLANs: []int{5}}}}
	rs.Env = func() *filter.Env { return env }
	rs.EnvNow = rs.Env
	rules := []api.RingRule{{Type: "port", Value: "53", Action: "discard"}, {Type: "group", Value: "office", Action: "full"}, {Type: "all", Action: "discard"}}
	r, err := rs.setRules("a", rules)
	if err != nil {
		t.Fatal(err)
	}
	env = &filter.Env{}
	if rs.Renew(); r.state != stateRecording || !strings.Contains(r.reason, "its rules are those of before") {
		t.Errorf("while it records: %s, %q", r.state, r.reason)
	}
	rs.Close()

	rs = open(1)
	if r, _, err = rs.Opened("a"); err != nil {
		t.Fatal(err)
	}
	if r.state != stateRecording || !strings.HasPrefix(r.reason, "rule 2: ") || !strings.HasSuffix(r.reason, "is kept in full") {
		t.Errorf("opened anew: %s, %q", r.state, r.reason)
	}
	if c, err := rs.config(r, r.dirs); err == nil || len(c.Rules) != 1 {
		t.Errorf("%d rules, %v", len(c.Rules), err)
	}
	if rs.Renew(); !strings.HasSuffix(r.reason, "is kept in full") {
		t.Errorf("still without the group: %q", r.reason)
	}
	rs.Env = func() *filter.Env { return &filter.Env{Groups: []filter.Group{{Name: "office", VLANs: []int{5}}}} }
	if rs.Renew(); r.state != stateRecording || r.reason != "" {
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
		if _, err := compile([]api.RingRule{{Type: "group", Value: name, Action: "full"}}, env, nil); err != nil {
			t.Errorf("group %s: %v", name, err)
		}
	}
	for _, number := range []string{`+49 30\`, `a"b`, `\`} {
		if _, err := compile([]api.RingRule{{Type: "sip", Value: number, Action: "full"}}, env, nil); err != nil {
			t.Errorf("SIP number %s: %v", number, err)
		}
	}
	if _, err := compile([]api.RingRule{{Type: "ip", Value: `10.0.0.1" or ip == "10.0.0.2`, Action: "full"}}, env, nil); err == nil {
		t.Error("a value that ends its quotes was taken for two")
	}
}

// called returns a storage device with a directory.
func called(name, directory string) handover.Device {
	return handover.Device{ID: name, Name: name, Directory: directory, Active: true}
}

// newRings makes rings on the storage device data, and returns what opens them: as many at once as it is told.
func newRings(t *testing.T, names ...string) (open func(most int) *Set, vs *volume.Set, state string) {
	t.Helper()
	state = t.TempDir()
	if err := os.Mkdir(filepath.Join(state, "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	vs = volume.NewSet(state)
	t.Cleanup(vs.Close)
	vs.Follow([]handover.Device{called("data", "data")}, nil)
	open = func(most int) *Set {
		env := func() *filter.Env { return &filter.Env{} }
		rs := Open(Config{
			State: state, Workers: 1, Max: most, QueueBytes: 8 << 20, ReorderBytes: 8 << 20, Volumes: vs, Env: env, EnvNow: env,
			Interfaces: func() []pipeline.Interface { return []pipeline.Interface{{Port: 1, Link: packet.LinkEthernet}} },
		})
		t.Cleanup(rs.Close)
		rs.Follow()
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
	rs.Close()
	return open, vs, state
}

// Of a storage device that was deactivated a ring says that, and not that nothing lies there.
func TestRingWithoutADevice(t *testing.T) {
	open, vs, state := newRings(t)
	if err := os.Mkdir(filepath.Join(state, "second"), 0o700); err != nil {
		t.Fatal(err)
	}
	rs := open(1)
	second := called("second", "second")
	vs.Follow([]handover.Device{called("data", "data"), second}, rs.LetGo)
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
		vs.Follow(c.devices, rs.LetGo)
		rs.Follow()
		if v := rs.Views()[0]; v.State != stateRecording || !slices.Equal(v.Problems, []string{c.want}) {
			t.Errorf("%s, problems %q, want %q", v.State, v.Problems, c.want)
		}
		vs.Follow([]handover.Device{called("data", "data"), second}, rs.LetGo)
		rs.Follow()
		if v := rs.Views()[0]; v.State != stateRecording || len(v.Problems) != 0 {
			t.Errorf("back again: %s, problems %q", v.State, v.Problems)
		}
	}
}

// A ring stays where it is when the directory that it lies in is called something else, while it records and while it does not, and though another one is called as
// that was.
func TestRingOnRenamedDirectory(t *testing.T) {
	open, vs, state := newRings(t, "one")
	rs := open(1)
	rename := func(d ...handover.Device) {
		for _, v := range vs.Follow(d, rs.LetGo) {
			t.Log("opened", v.ID())
		}
	}
	if err := os.Mkdir(filepath.Join(state, "new"), 0o700); err != nil {
		t.Fatal(err)
	}
	want := func(device, state string) {
		t.Helper()
		v := rs.Views()[0]
		if v.State != state || !slices.Equal(v.Devices, []string{device}) || v.DeviceStates[0].Device != device {
			t.Errorf("want it %s on %s: %+v", state, device, v)
		}
	}
	want("data", stateRecording)
	rename(called("disk 1", "data"), called("data", "new"))
	rs.Follow()
	want("disk 1", stateRecording)
	rs.Close()
	rename(called("disk 2", "data"))
	rs = open(1)
	want("disk 2", stateRecording)
	rename()
	rs.Follow()
	want("disk 2", stateWaiting)
	rename(called("disk 3", "data"))
	if err := rs.Delete("one"); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(state, "data", ".galvo", "rings", "*")); len(left) > 0 {
		t.Errorf("left of a deleted ring: %v", left)
	}
}

// A ring that is one too many waits, and says so of a device that is there; when another one is deleted it records.
func TestRingWaitsForAnother(t *testing.T) {
	open, _, _ := newRings(t, "one", "two")
	rs := open(1)
	two := func() api.Ring { return rs.Views()[len(rs.Views())-1] }
	if v := two(); v.State != stateWaiting || v.DeviceStates[0].State != "active" {
		t.Errorf("one ring of two: %+v", v)
	}
	if _, err := rs.create(api.RingRequest{Name: "three", SizeBytes: 16 << 20}); err == nil || !strings.Contains(err.Error(), "restart the processing") {
		t.Errorf("one ring too many: %v", err)
	}
	if err := rs.Delete("one"); err != nil {
		t.Fatal(err)
	}
	if v := two(); v.State != stateRecording {
		t.Errorf("the only ring: %+v", v)
	}
	if r, _, err := rs.Opened("two"); err != nil || !slices.Equal(r.Devices, []string{"data"}) {
		t.Errorf("%v, %v", r, err)
	}
}

// A device is let go though a ring is being created there, which is made when the device is back.
func TestRingCreatedOnDeviceThatGoes(t *testing.T) {
	open, vs, _ := newRings(t)
	rs := open(1)
	r, err := rs.create(api.RingRequest{Name: "one", SizeBytes: 256 << 20})
	if err != nil {
		t.Fatal(err)
	}
	vs.Follow(nil, func(device string) {
		rs.LetGo(device)
		select {
		case <-r.created:
		default:
			t.Error("it is let go, and files are made there")
		}
	})
	rs.Follow()
	if v := rs.Views()[0]; v.State != stateWaiting {
		t.Errorf("without its device: %+v", v)
	}
	vs.Follow([]handover.Device{called("data", "data")}, nil)
	rs.Follow()
	<-r.created
	if v := rs.Views()[0]; v.State != stateRecording {
		t.Errorf("with its device: %+v", v)
	}
}

// The setting of the reorder buffer is taken over while rings are open, and by those that are opened later.
func TestReorderSetting(t *testing.T) {
	open, vs, _ := newRings(t, "one")
	rs := open(1)
	want := func(bytes int64) {
		t.Helper()
		if _, opened, err := rs.Opened("one"); err != nil || opened.Reorder() != bytes {
			t.Errorf("want %d bytes: %v", bytes, err)
		}
	}
	want(8 << 20)
	rs.SetReorder(64 << 20)
	want(64 << 20)
	vs.Follow(nil, rs.LetGo)
	rs.Follow()
	vs.Follow([]handover.Device{called("data", "data")}, nil)
	rs.Follow()
	want(64 << 20)
}

// record has the ring of a name record so many frames.
func (rs *Set) record(t *testing.T, name string, frames int) {
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
	open, _, state := newRings(t, "one", "other")
	rs := open(2)
	rs.record(t, "one", 1000)
	rs.Close()
	forget := func() {
		for _, name := range []string{"rings.json", "rings.json" + copySuffix} {
			if err := os.Remove(filepath.Join(state, name)); err != nil {
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
		if (v.Oldest == 1_700_000_000e6) != (name == "one") || (v.SizeBytes == 15<<20) != (name == "one") || (len(v.Problems) > 0) != (name == "one") || v.State != stateRecording {
			t.Errorf("%+v", v)
		}
	}
	if err := rs.Delete("one"); err != nil {
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
	rs.Close()
	forget()
	dir := filepath.Join(state, "data", ".galvo", "rings", "one")
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
	if v := rs.view(r); v.State != stateFailed || !strings.Contains(v.Reason, "segments are not there") {
		t.Errorf("%+v", v)
	}
	if _, err := os.Stat(filepath.Join(dir, "000000.pcapng")); err != nil {
		t.Error(err)
	}
	if err := rs.Delete("one"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("the files of a deleted ring are there")
	}
}

// Files of a deleted ring that cannot be removed are not those of a new one: that would lose its own when they can.
func TestFilesOfDeletedRing(t *testing.T) {
	open, _, state := newRings(t, "one")
	rs := open(1)
	stuck := filepath.Join(state, "data", ".galvo", "rings", "one", "000009.pcapng")
	if err := os.MkdirAll(filepath.Join(stuck, "somebody's"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := rs.Delete("one"); err == nil {
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
	if <-r.created; rs.view(r).State != stateRecording {
		t.Errorf("%+v", rs.view(r))
	}
}
