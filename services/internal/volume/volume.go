// Package volume is the files on one active storage device: what captures write, and what people upload, list, download and delete.
//
// Whatever a path says, nothing outside the device is reached: every file is opened below an os.Root, symbolic links are refused, and names
// are checked before anything is done with them. The directory .galvo belongs to Galvo and is neither shown nor reached through paths.
// Files may have been put on a device by others, under any name that its file system takes: those can be read, renamed and deleted, while names
// that are given here must be ones that every system and every text can hold.
//
// A file that a capture writes is complete at every moment but one: a process that is killed inside of write(2) leaves a part of a packet.
// So each file that is being written has a note in .galvo/unfinished, and Repair cuts such a file behind its last whole packet. FORMAT.md has the layout.
package volume

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"galvo/services/api"
)

const (
	own         = ".galvo"            // Galvo's own directory on a device
	RingsPath   = own + "/rings"      // a directory for each ring
	unfinished  = own + "/unfinished" // notes about files that are being written
	maxElement  = 255                 // bytes: what ext4 takes
	maxPath     = 3000                // bytes, less than PATH_MAX with the device's own directory
	maxElements = 64
)

// reserved are the names at the top of a device that paths do not reach.
var reserved = []string{own, "lost+found"}

// A Volume is an open device. Its methods may be called from any goroutine; their errors are *api.Error.
type Volume struct {
	id, name string
	dir      string
	root     *os.Root

	share atomic.Int32 // percentage of the device that is for rings

	gone  chan struct{} // closed when the device is given up
	close sync.Once

	left []note // what was not finished when the volume was opened

	mu      sync.Mutex
	writing map[string]bool // paths; guarded by mu
}

// Open opens the device whose files are below dir. Repair must be called after it.
func Open(id, name, dir string) (*Volume, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open the storage device %s: %w", name, err)
	}
	v := &Volume{id: id, name: name, dir: dir, root: root, gone: make(chan struct{}), writing: map[string]bool{}}
	for _, dir := range []string{own, RingsPath, unfinished} {
		if err := root.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			slog.Warn("prepare the storage device", "device", name, "error", err) // one that is full or read-only can be read
		}
	}
	v.readNotes()
	return v, nil
}

// ID is what the API calls the device.
func (v *Volume) ID() string { return v.id }

// Name is what people call it.
func (v *Volume) Name() string { return v.name }

// Ring returns the directory of a ring on the device, which need not be there yet. It is a path as this process reaches it.
func (v *Volume) Ring(name string) (string, error) {
	if err := checkName(name); err != nil {
		return "", err
	}
	if strings.ContainsRune(name, '/') {
		return "", api.Errorf(api.BadRequest, "the name %q has a slash", name)
	}
	return filepath.Join(v.dir, RingsPath, name), nil
}

// Close gives the device up. Files that are open stay so until those that have them open, whom Gone tells, close them.
func (v *Volume) Close() error {
	v.close.Do(func() { close(v.gone) })
	return v.root.Close()
}

// Gone is closed when the device is given up.
func (v *Volume) Gone() <-chan struct{} { return v.gone }

// Clean returns a path from the top of the device in its shortest form, which is empty for the top itself. It is one for a new file or directory.
func Clean(p string) (string, error) { return cleaned(p, checkName) }

// cleaned is Clean for a path whose elements pass a check.
func cleaned(p string, check func(name string) error) (string, error) {
	p = strings.Trim(p, "/")
	if p == "" {
		return "", nil
	}
	elements := strings.Split(p, "/")
	if len(p) > maxPath || len(elements) > maxElements {
		return "", api.Errorf(api.BadRequest, "the path is too long: at most %d bytes and %d directories", maxPath, maxElements)
	}
	for _, e := range elements {
		if err := check(e); err != nil {
			return "", err
		}
	}
	if slices.Contains(reserved, elements[0]) {
		return "", api.Errorf(api.BadRequest, "%s is not for files: choose another name", elements[0])
	}
	return p, nil
}

