package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"galvo/services/api"
	"galvo/services/internal/capture"
	"galvo/services/internal/filter"
	"galvo/services/internal/sink"
	"galvo/services/internal/volume"
)

// spec checks a request and says what to capture. The error is an *api.Error.
func (e *Engine) spec(r *api.CaptureRequest, caller api.Caller) (capture.Spec, error) {
	settings := e.settings.Load()
	env, source, err := e.source(r, settings)
	if err != nil {
		return capture.Spec{}, err
	}
	f, err := filter.Compile(r.Expression, env)
	if err != nil {
		return capture.Spec{}, api.ErrorOf(err)
	}
	switch kind := sinkType(r); {
	case kind != "http" && kind != "discard" && kind != "disk":
		return capture.Spec{}, api.Errorf(api.NotSupported, "capturing to %s is not supported by this version; capture to http instead", kind)
	case r.Profile != "":
		return capture.Spec{}, api.Errorf(api.BadRequest, "there is no capture profile %q; use snapLength", r.Profile)
	case !utf8.ValidString(r.Comment) || strings.ContainsRune(r.Comment, 0): // a comment of a pcapng file is UTF-8, and readers end it at a zero
		return capture.Spec{}, api.Errorf(api.BadRequest, "the comment is not UTF-8, or has a zero byte")
	case sinkType(r) != "disk" && r.Sink != (api.Sink{Type: r.Sink.Type}):
		return capture.Spec{}, api.Errorf(api.BadRequest, "device, directory, splitBytes and splitSeconds go with a sink of the type disk, not with %s", sinkType(r))
	case r.EndTime != 0 && r.StartTime >= r.EndTime:
		return capture.Spec{}, api.Errorf(api.BadRequest, "endTime is not after startTime: the capture would be empty")
	case source == "live" && e.ports.count() == 0:
		return capture.Spec{}, &api.Error{Kind: api.NoPorts, Text: "there is no port to capture from: name one with -interface, or with [[port]] in the configuration"}
	}
	s := capture.Spec{
		User: caller.User, Client: caller.Client, Sink: sinkType(r), Source: source,
		Expression: f.String(), Filter: f, Hold: r.Undecided == "hold" || r.Undecided == "" && source != "live",
		Start: r.StartTime * 1000, End: r.EndTime * 1000, MaxDuration: time.Duration(r.MaxSeconds) * time.Second,
		MaxPackets: r.MaxPackets, MaxBytes: r.MaxBytes,
		SnapLen: r.SnapLength, Format: capture.Format(r.Format), SingleInterface: r.UseSingleInterface, Comment: r.Comment,
		QueueBytes: settings.queueBytes, HoldBytes: settings.holdBytes,
	}
	if r.DeviceInfo {
		s.DeviceInfo = e.deviceInfo(s.Expression)
	}
	s.FileName = sink.FileName(r.FileName, s.Expression, e.begins(source, s.Start), r.Format)
	s.SplitBytes, s.SplitTime = settings.config.Captures.SplitBytes, time.Duration(settings.config.Captures.SplitSeconds)*time.Second
	if n := r.Sink.SplitBytes; n != nil {
		s.SplitBytes = *n
	}
	if n := r.Sink.SplitSeconds; n != nil {
		s.SplitTime = time.Duration(*n) * time.Second
	}
	return s, nil
}

// begins returns the time that a capture's file is named after: that from which on it has packets. start is ns since the epoch; 0 is now of live traffic, and
// else the oldest packet that there is, before which nothing begins.
func (e *Engine) begins(source string, start int64) time.Time {
	now := time.Now()
	if source == "live" {
		return time.Unix(0, max(start, now.UnixNano()))
	}
	if start = max(start, e.oldest(source)); start == 0 {
		return now
	}
	return time.Unix(0, start)
}

// oldest returns the time of the first packet that a source of the past has, ns since the epoch, or 0 if that is not known.
func (e *Engine) oldest(source string) int64 {
	if s, err := e.slots.find(source); err == nil && s != nil {
		return s.view().StartTime * 1000
	}
	if _, from, err := e.rings.Opened(source); err == nil {
		return from.State().Oldest
	}
	return 0
}

// source says what a request captures from, and against what its expression is compiled.
func (e *Engine) source(r *api.CaptureRequest, s *settings) (*filter.Env, string, error) {
	switch {
	case r.Source == "" || r.Source == "live":
		return s.env, "live", nil
	case strings.HasPrefix(r.Source, ":"):
		if _, err := e.slots.find(r.Source); err != nil {
			return nil, "", err
		}
		return e.recordedEnv(), r.Source, nil
	}
	name := r.Source
	if name == api.AnyRing {
		name = ""
	}
	from, _, err := e.rings.Opened(name)
	if err != nil {
		return nil, "", err
	}
	return e.recordedEnv(), from.Name, nil
}

