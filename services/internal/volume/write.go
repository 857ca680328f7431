package volume

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"galvo/services/api"
)

const (
	// aheadBytes is how much room is taken before it is needed, so that a full device is found before a packet is torn.
	aheadBytes = 4 << 20
	// endBytes is kept free behind what was written: room for what completes a file.
	endBytes = 64 << 10
	// noteBytes is how much may be written until the note about a file says so.
	noteBytes = 64 << 20
)

// A File is a savefile that is being written. It belongs to one goroutine.
type File struct {
	v    *Volume
	f    *os.File
	path string

	number int // behind its name

	size    int64
	room    int64 // up to where the device has given room; -1 where it gives none ahead
	asked   int64 // up to where there was room when that was last looked at
	note    string
	notedAt int64
}

// a note says where a file is that is being written, and up to where it is known to be whole.
type note struct {
	Path string `json:"path"`
	Good int64  `json:"good"`

	name string // of the note's own file
}

// maxTaken is how many names in a row may be taken before Create gives up.
const maxTaken = 10_000

// Create makes a file that is not there yet, with a number behind its name if that is taken: a.pcapng, a_1.pcapng, ... first is the number to begin with.
func (v *Volume) Create(dir, name string, first int) (*File, error) {
	dir, err := v.clean(dir, false)
	if err != nil {
		return nil, err
	}
	extension := path.Ext(name)
	stem := strings.TrimSuffix(name, extension)
	for i := first; i < first+maxTaken; i++ {
		try := name
		if i > 0 {
			try = fmt.Sprintf("%s_%d%s", stem, i, extension)
		}
		f, err := v.create(path.Join(dir, try))
		if err == nil {
			f.number = i
		}
		if !errors.Is(err, fs.ErrExist) {
			return f, err
		}
	}
	return nil, api.Errorf(api.Conflict, "there are %d files like %s on %s already: choose another name", maxTaken, name, v.name)
}

// create makes one file. The error is fs.ErrExist, or an *api.Error.
func (v *Volume) create(p string) (*File, error) {
	p, err := v.clean(p, true)
	if err == nil {
		err = checkNotPart(p)
	}
	if err != nil {
		return nil, err
	}
	v.mu.Lock()
	file, err := v.root.OpenFile(p, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		v.writing[p] = true
	}
	v.mu.Unlock()
	if errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	if err != nil {
		return nil, v.failed(p, err)
	}
	f := &File{v: v, f: file, path: p, note: unfinished + "/" + strings.ToLower(rand.Text()[:12])}
	f.noteGood()
	if err := f.ahead(0); err != nil {
		f.Discard()
		return nil, v.failed(p, err)
	}
	return f, nil
}

// Path is where the file is, from the top of the device.
func (f *File) Path() string { return f.path }

// Number is the number behind the file's name; 0 is none.
func (f *File) Number() int { return f.number }

// Size is how many bytes were written.
func (f *File) Size() int64 { return f.size }

// Write appends b, which ends at the end of a packet, as a whole or not at all. The error is that of the system: syscall.ENOSPC on a full device.
func (f *File) Write(b []byte) error {
	if err := f.ahead(int64(len(b))); err != nil {
		return err
	}
	return f.append(b)
}

// Complete is Write for what completes the file, for which there is room kept.
func (f *File) Complete(b []byte) error { return f.append(b) }

func (f *File) append(b []byte) error {
	_, err := f.f.WriteAt(b, f.size)
	if err != nil {
		// What was torn goes away again; where even that fails the note remains.
		return errors.Join(err, f.f.Truncate(f.size))
	}
	f.size += int64(len(b))
	if f.size-f.notedAt >= noteBytes {
		f.noteGood()
	}
	return nil
}

// ahead makes sure that there is room for n bytes and the end of the file.
func (f *File) ahead(n int64) error {
	need := f.size + n + endBytes
	if f.room >= 0 && need <= f.room || f.room < 0 && need-f.asked < aheadBytes {
		return nil
	}
	if f.v.share.Load() > 0 {
		if _, free, err := f.v.Space(); err == nil && free < uint64(need-max(f.room, f.size)) {
			return unix.ENOSPC
		}
	}
	f.asked = need
	if f.room < 0 {
		return nil
	}
	for _, more := range []int64{need + aheadBytes, need} {
		// KEEP_SIZE: the file must not seem longer than what is in it.
		err := unix.Fallocate(int(f.f.Fd()), unix.FALLOC_FL_KEEP_SIZE, f.size, more-f.size)
		switch {
		case err == nil:
			f.room = more
			return nil
		case errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS):
			f.room = -1
			return nil
		case !errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.EDQUOT):
			return err
		}
	}
	return unix.ENOSPC
}

