package engine

import (
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"galvo/services/api"
	"galvo/services/internal/sink"
	"galvo/services/internal/volume"
)

const (
	progressTime = 2 * time.Minute // for an upload to go on
	breakTime    = time.Second     // likewise where its device is given up: less than the host waits for that
)

// filesHandler answers requests for the files of a storage device. They are plain handlers, because they stream.
func (e *Engine) filesHandler(answer func(http.ResponseWriter, *http.Request, *volume.Volume, string, url.Values) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v, err := e.volumes.Get(r.PathValue("id"))
		if err != nil {
			if k := api.ErrorOf(err); k.Kind == api.BadRequest {
				k.Kind = api.NotFound
			}
			api.WriteError(w, api.ErrorOf(err))
			return
		}
		query, err := url.ParseQuery(r.URL.RawQuery)
		if err != nil {
			api.WriteError(w, api.Errorf(api.BadRequest, "the query: %v", err))
			return
		}
		if err := answer(w, r, v, r.PathValue("path"), query); err != nil {
			api.WriteError(w, api.ErrorOf(err))
		}
	}
}

// only refuses parameters that a call does not know, or that are given twice.
func only(query url.Values, names ...string) error {
	for name, values := range query {
		if !slices.Contains(names, name) {
			return &api.Error{Kind: api.BadRequest, Text: fmt.Sprintf("unknown parameter %q", name), Expected: names}
		}
		if len(values) > 1 {
			return api.Errorf(api.BadRequest, "the parameter %s is given twice", name)
		}
	}
	return nil
}

func reply(w http.ResponseWriter, status int, body any) error {
	api.Write(w, status, body)
	return nil
}

// getFile lists a directory, or sends a file.
func (e *Engine) getFile(w http.ResponseWriter, r *http.Request, v *volume.Volume, p string, query url.Values) error {
	if err := only(query); err != nil {
		return err
	}
	info, err := v.Stat(p)
	if err != nil {
		return err
	}
	if info.Type == "directory" {
		list, err := v.List(p)
		if err != nil {
			return err
		}
		return reply(w, http.StatusOK, list)
	}
	f, err := v.Read(p)
	if err != nil {
		return err
	}
	defer f.Close()
	opened, err := f.Stat() // another file may have the name by now
	if err != nil {
		return err
	}
	control := http.NewResponseController(w)
	defer control.SetWriteDeadline(time.Time{}) // for the connection's next request
	defer whenGone(v, func() { control.SetWriteDeadline(time.Now()) })()
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Disposition", sink.Disposition(path.Base(info.Path)))
	w.Header().Set("ETag", entityTag(opened))
	if !strings.HasPrefix(r.Header.Get("Range"), "bytes=") {
		r.Header.Del("Range") // of a unit that nobody knows: RFC 9110 section 14.2 has it ignored, ServeContent would refuse it
	}
	http.ServeContent(&conditional{ResponseWriter: w, refusals: map[int]*api.Error{
		http.StatusRequestedRangeNotSatisfiable: {Kind: api.BadRange, Text: fmt.Sprintf("the file has %d bytes: no such range is in it", opened.Size())},
		http.StatusPreconditionFailed:           {Kind: api.Changed, Text: "the file is not, or not any more, the one that the request is about: ask for it without If-Match and If-Unmodified-Since"},
	}}, r, "", opened.ModTime(), f)
	return nil
}

// entityTag tells a file, as it is, from others that have or had its name: a download that broke off goes on only with the same one.
func entityTag(info fs.FileInfo) string {
	inode := uint64(0)
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		inode = st.Ino
	}
	return fmt.Sprintf(`"%x-%x-%x"`, inode, info.ModTime().UnixNano(), info.Size())
}

// whenGone calls breakOff if a device is given up before the returned function is called: a disk with open files could not be unmounted.
func whenGone(v *volume.Volume, breakOff func()) (end func()) {
	var watcher sync.WaitGroup
	over := make(chan struct{})
	watcher.Go(func() {
		select {
		case <-v.Gone():
			breakOff()
		case <-over:
		}
	})
	return func() {
		close(over)
		watcher.Wait()
	}
}

// A conditional refuses what a request asks of a file as the API does: the errors are by their status.
type conditional struct {
	http.ResponseWriter
	refusals map[int]*api.Error
	refused  bool
}

func (w *conditional) WriteHeader(status int) {
	e := w.refusals[status]
	if e == nil {
		w.ResponseWriter.WriteHeader(status)
		return
	}
	w.refused = true
	for _, h := range []string{"Content-Disposition", "Content-Length"} {
		w.Header().Del(h)
	}
	api.WriteError(w.ResponseWriter, e)
}