// leastRoom is what must be free on a device for a capture to begin there.
const leastRoom = 1_000_000

// startDisk starts a capture to a storage device: whoever asked may go, it runs until its end.
func (e *Engine) startDisk(r *api.CaptureRequest, s capture.Spec) (*capture.Capture, error) {
	v, err := e.volumes.Get(r.Sink.Device)
	if err != nil {
		return nil, err
	}
	directory, err := volume.Clean(r.Sink.Directory)
	if err != nil {
		return nil, err
	}
	if dir, err := v.Stat(directory); err != nil || dir.Type != "directory" {
		return nil, api.Errorf(api.BadRequest, "there is no directory %s on %s: make it first", directory, v.Name())
	}
	if _, free, err := v.Space(); err == nil && free < leastRoom {
		why := "is full: delete files"
		if _, rings, err := v.RingSpace(); err == nil && rings >= leastRoom {
			why = "has room for rings only: delete files, have less of it kept for rings"
		}
		return nil, api.Errorf(api.StorageFull, "the storage device %s %s, or capture to another device", v.Name(), why)
	}
	out, err := sink.NewDisk(v, directory, e.begins(s.Source, s.Start), func(t time.Time) string { return sink.FileName(r.FileName, s.Expression, t, r.Format) })
	if err != nil {
		return nil, err
	}
	s.FileName, _ = out.Latest()
	s.Place, s.Latest = api.FilePlace{Device: v.ID(), Directory: directory}, out.Latest
	c, err := e.start(s)
	if err != nil {
		out.Discard()
		return nil, err
	}
	e.running.Go(func() {
		c.Run(context.Background(), out) // it ends with the engine's captures, and its end is in the list
	})
	return c, nil
}

// letGo ends the captures to a device that is not to be used any more, and the analyses of its files, and gives them a moment to close what they have open.
func (e *Engine) letGo(device string) {
	e.rings.LetGo(device)
	end := time.After(letGoTime)
	e.slots.letGo(device)
	for _, v := range e.captures.List() {
		if v.Sink != "disk" || v.Device != device {
			continue
		}
		c, err := e.captures.Get(v.ID)
		if err != nil {
			continue // it has ended by now
		}
		if e.captures.Stop(v.ID, "the storage device was deactivated or pulled") != nil {
			continue
		}
		select {
		case <-c.Done():
		case <-end:
			return
		}
	}
}

// letGoTime is longer than a capture's sink may go on after a stop.
const letGoTime = 3 * time.Second

func sinkType(r *api.CaptureRequest) string {
	if r.Sink.Type == "" {
		return "http"
	}
	return r.Sink.Type
}

func (e *Engine) deviceInfo(expression string) string {
	s := e.settings.Load()
	lines := []string{"device " + s.config.Device.Name, "version " + e.options.Version}
	if s.memory > 0 {
		lines = append(lines, fmt.Sprintf("memory %d MB", s.memory/1_000_000))
	}
	if expression != "" {
		lines = append(lines, "filter "+expression)
	}
	return strings.Join(lines, "\n")
}

func (e *Engine) startCapture(_ context.Context, in *api.CaptureInput) (*api.Created[api.CaptureCreated], error) {
	if in.Slot != "" {
		in.Body.Source = in.Slot
	}
	s, err := e.spec(&in.Body, in.Caller)
	if err != nil {
		return nil, err
	}
	if s.Sink == "disk" {
		c, err := e.startDisk(&in.Body, s)
		if err != nil {
			return nil, err
		}
		return &api.Created[api.CaptureCreated]{Status: http.StatusCreated, Body: madeOnDisk(c)}, nil
	}
	c, err := e.start(s)
	if err != nil {
		return nil, err
	}
	made := api.CaptureCreated{ID: c.ID()}
	switch s.Sink {
	case "http":
		made.FileName, made.Stream = s.FileName, strings.Replace(api.StreamPath, "{id}", c.ID(), 1)
	case "discard":
		e.running.Go(func() {
			c.Run(context.Background(), sink.Discard{}) // it ends with the engine's captures, and its end is in the list
		})
	}
	return &api.Created[api.CaptureCreated]{Status: http.StatusCreated, Body: made}, nil
}

// madeOnDisk answers for a capture to a storage device.
func madeOnDisk(c *capture.Capture) api.CaptureCreated {
	return api.CaptureCreated{ID: c.ID(), FileName: c.FileName(), FilePlace: c.Place()}
}