// checkElement says what no part of a path can be, whoever gave the name.
func checkElement(name string) error {
	switch {
	case name == "" || name == "." || name == "..":
		return api.Errorf(api.BadRequest, "%q cannot be part of a path: write the path from the top of the device, without . and ..", name)
	case len(name) > maxElement:
		return api.Errorf(api.BadRequest, "the name has %d bytes, and at most %d are allowed: %.40s...", len(name), maxElement, name)
	case strings.ContainsRune(name, 0):
		return api.Errorf(api.BadRequest, "the name %q has a zero byte", name)
	}
	return nil
}

// checkName says what a new name cannot be.
func checkName(name string) error {
	if err := checkElement(name); err != nil {
		return err
	}
	switch {
	case !utf8.ValidString(name):
		return api.Errorf(api.BadRequest, "the name %q is not valid UTF-8", name)
	case strings.ContainsFunc(name, unicode.IsControl):
		return api.Errorf(api.BadRequest, "the name %q has a control character", name)
	case strings.ContainsRune(name, '\\'):
		return api.Errorf(api.BadRequest, "the name %q has a backslash, which other systems take for a separator", name)
	}
	return nil
}

// clean is Clean for a path that must not lead through a symbolic link. At the end of a path one is let be if atEnd is set.
func (v *Volume) clean(p string, atEnd bool) (string, error) { return v.straight(p, atEnd, checkName) }

// existing is clean for what is on the device already, under whatever name.
func (v *Volume) existing(p string, atEnd bool) (string, error) {
	return v.straight(p, atEnd, checkElement)
}

func (v *Volume) straight(p string, atEnd bool, check func(name string) error) (string, error) {
	p, err := cleaned(p, check)
	if err != nil {
		return "", err
	}
	for i := 1; i <= len(p); i++ {
		if i < len(p) && p[i] != '/' || i == len(p) && atEnd {
			continue
		}
		info, err := v.root.Lstat(p[:i])
		if err != nil {
			break // what is missing is reported where it matters
		}
		if info.Mode()&fs.ModeSymlink != 0 {
			return "", api.Errorf(api.BadRequest, "%s is a symbolic link, which is not followed", p[:i])
		}
	}
	return p, nil
}

// local is p as os.Root wants it.
func local(p string) string { return cmp.Or(p, ".") }

// Stat describes a file or directory.
func (v *Volume) Stat(p string) (api.File, error) {
	p, err := v.existing(p, true)
	if err != nil {
		return api.File{}, err
	}
	info, err := v.root.Lstat(local(p))
	if err != nil {
		return api.File{}, v.failed(p, err)
	}
	return v.describe(p, info), nil
}

func (v *Volume) describe(p string, info fs.FileInfo) api.File {
	f := api.File{Name: path.Base(local(p)), Path: p, Type: "other", Modified: info.ModTime().UnixMicro()}
	switch mode := info.Mode(); {
	case mode.IsRegular():
		f.Type, f.Bytes = "file", info.Size()
	case mode.IsDir():
		f.Type = "directory"
	case mode&fs.ModeSymlink != 0:
		f.Type = "link"
	}
	if !utf8.ValidString(p) {
		f.Escaped = (&url.URL{Path: p}).EscapedPath()
	}
	f.Writing = v.isWriting(p)
	return f
}

// List lists a directory: directories first, then by name.
func (v *Volume) List(p string) (*api.Directory, error) {
	p, err := v.existing(p, false)
	if err != nil {
		return nil, err
	}
	dir, err := v.root.Open(local(p))
	if err != nil {
		return nil, v.failed(p, err)
	}
	defer dir.Close()
	entries, err := dir.ReadDir(-1)
	if err != nil {
		return nil, v.failed(p, err)
	}
	out := &api.Directory{Device: v.id, Path: p, Files: []api.File{}}
	for _, e := range entries {
		if p == "" && slices.Contains(reserved, e.Name()) {
			continue
		}
		info, err := e.Info()
		if err != nil {
			continue // deleted meanwhile
		}
		f := v.describe(path.Join(p, e.Name()), info)
		out.Files = append(out.Files, f)
		out.WholeBytes += uint64(f.Bytes)
	}
	slices.SortFunc(out.Files, func(a, b api.File) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Name, b.Name))
	})
	out.Bytes, out.FreeBytes, err = v.Space()
	return out, err
}

