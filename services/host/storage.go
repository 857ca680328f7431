package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"galvo/services/api"
	"galvo/services/config"
	"galvo/services/internal/disk"
	"galvo/services/internal/volume"
)

// The states of a storage device, as api.Storage has them.
const (
	active      = "active"
	inactive    = "inactive"
	absent      = "absent"
	locked      = "locked"
	unformatted = "unformatted"
	foreign     = "foreign"
	inSystem    = "system"
	formatting  = "formatting"
	failed      = "failed"
)

const (
	storagePeriod = time.Second      // between two looks at the machine's disks
	letGoTime     = 10 * time.Second // for the engine to close what it has open on a device
	healthPeriod  = 10 * time.Minute // between two questions to a disk
	mountsName    = "storage"        // folder of the state directory with the mount points
)

// A storage looks after the storage devices: it finds disks, mounts and unmounts them, and makes the directories of the configuration. What is active is
// what the configuration says, so that it is so again after a restart. Files on a device belong to the engine; nothing here opens one.
type storage struct {
	store   *config.Store
	machine *disk.Machine
	state   string // absolute, without symbolic links; empty is no storage at all
	owner   int    // user of the devices' top directories; negative is as they are
	changed func() // the engine must be told
	wake    chan struct{}
	jobs    sync.WaitGroup

	working sync.Mutex        // held by who changes what is mounted
	health  map[string]health // by disk; guarded by working

	mu sync.Mutex

	seen    []*device         // as last looked at, those of the configuration first; guarded by mu, as everything below
	formats map[string]*job   // by id
	wrong   map[string]string // why the last formatting failed, by id

	number   uint64        // counts what the engine was to know
	engine   bool          // there is one
	follows  uint64        // the number up to which it follows
	followup chan struct{} // closed when one of these changes
}

// A device is one of them. It is not changed once it was seen.
type device struct {
	api.Storage
	dir string // of its files, below the state directory; empty while it is not active

	disk *disk.Disk // nil for a directory, and while it is absent
	is   *config.Storage

	readOnly bool   // nothing can be written to it
	identity string // of dir; see handover.Device
	since    uint64 // number from which on the engine is told of it as it is
}

type job struct{ percent int }

type health struct {
	answer, note string
	asked        time.Time
}

func newStorage(o Options, store *config.Store, m *disk.Machine) (*storage, error) {
	s := &storage{store: store, machine: m, owner: o.EngineUser, changed: func() {}, wake: make(chan struct{}, 1),
		health: map[string]health{}, formats: map[string]*job{}, wrong: map[string]string{}, followup: make(chan struct{})}
	if os.Geteuid() != 0 {
		s.owner = -1 // no right to give anything away, and one user for all services
	}
	if o.Storage == "" {
		return s, nil
	}
	abs, err := filepath.Abs(o.Storage)
	if err == nil {
		s.state, err = filepath.EvalSymlinks(abs) // as the kernel lists mounts
	}
	if err != nil {
		return nil, fmt.Errorf("find the state directory: %w", err)
	}
	return s, nil
}

// run follows the disks and the configuration until ctx is done. Then it unmounts what nobody uses: in an orderly end the engine has ended before. What is in use
// stays mounted for an engine that goes on, and the next host service takes it over, as it does after this one was killed.
func (s *storage) run(ctx context.Context) {
	tick := time.NewTicker(storagePeriod)
	defer tick.Stop()
	for {
		s.look()
		select {
		case <-ctx.Done():
			s.jobs.Wait()
			s.working.Lock()
			defer s.working.Unlock()
			s.release(nil, false)
			return
		case <-tick.C:
		case <-s.wake:
		}
	}
}

func (s *storage) poke() { poke(s.wake) }