// noteGood writes down up to where the file is whole. A note that cannot be written costs a repair at most.
func (f *File) noteGood() {
	f.notedAt = f.size
	b, err := json.Marshal(note{Path: f.path, Good: f.size})
	if err == nil {
		err = f.v.root.WriteFile(f.note, b, 0o600)
	}
	if err != nil {
		slog.Debug("note a file that is being written", "path", f.path, "error", err)
	}
}

// Close gives back the room that was not used, and returns when the file is on the device.
func (f *File) Close() error {
	err := errors.Join(f.f.Truncate(f.size), f.f.Sync(), f.f.Close())
	if dir, openErr := f.v.root.Open(path.Dir(f.path)); openErr == nil {
		err = errors.Join(err, dir.Sync(), dir.Close())
	}
	f.release()
	return err
}

// Discard deletes the file.
func (f *File) Discard() {
	f.f.Close()
	f.v.root.Remove(f.path)
	f.release()
}

func (f *File) release() {
	f.v.root.Remove(f.note)
	f.v.mu.Lock()
	defer f.v.mu.Unlock()
	delete(f.v.writing, f.path)
}

// readNotes finds the files that were being written when the volume was last used. Until they are repaired they count as being written.
func (v *Volume) readNotes() {
	dir, err := v.root.Open(unfinished)
	if err != nil {
		return // there is none where it could not be made
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		slog.Warn("find what was not finished", "device", v.name, "error", err)
	}
	for _, name := range names {
		n := note{name: unfinished + "/" + name}
		b, err := v.root.ReadFile(n.name)
		if err == nil {
			err = json.Unmarshal(b, &n)
		}
		if err == nil {
			n.Path, err = v.clean(n.Path, false)
		}
		if err != nil {
			v.root.Remove(n.name) // it was torn itself, so its file has hardly begun
			continue
		}
		v.writing[n.Path] = true
		v.left = append(v.left, n)
	}
}

// Repair cuts the files that were being written when the volume was last used. It is called once; it may take as long as reading them does. whole returns the
// length of the part of a savefile that holds whole packets only, and need not look at what is before good.
func (v *Volume) Repair(whole func(f *os.File, good int64) (int64, error)) {
	for _, n := range v.left {
		if err := v.cut(n, whole); err != nil && !errors.Is(err, fs.ErrNotExist) {
			slog.Warn("repair a savefile", "device", v.name, "path", n.Path, "error", err)
		}
		v.root.Remove(n.name)
		v.unclaim(n.Path)
	}
}

func (v *Volume) cut(n note, whole func(f *os.File, good int64) (int64, error)) error {
	f, err := v.root.OpenFile(n.Path, os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return err
	}
	if n.Good > info.Size() { // after a power cut
		n.Good = 0
	}
	size, err := whole(f, n.Good)
	if err != nil {
		return err
	}
	slog.Info("savefile that was not finished", "device", v.name, "path", n.Path, "bytes", size, "cut", info.Size()-size)
	return errors.Join(f.Truncate(size), f.Sync())
}

// partSuffix marks an upload that is not complete.
const partSuffix = ".part"

// IsPart reports whether a file of that name is an upload that is not complete. No other file gets such a name: the next upload would overwrite it.
func IsPart(name string) bool { return strings.HasSuffix(name, partSuffix) }

// partOf returns what an upload is called until it is complete. Of a name that leaves no room for the suffix there is the beginning, and what tells it from others.
func partOf(p string) string {
	dir, name := path.Split(p)
	if len(name)+len(partSuffix) <= maxElement {
		return p + partSuffix
	}
	hash := fnv.New64a()
	io.WriteString(hash, name) //nolint:errcheck // a hash takes everything
	suffix := fmt.Sprintf("~%016x%s", hash.Sum64(), partSuffix)
	end := maxElement - len(suffix)
	for !utf8.RuneStart(name[end]) {
		end--
	}
	return dir + name[:end] + suffix
}

func checkNotPart(p string) error {
	if IsPart(p) {
		return api.Errorf(api.BadRequest, "names that end in %s are those of uploads that are not complete: choose another name than %s", partSuffix, path.Base(p))
	}
	return nil
}

// An Upload says what is uploaded.
type Upload struct {
	Path   string
	Offset int64  // where in begins in the file
	Total  int64  // size of the whole file; negative is where in ends
	Limit  uint64 // size of the largest file that is taken; 0 is no limit
}