// ReadFrom leaves the copying to who can do it in the kernel.
func (w *conditional) ReadFrom(r io.Reader) (int64, error) {
	return io.Copy(w.ResponseWriter, r)
}

func (w *conditional) Write(b []byte) (int, error) {
	if w.refused {
		return len(b), nil
	}
	return w.ResponseWriter.Write(b)
}

// postFile makes a directory, renames, or takes an upload.
func (e *Engine) postFile(w http.ResponseWriter, r *http.Request, v *volume.Volume, p string, query url.Values) error {
	if err := only(query, "directory", "rename", "offset", "total"); err != nil {
		return err
	}
	var directory bool
	if s := query.Get("directory"); s != "" {
		if err := truth(s, &directory); err != nil {
			return api.Errorf(api.BadRequest, "directory: %v", err)
		}
	}
	to := query.Get("rename")
	makes := directory || strings.HasSuffix(p, "/")
	if makes || query.Has("rename") {
		if n, _ := io.CopyN(io.Discard, &patientBody{r: r, rc: http.NewResponseController(w)}, 1); n > 0 {
			return api.Errorf(api.BadRequest, "this makes a directory, or renames, and takes no body: upload a file to a name without a slash at its end")
		}
	}
	var err error
	switch {
	case query.Has("rename") && (directory || query.Has("offset") || query.Has("total")), directory && (query.Has("offset") || query.Has("total")):
		return api.Errorf(api.BadRequest, "directory, rename and offset with total do not go together: a request does one thing")
	case makes:
		err = v.MakeDirectory(p)
	case query.Has("rename"):
		if err = v.Rename(p, to); err == nil {
			p = to
		}
	default:
		return e.upload(w, r, v, p, query)
	}
	if err != nil {
		return err
	}
	info, err := v.Stat(p)
	if err != nil {
		return err
	}
	return reply(w, http.StatusCreated, info)
}

func (e *Engine) upload(w http.ResponseWriter, r *http.Request, v *volume.Volume, p string, query url.Values) error {
	u := volume.Upload{Path: p, Total: -1, Limit: e.settings.Load().config.Analysis.UploadBytes}
	for name, to := range map[string]*int64{"offset": &u.Offset, "total": &u.Total} {
		if s := query.Get(name); s != "" {
			n, err := strconv.ParseInt(s, 10, 64)
			if err != nil || n < 0 {
				return api.Errorf(api.BadRequest, "%s: %q is not a number of bytes", name, s)
			}
			*to = n
		}
	}
	if u.Total < 0 && r.ContentLength >= 0 {
		u.Total = u.Offset + r.ContentLength
	}
	if _, free, err := v.Space(); err == nil && r.ContentLength > 0 && uint64(r.ContentLength) > free {
		return api.Errorf(api.StorageFull, "the upload has %d bytes, and %s has room for %d", r.ContentLength, v.Name(), free)
	}
	body := &patientBody{r: r, rc: http.NewResponseController(w), gone: v.Gone()}
	defer whenGone(v, body.breakOff)()
	info, err := v.Upload(u, body)
	if err != nil {
		if body.isGone() {
			return api.Errorf(api.NoStorage, "the storage device %s is not active any more; what has come of the upload stays there, and it can go on when that is back", v.Name())
		}
		return err
	}
	return reply(w, http.StatusCreated, info)
}

// A patientBody reads the body of a request for as long as it makes progress, and the device for it is there.
type patientBody struct {
	r    *http.Request
	rc   *http.ResponseController
	gone <-chan struct{} // nil is never
}

func (b *patientBody) isGone() bool {
	select {
	case <-b.gone:
		return true
	default:
		return false
	}
}

func (b *patientBody) Read(p []byte) (int, error) {
	b.rc.SetReadDeadline(time.Now().Add(progressTime))
	if b.isGone() { // after the deadline was set, so that breakOff has the last word
		b.breakOff()
		return 0, os.ErrDeadlineExceeded
	}
	return b.r.Body.Read(p)
}

// breakOff ends a Read that waits. Who sends without pause comes to the next one, and gets an answer: the server looks for no more of a body that was cut.
func (b *patientBody) breakOff() { b.rc.SetReadDeadline(time.Now().Add(breakTime)) }

// deleteFile deletes a file, or a directory.
func (e *Engine) deleteFile(w http.ResponseWriter, r *http.Request, v *volume.Volume, p string, query url.Values) error {
	if err := only(query, "everything"); err != nil {
		return err
	}
	var everything bool
	if s := query.Get("everything"); s != "" {
		if err := truth(s, &everything); err != nil {
			return api.Errorf(api.BadRequest, "everything: %v", err)
		}
	}
	if err := v.Remove(p, everything); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