func rank(f api.File) int {
	if f.Type == "directory" {
		return 0
	}
	return 1
}

// SetRingShare says what percentage of the device is for rings: files do not take it, whether a ring has it yet or not.
func (v *Volume) SetRingShare(percent int) { v.share.Store(int32(percent)) }

// RingBytes returns what the rings on a device take, whose files are below dir.
func RingBytes(dir string) (sum uint64) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return 0
	}
	defer root.Close()
	// What cannot be looked at does not count: a ring is being deleted, or there is none.
	fs.WalkDir(root.FS(), RingsPath, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return nil
		}
		if info, err := e.Info(); err == nil {
			sum += uint64(info.Size())
		}
		return nil
	})
	return sum
}

// ForFiles returns how much of the free bytes of a device files may take, when rings take some bytes and share percent of its size are for them.
func ForFiles(size, free, rings uint64, share int) uint64 {
	reserved := size / 100 * uint64(share)
	if rings >= reserved {
		return free
	}
	return free - min(reserved-rings, free)
}

// Space returns the size of the device and what files can take of it still, in bytes.
func (v *Volume) Space() (size, free uint64, err error) {
	size, free, err = v.RingSpace()
	if share := int(v.share.Load()); share > 0 && err == nil {
		free = ForFiles(size, free, RingBytes(v.dir), share)
	}
	return size, free, err
}

// RingSpace returns the size of the device and what a new ring can take of it still, in bytes: all that is free, since what is kept from files is kept for rings.
func (v *Volume) RingSpace() (size, free uint64, err error) {
	dir, err := v.root.Open(".")
	if err != nil {
		return 0, 0, v.failed("", err)
	}
	defer dir.Close()
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(dir.Fd()), &st); err != nil {
		return 0, 0, v.failed("", err)
	}
	return st.Blocks * uint64(st.Bsize), st.Bavail * uint64(st.Bsize), nil
}

// Read opens a file for reading.
func (v *Volume) Read(p string) (*os.File, error) {
	p, err := v.existing(p, false)
	if err != nil {
		return nil, err
	}
	// O_NONBLOCK: a named pipe that somebody put there must not stop us.
	f, err := v.root.OpenFile(local(p), os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, v.failed(p, err)
	}
	info, err := f.Stat()
	if err == nil && info.Mode().IsRegular() {
		return f, nil
	}
	f.Close()
	if err != nil {
		return nil, v.failed(p, err)
	}
	return nil, api.Errorf(api.BadRequest, "%s is not a file", local(p))
}

// MakeDirectory makes one directory.
func (v *Volume) MakeDirectory(p string) error {
	p, err := v.clean(p, false)
	if err != nil {
		return err
	}
	if p == "" {
		return api.Errorf(api.BadRequest, "name the directory")
	}
	if err := checkNotPart(p); err != nil {
		return err
	}
	if err := v.checkParent(p); err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := v.root.Mkdir(p, 0o700); err != nil {
		return v.failed(p, err)
	}
	return nil
}

// checkParent says that there is no directory for p.
func (v *Volume) checkParent(p string) error {
	dir := path.Dir(p)
	info, err := v.root.Lstat(dir)
	switch {
	case err == nil && info.IsDir():
		return nil
	case err == nil, errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return api.Errorf(api.NotFound, "there is no directory %s on %s: make it first", dir, v.name)
	}
	return v.failed(dir, err)
}

// move gives a file or directory a name that nothing has. v.mu is held, as it is by all that give names.
func (v *Volume) move(from, to string) error {
	if _, err := v.root.Lstat(to); err == nil {
		return api.Errorf(api.Conflict, "there is a %s on %s already: delete it, or choose another name", to, v.name)
	}
	if err := v.root.Rename(from, to); err != nil {
		return v.failed(to, err)
	}
	return nil
}