// Upload stores what in holds. Until the file is complete it is called as partOf says, and an upload that broke off goes on at its size.
func (v *Volume) Upload(u Upload, in io.Reader) (api.File, error) {
	p, err := v.clean(u.Path, true)
	if err != nil {
		return api.File{}, err
	}
	if p == "" {
		return api.File{}, api.Errorf(api.BadRequest, "name the file")
	}
	if err := checkNotPart(p); err != nil {
		return api.File{}, err
	}
	if u.Limit > 0 && u.Total > int64(min(u.Limit, math.MaxInt64)) {
		return api.File{}, u.tooLarge() // before anything of it comes
	}
	if _, free, err := v.Space(); err == nil && u.Total > u.Offset && uint64(u.Total-u.Offset) > free {
		return api.File{}, api.Errorf(api.StorageFull, "%d bytes of the upload are to come, and %s has room for %d", u.Total-u.Offset, v.name, free)
	}
	if _, err := v.root.Lstat(p); err == nil {
		return api.File{}, api.Errorf(api.Conflict, "there is a %s on %s already: delete it, or choose another name", p, v.name)
	}
	if err := v.checkParent(p); err != nil {
		return api.File{}, err
	}
	part, err := v.clean(partOf(p), false)
	if err != nil {
		return api.File{}, err
	}
	if !v.claim(part) {
		return api.File{}, api.Errorf(api.Conflict, "%s is being uploaded", p)
	}
	done, err := v.upload(part, u, in)
	v.mu.Lock()
	switch {
	case err != nil:
		v.removeEmpty(part)
	case done:
		err = v.move(part, p)
	}
	delete(v.writing, part)
	v.mu.Unlock()
	if err != nil {
		return api.File{}, err
	}
	if !done {
		p = part
	}
	return v.Stat(p)
}

// removeEmpty removes a file with nothing in it: the next upload needs none to go on.
func (v *Volume) removeEmpty(p string) {
	if info, err := v.root.Lstat(p); err == nil && info.Mode().IsRegular() && info.Size() == 0 {
		v.root.Remove(p)
	}
}

func (v *Volume) claim(p string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.writing[p] {
		return false
	}
	v.writing[p] = true
	return true
}

func (v *Volume) unclaim(p string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.writing, p)
}

// upload appends to the file part, and reports whether it is complete.
func (v *Volume) upload(part string, u Upload, in io.Reader) (done bool, err error) {
	flags := os.O_RDWR | unix.O_NOFOLLOW | unix.O_NONBLOCK
	if u.Offset == 0 {
		flags |= os.O_CREATE | os.O_TRUNC
	}
	f, err := v.root.OpenFile(part, flags, 0o600)
	if u.Offset > 0 && errors.Is(err, fs.ErrNotExist) {
		return false, &api.Error{Kind: api.Conflict, Text: "nothing of the upload is there: begin with offset=0", Expected: []string{"0"}}
	}
	if err != nil {
		return false, v.failed(part, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return false, v.failed(part, err)
	}
	if !info.Mode().IsRegular() || info.Size() != u.Offset {
		return false, &api.Error{Kind: api.Conflict, Text: fmt.Sprintf("the upload has %d bytes so far: go on with offset=%d, or begin again with offset=0", info.Size(), info.Size()),
			Expected: []string{fmt.Sprint(info.Size())}}
	}
	if u.Offset, err = f.Seek(0, io.SeekEnd); err != nil {
		return false, v.failed(part, err)
	}
	most := int64(u.Limit)
	if u.Total >= 0 && (most == 0 || u.Total < most) {
		most = u.Total
	}
	if most > 0 || u.Total == 0 {
		in = io.LimitReader(in, min(most, math.MaxInt64-1)-u.Offset+1) // a byte more, to see that it is too much
	}
	n, err := io.Copy(f, in)
	size := u.Offset + n
	switch {
	case err != nil:
		return false, v.uploadError(part, size, err)
	case u.Limit > 0 && size > int64(u.Limit):
		v.root.Remove(part)
		return false, u.tooLarge()
	case u.Total >= 0 && size > u.Total:
		f.Truncate(u.Offset) //nolint:errcheck // else the next one is told how much there is
		return false, api.Errorf(api.BadRequest, "more than the %d bytes of total came: nothing of that was taken", u.Total)
	}
	if err := f.Sync(); err != nil {
		return false, v.failed(part, err)
	}
	return u.Total < 0 || size == u.Total, nil
}

func (u *Upload) tooLarge() error {
	return api.Errorf(api.TooLarge, "the file is larger than %d bytes, the setting analysis.uploadBytes", u.Limit)
}

// uploadError tells an error of the device from one of who uploads.
func (v *Volume) uploadError(part string, size int64, err error) error {
	var file *fs.PathError
	if errors.As(err, &file) {
		return v.failed(part, err)
	}
	return &api.Error{Kind: api.BadRequest, Text: fmt.Sprintf("the upload broke off; go on with offset=%d", size), Expected: []string{fmt.Sprint(size)}}
}