// look brings what is mounted in line with the configuration, and notes what is there.
func (s *storage) look() {
	if s.state == "" {
		return
	}
	s.working.Lock()
	defer s.working.Unlock()
	wanted := s.store.Current().Storage
	disks, err := s.machine.Disks(kernelNames(wanted), filepath.Join(s.state, mountsName))
	if err != nil {
		slog.Error("list the disks", "error", err)
		return // what was seen last still counts: to take every disk for gone would unmount them
	}
	seen := []*device{}
	taken := map[string]bool{}
	for i := range wanted {
		w := &wanted[i]
		if w.Disk == "" {
			seen = append(seen, s.directory(w))
			continue
		}
		d := s.disk(w, find(disks, w.Disk))
		taken[d.ID] = true
		seen = append(seen, d)
	}
	for i := range disks {
		if d := &disks[i]; !taken[d.ID] {
			taken[d.ID] = true
			seen = append(seen, s.disk(nil, d))
		}
	}
	s.release(seen, true)
	s.note(seen)
}

// note keeps what was seen and says what changed.
func (s *storage) note(seen []*device) {
	s.mu.Lock()
	before := map[string]*device{}
	for _, d := range s.seen {
		before[d.ID] = d
	}
	changed := len(seen) != len(s.seen) || s.seen == nil
	for _, d := range seen {
		b := before[d.ID]
		if b == nil || b.State != d.State || b.Reason != d.Reason {
			slog.Info("storage", "id", d.ID, "state", d.State, "reason", d.Reason)
		}
		same := b != nil && forEngine(b) == forEngine(d)
		if d.since = s.number + 1; same {
			d.since = b.since
		}
		changed = changed || !same
	}
	s.seen = seen
	if changed {
		s.number++
	}
	s.mu.Unlock()
	if changed {
		s.changed()
	}
}

// kernelNames returns the disks that the configuration names by their device files.
func kernelNames(wanted []config.Storage) (names []string) {
	for _, w := range wanted {
		if w.Disk != "" {
			names = append(names, filepath.Base(w.Disk))
		}
	}
	return names
}

func find(disks []disk.Disk, path string) *disk.Disk {
	i := slices.IndexFunc(disks, func(d disk.Disk) bool { return d.Is(path) })
	if i < 0 {
		return nil
	}
	return &disks[i]
}

// directory makes the directory of a device, unless it is not to be used.
func (s *storage) directory(w *config.Storage) *device {
	d := &device{is: w, Storage: api.Storage{
		ID: w.Name, Name: w.Name, Kind: "directory", State: inactive, Path: w.Directory, RingShare: w.RingPercent,
		Health: disk.Unknown, HealthNote: "it is a directory of the machine's own disk",
	}}
	if w.Inactive {
		return d
	}
	var err error
	if d.identity, err = s.makeDirectory(w.Directory); err != nil {
		d.State, d.Reason = failed, err.Error()
		return d
	}
	d.State, d.dir = active, w.Directory
	var fs unix.Statfs_t
	if unix.Statfs(filepath.Join(s.state, d.dir), &fs) == nil && fs.Flags&unix.ST_RDONLY != 0 {
		d.readOnly, d.Reason = true, "it can only be read: the machine's file system there is read-only"
	}
	return d
}

// makeDirectory makes a directory below the state directory that belongs to the engine, and returns its identity.
func (s *storage) makeDirectory(dir string) (identity string, err error) {
	root, err := os.OpenRoot(s.state)
	if err != nil {
		return "", fmt.Errorf("open the state directory: %w", err)
	}
	defer root.Close()
	if err := root.MkdirAll(dir, 0o711); err != nil {
		return "", fmt.Errorf("make the directory %s below the state directory: %w", dir, err)
	}
	f, err := root.Open(".")
	if err != nil {
		return "", fmt.Errorf("open the state directory: %w", err)
	}
	defer f.Close()
	// A symbolic link could have been put there to have something else given away.
	fd, err := unix.Openat2(int(f.Fd()), dir, &unix.OpenHow{Flags: unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS})
	if errors.Is(err, unix.ELOOP) {
		return "", fmt.Errorf("the directory %s below the state directory is a symbolic link: use a bind mount instead", dir)
	}
	if err != nil {
		return "", fmt.Errorf("open the directory %s below the state directory: %w", dir, err)
	}
	defer unix.Close(fd)
	return s.give(fd, dir)
}