// Rename gives a file or directory another name, or moves it. What has the new name already stays.
func (v *Volume) Rename(from, to string) error {
	from, err := v.existing(from, true)
	if err != nil {
		return err
	}
	if to, err = v.clean(to, true); err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case from == "":
		return api.Errorf(api.BadRequest, "the top of a device cannot be renamed")
	case to == "":
		return api.Errorf(api.BadRequest, "the new name of %s is missing", from)
	case v.busy(from):
		return api.Errorf(api.Conflict, "%s is being written: stop the capture before it is renamed", from)
	case strings.HasPrefix(to, from+"/"):
		return api.Errorf(api.BadRequest, "%s cannot be moved into itself", from)
	}
	if err := checkNotPart(to); err != nil {
		return err
	}
	if _, err := v.root.Lstat(from); err != nil {
		return v.failed(from, err)
	}
	if err := v.checkParent(to); err != nil {
		return err
	}
	return v.move(from, to)
}

// Remove deletes a file or a directory; one that is not empty only if everything in it may go with it.
func (v *Volume) Remove(p string, everything bool) error {
	p, err := v.existing(p, true)
	if err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case p == "":
		return api.Errorf(api.BadRequest, "the top of a device cannot be deleted: format the device instead")
	case v.busy(p):
		return api.Errorf(api.Conflict, "%s is being written: stop the capture before it is deleted", p)
	}
	if _, err := v.root.Lstat(p); err != nil {
		return v.failed(p, err)
	}
	remove := v.root.Remove
	if everything {
		remove = v.root.RemoveAll
	}
	if err := remove(p); err != nil {
		return v.failed(p, err)
	}
	return nil
}

func (v *Volume) isWriting(p string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.writing[p]
}

// busy reports whether the file, or one below the directory, is being written. v.mu is held.
func (v *Volume) busy(p string) bool {
	for w := range v.writing {
		if w == p || strings.HasPrefix(w, p+"/") {
			return true
		}
	}
	return false
}

// failures say what an error of the system means to who asked.
var failures = []struct {
	err  error
	kind api.Kind
	text string
}{
	{fs.ErrNotExist, api.NotFound, "there is no %s on %s"},
	{syscall.ENOTDIR, api.NotFound, "a part of the path %s on %s is no directory"},
	{syscall.ENOTEMPTY, api.Conflict, "the directory %s on %s is not empty"},
	{syscall.EISDIR, api.Conflict, "%s on %s is a directory"},
	{syscall.ENXIO, api.BadRequest, "%s on %s is not a file"}, // but a socket, or a device that is not there
	{fs.ErrExist, api.Conflict, "there is a %s on %s already"},
	{syscall.ENOSPC, api.StorageFull, "no room for %s: the storage device %s is full"},
	{syscall.EDQUOT, api.StorageFull, "no room for %s: the storage device %s is full"},
	{syscall.ENAMETOOLONG, api.BadRequest, "the name %s is too long for the storage device %s"},
	{syscall.ELOOP, api.BadRequest, "%s on %s is a symbolic link, which is not followed"},
	{syscall.EROFS, api.Conflict, "%s cannot be changed: the storage device %s is read-only"},
	{fs.ErrPermission, api.Conflict, "%s on %s belongs to another user of the machine"},
	{syscall.EINVAL, api.BadRequest, "the name %s has something that the storage device %s takes in no name: as a rule that is one of : * ? < > | and quotes"},
	{fs.ErrClosed, api.NoStorage, "%s cannot be reached: the storage device %s is not active any more"},
	{syscall.EIO, api.Unavailable, "%s cannot be reached: the storage device %s has failed or was pulled"},
}

// failed makes an *api.Error of an error of the system.
func (v *Volume) failed(p string, err error) error {
	for _, f := range failures {
		if errors.Is(err, f.err) {
			return api.Errorf(f.kind, f.text, local(p), v.name)
		}
	}
	return api.Errorf(api.Internal, "%s on %s: %v", local(p), v.name, err)
}
