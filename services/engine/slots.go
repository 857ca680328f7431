package engine

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"galvo/services/api"
	"galvo/services/internal/analysis"
	"galvo/services/internal/capture"
	"galvo/services/internal/ring"
	"galvo/services/internal/savefile"
	"galvo/services/internal/volume"
)

// slots are the places in which savefiles are analysed beside the live traffic.
type slots struct {
	bytes uint64 // of memory, for each

	starting sync.Mutex // held while an analysis starts

	mu sync.Mutex

	taken []*slot // by id - 1; nil is free; guarded by mu
}

// A slot is one that is taken. It is not changed.
type slot struct {
	id       int
	user     string
	files    []api.StoredFile  // as was asked for
	ring     *api.RingInterval // instead of files
	analysis *analysis.Analysis
}

func newSlots(n int, bytes uint64) *slots { return &slots{bytes: bytes, taken: make([]*slot, n)} }

// all returns the slots that are taken.
func (ss *slots) all() (all []*slot) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	for _, s := range ss.taken {
		if s != nil {
			all = append(all, s)
		}
	}
	return all
}

// find returns the slot of an address as :1, or nil for the live traffic, which has none.
func (ss *slots) find(address string) (*slot, error) {
	if address == "" {
		return nil, nil
	}
	ss.mu.Lock()
	defer ss.mu.Unlock()
	n, err := strconv.Atoi(strings.TrimPrefix(address, ":"))
	if err != nil || !strings.HasPrefix(address, ":") || n < 1 || n > len(ss.taken) {
		return nil, &api.Error{Kind: api.BadRequest, Text: fmt.Sprintf("there is no slot %s: there are %d, with addresses from :1 on", address, len(ss.taken)), Expected: []string{":1"}}
	}
	if s := ss.taken[n-1]; s != nil {
		return s, nil
	}
	return nil, api.Errorf(api.NotFound, "slot %d is free: start an analysis in it first", n)
}

func (s *slot) view() api.Slot {
	v := s.analysis.Slot()
	v.ID, v.User, v.Files, v.Ring = s.id, s.user, s.files, s.ring
	return v
}

// list returns all slots, the free ones too.
func (ss *slots) list() []api.Slot {
	list := []api.Slot{}
	ss.mu.Lock()
	taken := slices.Clone(ss.taken)
	ss.mu.Unlock()
	for i, s := range taken {
		if s == nil {
			list = append(list, api.Slot{ID: i + 1, State: "free", Files: []api.StoredFile{}})
			continue
		}
		list = append(list, s.view())
	}
	return list
}

func (e *Engine) listSlots(context.Context, *api.Nothing) (*api.Reply[api.SlotList], error) {
	return &api.Reply[api.SlotList]{Body: api.SlotList{Slots: e.slots.list()}}, nil
}

// startSlot analyses files that are on storage devices.
func (e *Engine) startSlot(_ context.Context, in *api.SlotsInput) (*api.Created[api.Slot], error) {
	ss := e.slots
	o := analysis.Options{Bytes: ss.bytes / 4 * 3, L7: e.recognise(), OnPanic: e.panics.note}
	files := []api.StoredFile{}
	var err error
	switch r := in.Body.Ring; {
	case r != nil && len(in.Body.Files) > 0:
		return nil, api.Errorf(api.BadRequest, "an analysis is of files or of a ring, not of both")
	case r != nil:
		o.Open, err = e.openInterval(r)
	default:
		files, o.Open, err = e.openFiles(in.Body.Files)
	}
	if err != nil {
		return nil, err
	}
	ss.starting.Lock() // not mu, which whoever looks at the slots needs: opening many files takes a while
	defer ss.starting.Unlock()
	id, err := ss.choose(in.Body.Slot)
	if err != nil {
		return nil, err
	}
	o.Source = fmt.Sprintf(":%d", id)
	a, err := analysis.Start(o)
	if err != nil {
		return nil, api.Errorf(api.BadRequest, "%v", err)
	}
	s := &slot{id: id, user: in.User, files: files, ring: in.Body.Ring, analysis: a}
	ss.mu.Lock()
	ss.taken[id-1] = s
	ss.mu.Unlock()
	return &api.Created[api.Slot]{Status: http.StatusCreated, Body: s.view()}, nil
}

// openFiles returns the savefiles that were asked for, and what opens them.
func (e *Engine) openFiles(asked []api.StoredFile) ([]api.StoredFile, func() (analysis.Input, error), error) {
	files, err := e.savefiles(asked)
	if err != nil {
		return nil, nil, err
	}
	if most := int(e.slots.bytes / 8 / analysis.FileBytes); len(files) > max(most, 1) {
		return nil, nil, api.Errorf(api.BadRequest, "%d files are too many for the memory of a slot: at most %d can be merged", len(files), most)
	}
	var names []string
	for _, f := range files {
		names = append(names, f.Device+"/"+f.Path)
	}
	return files, analysis.Savefiles(e.openStored, names), nil
}