// serveStream answers a GET of the stream of a capture that was started by POST.
func (e *Engine) serveStream(w http.ResponseWriter, r *http.Request) {
	c, err := e.captures.Get(r.PathValue("id"))
	if err != nil {
		api.WriteError(w, api.ErrorOf(err))
		return
	}
	e.stream(w, r, c)
}

// serveCaptureURL answers the capture URL.
func (e *Engine) serveCaptureURL(w http.ResponseWriter, r *http.Request) {
	c, onDisk, err := e.startURL(r)
	switch {
	case err != nil:
		api.WriteError(w, api.ErrorOf(err))
	case onDisk:
		w.Header().Set("Galvo-Capture", c.ID())
		reply(w, http.StatusCreated, madeOnDisk(c))
	default:
		e.stream(w, r, c)
	}
}

func (e *Engine) startURL(r *http.Request) (c *capture.Capture, onDisk bool, err error) {
	q, wrong := parseCaptureQuery(r.URL.RawQuery, time.Now().UnixMicro())
	if wrong != nil {
		return nil, false, wrong
	}
	switch {
	case q.FromCaptureBuffer && q.Source == "":
		q.Source = api.AnyRing
	case !q.FromCaptureBuffer && q.Source != "" && !strings.HasPrefix(q.Source, ":"):
		return nil, false, api.Errorf(api.BadRequest, "ring goes with fromCaptureBuffer=true")
	}
	if env, _, err := e.source(&q.CaptureRequest, e.settings.Load()); err == nil && q.FormExpression != q.Expression {
		q.readPlus(env)
	}
	if q.CaptureToMedia || q.Device != "" {
		q.Sink.Type, q.Sink.Device = "disk", q.Device
	}
	s, err := e.spec(&q.CaptureRequest, api.Caller{User: r.Header.Get("Galvo-User"), Client: r.Header.Get("Galvo-Client")})
	if err != nil {
		return nil, false, err
	}
	if s.Sink == "disk" {
		c, err = e.startDisk(&q.CaptureRequest, s)
		return c, true, err
	}
	c, err = e.start(s)
	return c, false, err
}

// stream runs a capture with the client of r as its sink.
func (e *Engine) stream(w http.ResponseWriter, r *http.Request, c *capture.Capture) {
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Disposition", sink.Disposition(c.FileName()))
	h.Set("Galvo-Capture", c.ID())
	stall := time.Duration(e.settings.Load().config.Captures.StallSeconds) * time.Second
	err := c.Run(r.Context(), sink.NewHTTP(r.Context(), w, stall))
	var refused *api.Error
	switch {
	case errors.As(err, &refused): // nothing was written
		h.Del("Content-Disposition")
		h.Del("Galvo-Capture")
		api.WriteError(w, refused)
	case err != nil:
		// The status was sent long ago: breaking the stream off is the only way to say that it is not complete.
		panic(http.ErrAbortHandler)
	}
}

func (e *Engine) stopCapture(_ context.Context, in *api.StopInput) (*api.Nothing, error) {
	reason := "stopped"
	if in.User != "" {
		reason = "stopped by " + in.User
	}
	return nil, e.captures.Stop(in.ID, reason)
}

func (e *Engine) listCaptures(_ context.Context, in *api.InSlot) (*api.Reply[api.CaptureList], error) {
	s, err := e.slots.find(in.Slot)
	if err != nil {
		return nil, err
	}
	return &api.Reply[api.CaptureList]{Body: api.CaptureList{Captures: s.only(e.captures.List())}}, nil
}

func (e *Engine) listFinished(_ context.Context, in *api.InSlot) (*api.Reply[api.CaptureList], error) {
	s, err := e.slots.find(in.Slot)
	if err != nil {
		return nil, err
	}
	return &api.Reply[api.CaptureList]{Body: api.CaptureList{Captures: s.only(e.captures.Finished())}}, nil
}

func (e *Engine) deleteFinished(context.Context, *api.Nothing) (*api.Nothing, error) {
	return nil, e.captures.DeleteFinished()
}

func (e *Engine) checkFilter(_ context.Context, in *api.FilterInput) (*api.Reply[api.FilterCheck], error) {
	env, _, err := e.source(&api.CaptureRequest{Source: cmp.Or(in.Slot, in.Body.Source)}, e.settings.Load())
	if err != nil {
		return nil, err
	}
	f, err := filter.Compile(in.Body.Expression, env)
	if err != nil {
		return &api.Reply[api.FilterCheck]{Body: api.FilterCheck{Error: api.ErrorOf(err)}}, nil
	}
	return &api.Reply[api.FilterCheck]{Body: api.FilterCheck{Canonical: f.String(), Words: f.Words(), NeedsL7: f.NeedsL7()}}, nil
}
