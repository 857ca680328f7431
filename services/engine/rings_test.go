package engine

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"galvo/services/api"
	"galvo/services/config"
	"galvo/services/internal/capture"
	"galvo/services/internal/filter"
	"galvo/services/internal/handover"
	"galvo/services/internal/packet"
	"galvo/services/internal/pipeline"
	"galvo/services/internal/rings"
	"galvo/services/internal/sink"
	"galvo/services/internal/volume"
)

// called returns a storage device with a directory.
func called(name, directory string) handover.Device {
	return handover.Device{ID: name, Name: name, Directory: directory, Active: true}
}

// newRing makes an empty ring, one, on the storage device data.
func newRing(t *testing.T) (*rings.Set, *volume.Set) {
	t.Helper()
	state := t.TempDir()
	if err := os.Mkdir(filepath.Join(state, "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	vs := volume.NewSet(state)
	t.Cleanup(vs.Close)
	vs.Follow([]handover.Device{called("data", "data")}, nil)
	env := func() *filter.Env { return &filter.Env{} }
	rs := rings.Open(rings.Config{
		State: state, Workers: 1, Max: 1, QueueBytes: 8 << 20, ReorderBytes: 8 << 20, Volumes: vs, Env: env, EnvNow: env,
		Interfaces: func() []pipeline.Interface { return []pipeline.Interface{{Port: 1, Link: packet.LinkEthernet}} },
	})
	t.Cleanup(rs.Close)
	if _, err := rs.Create(api.RingRequest{Name: "one", SizeBytes: 16 << 20}); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); rs.Views()[0].State != "recording"; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it does not record: %+v", rs.Views()[0])
		}
	}
	return rs, vs
}

// A capture of a ring that has no packet yet may be limited in time like any other: that counts from now.
func TestPastOfEmptyRing(t *testing.T) {
	rs, _ := newRing(t)
	captures, err := capture.New(capture.Options{Source: capture.Source{Workers: 1, Interfaces: func() []pipeline.Interface { return nil }}, Max: 4})
	if err != nil {
		t.Fatal(err)
	}
	e := &Engine{captures: captures, rings: rs}
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

// A capture of a time before the ring's oldest packet is empty and says so, whether or not it is limited in time as well.
func TestPastBeforeTheOldest(t *testing.T) {
	rs, _ := newRing(t)
	captures, err := capture.New(capture.Options{Source: capture.Source{Workers: 1, Interfaces: func() []pipeline.Interface { return nil }}, Max: 4})
	if err != nil {
		t.Fatal(err)
	}
	e := &Engine{captures: captures, rings: rs, slots: &slots{}}
	settings := &settings{config: *config.Default()}
	settings.config.Engine.L7 = false
	e.settings.Store(settings)
	for _, limit := range []time.Duration{0, time.Minute} {
		for _, expression := range []string{"", "port == 80", `callId == "x"`} {
			f, err := filter.Compile(expression, &filter.Env{})
			if err != nil {
				t.Fatal(err)
			}
			c, err := e.startPast(capture.Spec{Sink: "discard", Source: "one", Expression: expression, Filter: f, Format: "pcapng", QueueBytes: 1 << 20, MaxDuration: limit, End: 1e9})
			if err != nil {
				t.Errorf("%q limited to %s: %v", expression, limit, err)
				continue
			}
			if err := c.Run(t.Context(), sink.Discard{}); err != nil {
				t.Error(err)
			}
			if v := captures.Finished()[0]; v.Captured != 0 || v.Reason != "end time" || v.Scan == nil || v.Scan.Empty == "" {
				t.Errorf("%q limited to %s: %+v, scan %+v", expression, limit, v, v.Scan)
			}
		}
	}
	e.running.Wait()
}

// A path that leads to no ring is told from a ring that cannot be read, and an interval that ends before it begins is the caller's fault.
func TestRingPaths(t *testing.T) {
	rs, vs := newRing(t)
	e := &Engine{rings: rs}
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
	vs.Follow(nil, rs.LetGo)
	rs.Follow()
	if dry, pinned := ask("one", whole); dry != api.NoRing || pinned != api.NoRing {
		t.Errorf("a ring without its device: %q, %q", dry, pinned)
	}
}