// openInterval returns what opens an interval of a ring.
func (e *Engine) openInterval(r *api.RingInterval) (func() (analysis.Input, error), error) {
	of, opened, err := e.rings.Opened(r.Name)
	if err != nil {
		return nil, err
	}
	to := cmp.Or(r.EndTime*1000, time.Now().UnixNano()) // fixed, so that captures from the slot are of what was analysed
	from := since(r.StartTime*1000, to, opened)
	if to <= from {
		return nil, api.Errorf(api.BadRequest, "endTime is not after startTime")
	}
	return func() (analysis.Input, error) {
		now, opened, err := e.rings.Opened(of.Name)
		if err != nil {
			return analysis.Input{}, err
		}
		if now != of {
			return analysis.Input{}, fmt.Errorf("the packet ring buffer %s that was analysed was deleted, and what has its name now is another one: end the analysis, and start it again", of.Name)
		}
		s, err := opened.Source(context.Background(), ring.Query{From: from, To: to})
		if err != nil {
			return analysis.Input{}, err
		}
		return analysis.Input{
			Source: s, Progress: s.Progress, Note: func() string { return "" }, Close: func() error { s.Close(); return nil }, Kind: "interval", Scan: func() api.Scan { return scanOf(s.Scan()) },
		}, nil
	}, nil
}

// choose returns the slot that was asked for, or the first free one.
func (ss *slots) choose(asked int) (int, error) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	id := asked
	if id == 0 {
		id = slices.Index(ss.taken, nil) + 1
	}
	switch {
	case len(ss.taken) == 0:
		return 0, &api.Error{Kind: api.Conflict, Text: "there is no slot for analyses: raise the setting analysis.slots, or engine.memoryPercent"}
	case id > len(ss.taken):
		return 0, api.Errorf(api.BadRequest, "there is no slot %d: there are %d", id, len(ss.taken))
	case id == 0 || ss.taken[id-1] != nil:
		return 0, &api.Error{Kind: api.Conflict, Text: "every slot that could be used is taken: end an analysis first"}
	}
	return id, nil
}

// openStored opens DEVICE/PATH.
func (e *Engine) openStored(name string) (*os.File, error) {
	device, p, _ := strings.Cut(name, "/")
	v, err := e.volumes.Get(device)
	if err != nil {
		return nil, err
	}
	return v.Read(p)
}

// savefiles returns the files that were asked for, with the ids of their devices, and every savefile of a directory.
func (e *Engine) savefiles(asked []api.StoredFile) (files []api.StoredFile, err error) {
	const most = 1000
	if len(asked) == 0 {
		return nil, api.Errorf(api.BadRequest, "name the files to analyse, or a ring")
	}
	for _, f := range asked {
		v, err := e.volumes.Get(f.Device)
		if err != nil {
			return nil, err
		}
		info, err := v.Stat(f.Path)
		if err != nil {
			return nil, err
		}
		if info.Type != "directory" {
			files = append(files, api.StoredFile{Device: v.ID(), Path: info.Path})
			continue
		}
		list, err := v.List(info.Path)
		if err != nil {
			return nil, err
		}
		for _, f := range list.Files {
			if p := path.Join(info.Path, f.Name); f.Type == "file" && f.Bytes > 0 && !volume.IsPart(f.Name) && isSavefile(v, p) {
				files = append(files, api.StoredFile{Device: v.ID(), Path: p})
			}
		}
	}
	switch {
	case len(files) == 0:
		return nil, api.Errorf(api.BadRequest, "there is no savefile in the directory")
	case len(files) > most:
		return nil, api.Errorf(api.BadRequest, "%d files are too many: at most %d can be merged", len(files), most)
	}
	return files, nil
}

// isSavefile reports whether a file is one to analyse: of a directory everything else is left out.
func isSavefile(v *volume.Volume, p string) bool {
	f, err := v.Read(p)
	return err == nil && savefile.Is(f)
}

func (e *Engine) stopSlot(ctx context.Context, in *api.SlotInput) (*api.Nothing, error) {
	s, err := e.slots.find(fmt.Sprintf(":%d", in.ID))
	if err != nil {
		k := api.ErrorOf(err)
		k.Kind = api.NotFound
		return nil, k
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if err := s.analysis.Close(end); err != nil {
		return nil, err
	}
	e.slots.free(s)
	slog.Info("analysis ended", "slot", s.id, "user", in.User)
	return nil, nil
}

// letGo ends the analyses of files on a device.
func (ss *slots) letGo(device string) {
	ctx, cancel := context.WithTimeout(context.Background(), letGoTime)
	defer cancel()
	for _, s := range ss.all() {
		if !slices.ContainsFunc(s.files, func(f api.StoredFile) bool { return f.Device == device }) {
			continue
		}
		if err := s.analysis.Close(ctx); err != nil {
			slog.Warn("analysis", "error", err)
		}
		ss.free(s)
	}
}

func (ss *slots) free(s *slot) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if ss.taken[s.id-1] == s {
		ss.taken[s.id-1] = nil
	}
}

// close ends all analyses.
func (ss *slots) close(ctx context.Context) {
	for _, s := range ss.all() {
		if err := s.analysis.Close(ctx); err != nil {
			slog.Warn("analysis", "error", err)
		}
	}
}

// start starts a capture of the source that s names.
func (e *Engine) start(s capture.Spec) (*capture.Capture, error) {
	switch {
	case s.Source == "live":
		return e.captures.Start(s)
	case !strings.HasPrefix(s.Source, ":"):
		return e.startPast(s)
	}
	in, err := e.slots.find(s.Source)
	if err != nil {
		return nil, err
	}
	return in.analysis.Capture(e.captures, s)
}

// only returns the captures of a slot; all, if it is nil.
func (s *slot) only(all []api.Capture) []api.Capture {
	if s == nil {
		return all
	}
	return slices.DeleteFunc(all, func(c api.Capture) bool { return c.Source != fmt.Sprintf(":%d", s.id) })
}