// give makes an open directory the engine's, and returns its identity: the file system, the inode, and when that was made, since numbers are used again.
func (s *storage) give(fd int, dir string) (identity string, err error) {
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_UID|unix.STATX_INO|unix.STATX_BTIME, &st); err != nil {
		return "", fmt.Errorf("look at the directory %s: %w", dir, err)
	}
	identity = fmt.Sprintf("%d:%d %d %d.%09d", st.Dev_major, st.Dev_minor, st.Ino, st.Btime.Sec, st.Btime.Nsec)
	if s.owner < 0 || int(st.Uid) == s.owner {
		return identity, nil
	}
	err = unix.Fchown(fd, s.owner, -1)
	if err == nil {
		err = unix.Fchmod(fd, 0o700)
	}
	if err != nil && !errors.Is(err, unix.EROFS) { // what can only be read is the engine's as far as others may read it
		return "", fmt.Errorf("give the directory %s to the engine: %w", dir, err)
	}
	return identity, nil
}

// disk describes a disk, of the configuration if w is not nil, and mounts it or lets it go as the configuration says. d is nil if the machine does not have it.
func (s *storage) disk(w *config.Storage, d *disk.Disk) *device {
	v := &device{disk: d, is: w, Storage: api.Storage{Kind: "disk", Health: disk.Unknown, State: inactive}}
	if w != nil {
		v.ID, v.Name, v.Path, v.RingShare = filepath.Base(w.Disk), w.Name, w.Disk, w.RingPercent
	}
	if d == nil {
		v.State, v.Reason = absent, "the machine has no such disk now: plug it in"
		return v
	}
	v.ID, v.Path = d.ID, d.Path
	if w == nil {
		v.Name = nameOf(d)
	}
	v.Model, v.Serial, v.Transport, v.Removable, v.Bytes = d.Model, d.Serial, d.Transport, d.Removable, d.Bytes
	v.FileSystem, v.Encrypted = d.FileSystem, d.Encrypted()
	v.Health, v.HealthNote = s.askHealth(d)
	v.State, v.Reason = s.judge(d)
	if v.State == inactive && w != nil && !w.Inactive {
		s.mount(v)
	}
	return v
}

// nameOf is what a disk is called before somebody gives it an alias.
func nameOf(d *disk.Disk) string {
	if d.Model != "" {
		return d.Model
	}
	return d.ID
}

// judge says what can be done with a disk: inactive is one that can be activated.
func (s *storage) judge(d *disk.Disk) (state, reason string) {
	s.mu.Lock()
	_, busy := s.formats[d.ID]
	wrong := s.wrong[d.ID]
	s.mu.Unlock()
	switch {
	case busy:
		return formatting, "it is being formatted: wait until that is done"
	case wrong != "":
		return failed, "formatting failed: " + wrong
	case d.InUse != "":
		return inSystem, "it is " + d.InUse
	case d.Unreadable != "":
		return failed, "what is on it cannot be read: " + d.Unreadable
	case d.FileSystem == "ext4":
		return inactive, ""
	case d.Encrypted() && s.machine.IsOpen(d) != "":
		return inactive, ""
	case d.Encrypted():
		return locked, "it is encrypted: activate it with its password"
	case d.Blank:
		return unformatted, "it is empty: format it"
	case d.FileSystem != "":
		return foreign, fmt.Sprintf("it holds %s, and only ext4 is used: format it, which deletes what is on it", d.FileSystem)
	}
	return foreign, "it holds no file system that is known: format it, which deletes what is on it"
}

// mount mounts the disk of v, if it is not mounted yet, and gives its top directory to the engine.
func (s *storage) mount(v *device) {
	source := v.disk.Target
	if v.Encrypted {
		source = s.machine.IsOpen(v.disk)
	}
	dir := filepath.Join(mountsName, v.ID)
	point := filepath.Join(s.state, dir)
	fail := func(err error) { v.State, v.Reason = failed, err.Error() }
	if was := s.machine.Mounted(point); was != source {
		if was != "" { // of a disk that was pulled and has come back under another name
			s.machine.Unmount(point, true)
		}
		if err := errors.Join(os.MkdirAll(point, 0o711), os.Chmod(filepath.Dir(point), 0o711)); err != nil {
			fail(err)
			return
		}
		if err := s.machine.Mount(source, point, v.disk.ReadOnly); err != nil {
			fail(err)
			return
		}
	}
	fd, err := unix.Open(point, unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		fail(fmt.Errorf("open %s: %w", point, err))
		return
	}
	defer unix.Close(fd)
	if v.identity, err = s.give(fd, dir); err != nil {
		fail(err)
		return
	}
	v.State, v.dir = active, dir
	switch {
	case v.disk.ReadOnly:
		v.readOnly, v.Reason = true, "it can only be read: the disk is write-protected"
	case s.machine.ReadOnly(point):
		v.readOnly, v.Reason = true, "it can only be read: the kernel found something wrong with it, or somebody made it so; deactivate and activate it, and if that does not help, format it or use another one"
	}
}

// release unmounts what is mounted below the state directory and not among the active devices: a disk that is gone at once, if that is allowed, another one as
// soon as the engine has closed its files.
func (s *storage) release(seen []*device, force bool) {
	entries, err := os.ReadDir(filepath.Join(s.state, mountsName))
	if err != nil {
		return // nothing was ever mounted
	}
	for _, e := range entries {
		i := slices.IndexFunc(seen, func(d *device) bool { return d.ID == e.Name() && d.Kind == "disk" })
		if i >= 0 && (seen[i].State == active || seen[i].State == formatting) {
			continue
		}
		point := filepath.Join(s.state, mountsName, e.Name())
		gone := force && (i < 0 || seen[i].State == absent)
		if s.machine.Mounted(point) != "" {
			if err := s.machine.Unmount(point, gone); err != nil {
				if i >= 0 {
					seen[i].Reason = "it is still in use: " + err.Error()
				}
				continue
			}
		}
		os.Remove(point) // what is not empty is not ours
		if err := s.machine.Close(context.Background(), e.Name()); err != nil {
			slog.Warn("lock the storage", "id", e.Name(), "error", err)
		} else if i >= 0 && seen[i].Encrypted {
			seen[i].State, seen[i].Reason = s.judge(seen[i].disk)
		}
	}
	// An encrypted disk that was pulled stays open until the engine has closed its files.
	for _, d := range seen {
		if d.State == absent {
			_ = s.machine.Close(context.Background(), d.ID) // tried again at the next look
		}
	}
}

// askHealth asks a disk how it is, now and then.
func (s *storage) askHealth(d *disk.Disk) (answer, note string) {
	h, ok := s.health[d.ID]
	if !ok || time.Since(h.asked) > healthPeriod {
		h.answer, h.note = s.machine.Health(d)
		h.asked = time.Now()
		s.health[d.ID] = h
	}
	return h.answer, h.note
}

// list returns the devices as they are now.
func (s *storage) list() []api.Storage {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := []api.Storage{}
	for _, d := range s.seen {
		list = append(list, s.show(d))
	}
	return list
}

// show adds to a device what changes all the time. s.mu is held.
func (s *storage) show(d *device) api.Storage {
	v := d.Storage
	if j := s.formats[d.ID]; j != nil {
		v.State, v.Reason, v.Progress = formatting, "", j.percent
	}
	if v.State == active && s.engine && s.follows < d.since {
		v.State, v.Reason = inactive, "the engine is opening it"
	}
	var fs unix.Statfs_t
	if dir := filepath.Join(s.state, d.dir); d.dir != "" && unix.Statfs(dir, &fs) == nil {
		if d.Kind == "directory" {
			v.Bytes = fs.Blocks * uint64(fs.Bsize)
		}
		v.RingBytes = volume.RingBytes(dir)
		if !d.readOnly {
			v.RingFree = fs.Bavail * uint64(fs.Bsize)
			v.FreeBytes = volume.ForFiles(fs.Blocks*uint64(fs.Bsize), fs.Bavail*uint64(fs.Bsize), v.RingBytes, d.RingShare)
		}
	}
	return v
}

// get returns a device by its id or its name.
func (s *storage) get(id string) (*device, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	names := []string{}
	for _, by := range []func(*device) string{func(d *device) string { return d.ID }, func(d *device) string { return d.Name }} {
		for _, d := range s.seen {
			if by(d) == id {
				return d, nil
			}
		}
	}
	for _, d := range s.seen {
		names = append(names, d.ID)
	}
	return nil, &api.Error{Kind: api.NotFound, Text: fmt.Sprintf("there is no storage device %q; there are: %s", id, strings.Join(names, ", ")), Expected: names}
}
