package host

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"galvo/ci/need"
	"galvo/services/api"
	"galvo/services/config"
	"galvo/services/internal/disk"
	"galvo/services/internal/handover"
)

// A bench is a machine made of files: it mounts by writing down that it did.
type bench struct {
	t    *testing.T
	dir  string
	host *storage

	mu     sync.Mutex
	mounts map[string]string // device by point
	busy   bool              // what is mounted is in use
	broken bool              // nothing can be formatted

	protected map[string]bool // devices that can only be read
}

func newBench(t *testing.T, text string) *bench {
	t.Helper()
	b := &bench{t: t, dir: t.TempDir(), mounts: map[string]string{}}
	b.write("state/host/x", "")
	b.write("config.toml", text)
	b.note()
	store, err := config.Open(filepath.Join(b.dir, "config.toml"))
	if err != nil {
		t.Fatal(err)
	}
	m := &disk.Machine{Sys: b.dir + "/sys", Dev: b.dir + "/dev", Proc: b.dir + "/proc", System: b}
	if b.host, err = newStorage(Options{Storage: filepath.Join(b.dir, "state", "host", ".."), EngineUser: os.Getuid()}, store, m); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bench) write(name, text string) {
	b.t.Helper()
	path := filepath.Join(b.dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
		b.t.Fatal(err)
	}
}

// plug puts a USB disk into the machine, with what is on it.
func (b *bench) plug(kernel, serial, content string) {
	b.write("sys/devices/usb1/block/"+kernel+"/size", "2048")
	b.write("sys/devices/usb1/block/"+kernel+"/device/serial", serial)
	b.write("sys/devices/usb1/block/"+kernel+"/device/model", "Stick")
	b.write("dev/"+kernel, content+strings.Repeat("\x00", max(1<<20-len(content), 0)))
	if err := errors.Join(os.MkdirAll(b.dir+"/sys/block", 0o755), os.Symlink("../devices/usb1/block/"+kernel, b.dir+"/sys/block/"+kernel)); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) pull(kernel string) {
	if err := errors.Join(os.Remove(b.dir+"/sys/block/"+kernel), os.Remove(b.dir+"/dev/"+kernel)); err != nil {
		b.t.Fatal(err)
	}
}

// note writes down what is mounted. b.mu is held, or nobody else is there yet.
func (b *bench) note() {
	text := ""
	for point, device := range b.mounts {
		text += fmt.Sprintf("1 1 8:1 / %s rw - ext4 %s rw\n", point, device)
	}
	b.write("proc/self/mountinfo", text)
}

func (b *bench) Mount(device, dir string, readOnly bool) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if protected := b.protected[device]; protected != readOnly {
		return unix.EACCES // as the kernel says
	}
	b.mounts[dir] = device
	b.note()
	return nil
}

func (b *bench) Unmount(dir string, lazy bool) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.busy && !lazy {
		return unix.EBUSY
	}
	delete(b.mounts, dir)
	b.note()
	return nil
}

func (b *bench) Run(_ context.Context, input []byte, said func([]byte), name string, args ...string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	last := args[len(args)-1]
	switch {
	case b.broken:
		return errors.New("it is broken")
	case name == "mkfs.ext4":
		said([]byte("1/2"))
		b.write(strings.TrimPrefix(last, b.dir+"/"), superblock())
	case args[0] == "luksFormat":
		b.write(strings.TrimPrefix(last, b.dir+"/"), "LUKS\xba\xbe")
	case args[0] == "open" && string(input) == "secret":
		b.write("sys/block/dm-0/dm/name", last)
		b.write("sys/block/dm-0/slaves/"+filepath.Base(args[len(args)-2])+"/x", "")
		b.write("dev/dm-0", superblock())
	case args[0] == "open":
		if string(input) == "no device mapper" {
			return errors.New("cannot initialize device-mapper")
		}
		return exec.Command("sh", "-c", "exit 2").Run() // as cryptsetup does
	case args[0] == "close" && b.busy:
		return errors.New("it is in use")
	case args[0] == "close":
		return os.RemoveAll(b.dir + "/sys/block/dm-0")
	}
	return nil
}

// superblock is the beginning of an ext4 file system.
func superblock() string {
	s := make([]byte, 1<<17)
	binary.LittleEndian.PutUint16(s[1024+56:], 0xef53)
	binary.LittleEndian.PutUint32(s[1024+96:], 0x2c2)
	return string(s)
}

// state returns what is known of a device.
func (b *bench) state(id string) api.Storage {
	b.t.Helper()
	b.host.look()
	for _, d := range b.host.list() {
		if d.ID == id {
			return d
		}
	}
	return api.Storage{}
}

func (b *bench) wantState(id, want string) api.Storage {
	b.t.Helper()
	d := b.state(id)
	if d.State != want {
		b.t.Fatalf("%s is %q (%s), want %q", id, d.State, d.Reason, want)
	}
	return d
}

// told returns what the engine is told of a device.
func (b *bench) told(id string) (dir string, active bool) {
	now, _ := b.host.devices()
	for _, d := range now.Devices {
		if d.ID == id {
			return d.Directory, d.Active
		}
	}
	return "", false
}

func kindOf(err error) api.Kind {
	if err == nil {
		return ""
	}
	return api.ErrorOf(err).Kind
}

func TestStorageDirectory(t *testing.T) {
	b := newBench(t, "")
	if _, ok := b.host.devices(); ok {
		t.Error("devices are known before anybody looked")
	}
	d := b.wantState("data", "active")
	if d.Kind != "directory" || d.FreeBytes == 0 || d.Bytes < d.FreeBytes {
		t.Errorf("%+v", d)
	}
	if dir, active := b.told("data"); dir != "data" || !active {
		t.Errorf("the engine is told %q, %v", dir, active)
	}
	b.write("state/data/.galvo/rings/r/segment", "12345")
	if d := b.state("data"); d.RingBytes != 5 {
		t.Errorf("rings take %d bytes, want 5", d.RingBytes)
	}
	if _, err := b.host.deactivate(context.Background(), "data"); err != nil {
		t.Fatal(err)
	}
	b.wantState("data", "inactive")
	if _, active := b.told("data"); active {
		t.Error("the engine believes it active")
	}
	if d, err := b.host.activate(context.Background(), "data", api.ActivateRequest{Name: "box"}); err != nil || d.ID != "box" || d.State != "active" {
		t.Errorf("activate: %+v, %v", d, err)
	}
	if _, err := b.host.activate(context.Background(), "box", api.ActivateRequest{Name: "a/b"}); kindOf(err) != api.BadRequest {
		t.Errorf("a name that cannot be: %v", err)
	}
	if _, err := b.host.format("box", api.FormatRequest{Confirm: "box"}); kindOf(err) != api.Conflict {
		t.Errorf("a directory was formatted: %v", err)
	}
	if _, err := b.host.activate(context.Background(), "none", api.ActivateRequest{}); kindOf(err) != api.NotFound {
		t.Errorf("an unknown device: %v", err)
	}
}

// Where a directory was taken away and there is another one now, the engine is told: it has the old one open.
func TestStorageReplaced(t *testing.T) {
	b := newBench(t, "")
	told := func() handover.Device {
		t.Helper()
		b.wantState("data", "active")
		now, _ := b.host.devices()
		return now.Devices[0]
	}
	before := told()
	b.write("state/data/file", "")
	if again := told(); again != before || before.Identity == "" {
		t.Errorf("it changed from %+v to %+v", before, again)
	}
	if err := os.RemoveAll(filepath.Join(b.dir, "state", "data")); err != nil {
		t.Fatal(err)
	}
	if after := told(); after == before || after.Directory != before.Directory {
		t.Errorf("another directory is told as %+v, the one before as %+v", after, before)
	}
}

// A directory that somebody moves is one that goes, and comes again when it is moved back.
func TestStorageDirectoryMoved(t *testing.T) {
	b := newBench(t, "")
	which := func() string {
		t.Helper()
		b.wantState("data", "active")
		now, _ := b.host.devices()
		return now.Devices[0].Identity
	}
	first := which()
	if again := which(); again != first || first == "" {
		t.Errorf("nothing happened: %q, then %q", first, again)
	}
	data, elsewhere := filepath.Join(b.dir, "state", "data"), filepath.Join(b.dir, "elsewhere")
	if err := os.Rename(data, elsewhere); err != nil {
		t.Fatal(err)
	}
	if now := which(); now == first {
		t.Error("the engine is not told that another directory lies there")
	}
	if err := errors.Join(os.Remove(data), os.Rename(elsewhere, data)); err != nil {
		t.Fatal(err)
	}
	if now := which(); now != first {
		t.Error("the engine is not told that the directory is back")
	}
}

// A device that the engine is to open, or to let go, is answered for when the engine has done so.
func TestStorageWaitsForTheEngine(t *testing.T) {
	b := newBench(t, "")
	b.wantState("data", "active")
	b.host.follower(true)
	type answer struct {
		d   api.Storage
		err error
	}
	for _, c := range []struct {
		state string
		do    func() (api.Storage, error)
	}{
		{"inactive", func() (api.Storage, error) { return b.host.deactivate(t.Context(), "data") }},
		{"active", func() (api.Storage, error) { return b.host.activate(t.Context(), "data", api.ActivateRequest{}) }},
	} {
		before, _ := b.host.devices()
		answers := make(chan answer, 1)
		go func() {
			d, err := c.do()
			answers <- answer{d, err}
		}()
		var now handover.Storage
		for now, _ = b.host.devices(); now.Number == before.Number; now, _ = b.host.devices() {
			time.Sleep(time.Millisecond)
		}
		b.host.followed(before.Number)
		select {
		case a := <-answers:
			t.Errorf("%s: answered before the engine follows: %+v", c.state, a)
		case <-time.After(50 * time.Millisecond):
		}
		if d := b.state("data"); d.State != "inactive" {
			t.Errorf("%s: before the engine follows it is shown as %+v", c.state, d)
		}
		b.host.followed(now.Number)
		if a := <-answers; a.err != nil || a.d.State != c.state {
			t.Errorf("%s: %+v", c.state, a)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	stop := time.AfterFunc(50*time.Millisecond, cancel)
	defer stop.Stop()
	if _, err := b.host.deactivate(ctx, "data"); kindOf(err) != api.Conflict || !strings.Contains(err.Error(), "has not closed its files") {
		t.Errorf("an engine that does not answer: %v", err)
	}
	b.host.follower(false) // it was killed
	if d, err := b.host.deactivate(t.Context(), "data"); err != nil || d.State != "inactive" {
		t.Errorf("without an engine: %+v, %v", d, err)
	}
}

func TestStorageLink(t *testing.T) {
	b := newBench(t, "[[storage]]\nname = \"x\"\ndirectory = \"link\"\n")
	if err := os.Symlink("host", filepath.Join(b.dir, "state", "link")); err != nil {
		t.Fatal(err)
	}
	if d := b.wantState("x", "failed"); !strings.Contains(d.Reason, "symbolic link") {
		t.Errorf("reason %q", d.Reason)
	}
}

func TestStorageDisk(t *testing.T) {
	b := newBench(t, "storage = []\n")
	const id = "usb-Stick_1"
	point := filepath.Join(b.host.state, "storage", id)
	b.plug("sdb", "1", superblock())
	d := b.wantState(id, "inactive")
	if d.Name != "Stick" || d.Serial != "1" || d.Transport != "usb" || d.FileSystem != "ext4" || d.Bytes != 1<<20 || d.Health != "unknown" || d.HealthNote == "" {
		t.Errorf("%+v", d)
	}
	if _, err := b.host.activate(context.Background(), "Stick", api.ActivateRequest{Name: "my stick"}); err != nil {
		t.Fatal(err)
	}
	if d := b.wantState(id, "active"); d.Name != "my stick" || b.mounts[point] != b.dir+"/dev/sdb" {
		t.Errorf("%+v, mounted %v", d, b.mounts)
	}
	if dir, active := b.told(id); dir != "storage/"+id || !active {
		t.Errorf("the engine is told %q, %v", dir, active)
	}
	if _, err := b.host.format("my stick", api.FormatRequest{Confirm: "my stick"}); kindOf(err) != api.Conflict {
		t.Errorf("an active disk was formatted: %v", err)
	}

	// Pulled while it is in use, and back under another name of the kernel's.
	b.busy = true
	b.pull("sdb")
	b.wantState(id, "absent")
	if len(b.mounts) != 0 {
		t.Errorf("a disk that is gone is mounted: %v", b.mounts)
	}
	if _, active := b.told(id); active {
		t.Error("the engine believes it active")
	}
	b.plug("sdc", "1", superblock())
	if b.wantState(id, "active"); b.mounts[point] != b.dir+"/dev/sdc" {
		t.Errorf("mounted %v", b.mounts)
	}

	// It can be pulled once the engine has let it go.
	letGo := time.AfterFunc(300*time.Millisecond, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.busy = false
	})
	defer letGo.Stop()
	if d, err := b.host.deactivate(context.Background(), id); err != nil || d.State != "inactive" || len(b.mounts) != 0 {
		t.Errorf("deactivate: %+v, %v, mounted %v", d, err, b.mounts)
	}
	b.wantState(id, "inactive")
}

func TestStorageStates(t *testing.T) {
	b := newBench(t, "storage = []\n")
	b.plug("sda", "blank", "")
	b.plug("sdb", "windows", "\xebR\x90NTFS    ")
	b.plug("sdc", "junk", "junk")
	b.plug("sdd", "root", superblock())
	b.write("sys/devices/usb1/block/sdd/dev", "8:1")
	b.mounts["/"] = b.dir + "/dev/sdd"
	b.note()
	b.plug("sde", "luks", "LUKS\xba\xbe")
	for id, want := range map[string]string{"blank": "unformatted", "windows": "foreign", "junk": "foreign", "root": "system", "luks": "locked"} {
		d := b.wantState("usb-Stick_"+id, want)
		if d.Reason == "" {
			t.Errorf("%s: no reason", id)
		}
		if _, err := b.host.activate(context.Background(), d.ID, api.ActivateRequest{}); kindOf(err) != api.Conflict {
			t.Errorf("%s was activated: %v", id, err)
		}
	}
	if _, err := b.host.format("usb-Stick_root", api.FormatRequest{Confirm: "Stick"}); kindOf(err) != api.Conflict {
		t.Errorf("the system's disk was formatted: %v", err)
	}
}

func (b *bench) formatted(id string) {
	b.t.Helper()
	b.host.jobs.Wait()
	b.host.look()
}

func TestStorageFormat(t *testing.T) {
	b := newBench(t, "storage = []\n")
	const id = "usb-Stick_1"
	b.plug("sda", "1", "")
	b.wantState(id, "unformatted")
	if _, err := b.host.format(id, api.FormatRequest{Confirm: "stick"}); kindOf(err) != api.BadRequest {
		t.Errorf("formatted without its name: %v", err)
	}
	if _, err := b.host.format(id, api.FormatRequest{Confirm: "Stick", Encrypt: true}); kindOf(err) != api.BadRequest {
		t.Errorf("encrypted without a password: %v", err)
	}
	if _, err := b.host.format(id, api.FormatRequest{Confirm: "Stick", Password: "secret"}); kindOf(err) != api.BadRequest {
		t.Errorf("a password, and not encrypted: %v", err)
	}
	for _, name := range []string{"a/b", "..", " x"} { // before anything is deleted
		if _, err := b.host.format(id, api.FormatRequest{Confirm: "Stick", Name: name}); kindOf(err) != api.BadRequest {
			t.Errorf("formatted with the name %q: %v", name, err)
		}
	}
	b.wantState(id, "unformatted")
	b.broken = true
	if _, err := b.host.format(id, api.FormatRequest{Confirm: "Stick"}); err != nil {
		t.Fatal(err)
	}
	b.formatted(id)
	if d := b.wantState(id, "failed"); !strings.Contains(d.Reason, "broken") {
		t.Errorf("reason %q", d.Reason)
	}
	b.broken = false
	if d, err := b.host.format(id, api.FormatRequest{Confirm: "Stick", RingShare: 40, Name: "disk 1"}); err != nil || d.State != "formatting" {
		t.Fatalf("%+v, %v", d, err)
	}
	if _, err := b.host.activate(context.Background(), id, api.ActivateRequest{}); err == nil || strings.HasSuffix(err.Error(), ": ") {
		t.Errorf("activated beside that, or no reason said: %v", err)
	}
	b.formatted(id)
	if d := b.wantState(id, "active"); d.RingShare != 40 || d.Name != "disk 1" {
		t.Errorf("%+v", d)
	}

	// Encrypted: open after it was formatted, locked after it was deactivated.
	if _, err := b.host.deactivate(context.Background(), id); err != nil {
		t.Fatal(err)
	}
	if _, err := b.host.format(id, api.FormatRequest{Confirm: "disk 1", Encrypt: true, Password: "secret"}); err != nil {
		t.Fatal(err)
	}
	b.formatted(id)
	if d := b.wantState(id, "active"); !d.Encrypted {
		t.Errorf("%+v", d)
	}
	if d, err := b.host.deactivate(context.Background(), id); err != nil || d.State != "locked" {
		t.Errorf("deactivated: %+v, %v", d, err)
	}
	for password, want := range map[string]string{"": "activate it with its password", "guess": "does not open with this password", "no device mapper": "does not open: "} {
		if _, err := b.host.activate(context.Background(), id, api.ActivateRequest{Password: password}); kindOf(err) != api.Conflict || !strings.Contains(err.Error(), want) {
			t.Errorf("password %q: %v", password, err)
		}
	}
	if _, err := b.host.activate(context.Background(), id, api.ActivateRequest{Password: "secret", Name: "a/b"}); kindOf(err) != api.BadRequest || b.state(id).State != "locked" {
		t.Errorf("a name that is none: %v, and it is %s", err, b.state(id).State)
	}
	if d, err := b.host.activate(context.Background(), id, api.ActivateRequest{Password: "secret"}); err != nil || d.State != "active" {
		t.Errorf("activated: %+v, %v", d, err)
	}
	text, err := os.ReadFile(filepath.Join(b.dir, "config.toml"))
	if err != nil || strings.Contains(string(text), "secret") || !strings.Contains(string(text), "/dev/disk/by-id/"+id) {
		t.Errorf("the configuration: %s, %v", text, err)
	}
}

// An encrypted disk that is pulled while it is in use, and plugged in again, is locked, and opens with its password as soon as nobody uses what was open.
func TestStorageEncryptedPulled(t *testing.T) {
	b := newBench(t, "storage = []\n")
	const id = "usb-Stick_1"
	b.plug("sda", "1", "LUKS\xba\xbe")
	b.wantState(id, "locked")
	if _, err := b.host.activate(context.Background(), id, api.ActivateRequest{Password: "secret"}); err != nil {
		t.Fatal(err)
	}
	b.busy = true
	b.pull("sda")
	b.wantState(id, "absent")
	b.plug("sdb", "1", "LUKS\xba\xbe")
	b.wantState(id, "locked")
	if _, err := b.host.activate(context.Background(), id, api.ActivateRequest{Password: "secret"}); kindOf(err) != api.Conflict || !strings.Contains(err.Error(), "in use") {
		t.Errorf("activated while it is in use: %v", err)
	}
	b.busy = false
	if d, err := b.host.activate(context.Background(), id, api.ActivateRequest{Password: "secret"}); err != nil || d.State != "active" {
		t.Errorf("activated: %+v, %v", d, err)
	}

	// Also one that stays away is locked in the end.
	b.busy = true
	b.pull("sdb")
	b.wantState(id, "absent")
	b.busy = false
	b.wantState(id, "absent")
	if _, err := os.Stat(b.dir + "/sys/block/dm-0"); err == nil {
		t.Error("what is left of a disk that is gone is open")
	}
}

// A write-protected disk can be read, and says why it takes nothing.
func TestStorageWriteProtected(t *testing.T) {
	b := newBench(t, "storage = []\n")
	const id = "usb-Stick_1"
	b.plug("sda", "1", superblock())
	b.write("sys/devices/usb1/block/sda/ro", "1")
	b.protected = map[string]bool{b.dir + "/dev/sda": true}
	b.wantState(id, "inactive")
	d, err := b.host.activate(context.Background(), id, api.ActivateRequest{})
	if err != nil || d.State != "active" || !strings.Contains(d.Reason, "write-protected") || d.FreeBytes != 0 || d.RingFree != 0 {
		t.Errorf("activated: %+v, %v", d, err)
	}
}

// Of a disk that cannot be read nobody says that it holds nothing.
func TestStorageUnreadable(t *testing.T) {
	b := newBench(t, "storage = []\n")
	const id = "usb-Stick_1"
	b.plug("sda", "1", "")
	if err := errors.Join(os.Remove(b.dir+"/dev/sda"), os.Mkdir(b.dir+"/dev/sda", 0o755)); err != nil { // reading a directory is an error
		t.Fatal(err)
	}
	if d := b.wantState(id, "failed"); !strings.Contains(d.Reason, "cannot be read") {
		t.Errorf("%+v", d)
	}
	if _, err := b.host.activate(context.Background(), id, api.ActivateRequest{}); kindOf(err) != api.Conflict || !strings.Contains(err.Error(), "cannot be read") {
		t.Errorf("it was activated: %v", err)
	}
	if n := len(b.host.store.Current().Storage); n != 0 {
		t.Errorf("%d devices in the configuration", n)
	}
}

// A loop device takes the whole way through the kernel.
func TestStorageLoop(t *testing.T) {
	need.Root(t)
	need.Tool(t, "mkfs.ext4")
	losetup := need.Tool(t, "losetup")
	dir := t.TempDir()
	image := filepath.Join(dir, "image")
	if err := os.WriteFile(image, make([]byte, 64<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(losetup, "--find", "--show", image).CombinedOutput()
	if err != nil {
		need.Missing(t, "loop", fmt.Sprintf("no loop device is to be had: %v: %s", err, out))
	}
	loop := strings.TrimSpace(string(out))
	defer exec.Command(losetup, "-d", loop).Run()
	file := filepath.Join(dir, "config.toml")
	if err := os.WriteFile(file, []byte("[[storage]]\nname = \"disk\"\ndisk = \""+loop+"\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	store, err := config.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	const user = 64210
	s, err := newStorage(Options{Storage: dir, EngineUser: user}, store, disk.Local())
	if err != nil {
		t.Fatal(err)
	}
	id := filepath.Base(loop)
	find := func() api.Storage {
		s.look()
		list := s.list()
		return list[slices.IndexFunc(list, func(d api.Storage) bool { return d.ID == id })]
	}
	if d := find(); d.State != "unformatted" {
		t.Fatalf("%+v", d)
	}
	if _, err := s.format("disk", api.FormatRequest{Confirm: "disk"}); err != nil {
		t.Fatal(err)
	}
	s.jobs.Wait()
	d := find()
	defer unix.Unmount(filepath.Join(s.state, "storage", id), unix.MNT_DETACH)
	if d.State != "active" || d.FreeBytes < 50<<20 {
		t.Fatalf("%+v", d)
	}
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(s.state, "storage", id), &st); err != nil || st.Uid != user || st.Mode&0o777 != 0o700 {
		t.Errorf("the top of the device: %+v, %v", st, err)
	}
	// One that cannot be written any more says so, whether somebody wanted that or the kernel.
	point := filepath.Join(s.state, "storage", id)
	for _, how := range []struct {
		flags   uintptr
		options string
		write   bool
	}{{unix.MS_RDONLY, "", false}, {0, "", true}, {0, "abort", false}} {
		if err := unix.Mount("", point, "", unix.MS_REMOUNT|how.flags, how.options); err != nil {
			t.Fatal(err)
		}
		if d := find(); d.State != "active" || (d.Reason == "") != how.write || (d.FreeBytes > 0) != how.write {
			t.Errorf("%+v: %+v", how, d)
		}
	}
	// Another host service takes over what is mounted.
	if s, err = newStorage(Options{Storage: dir, EngineUser: user}, store, disk.Local()); err != nil {
		t.Fatal(err)
	}
	if d := find(); d.State != "active" {
		t.Errorf("%+v", d)
	}
	// An orderly end unmounts it, unless somebody has something open there.
	orderly := func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		s.run(ctx)
	}
	open, err := os.Open(point)
	if err != nil {
		t.Fatal(err)
	}
	if orderly(); s.machine.Mounted(point) == "" {
		t.Error("unmounted while it was in use")
	}
	open.Close()
	if orderly(); s.machine.Mounted(point) != "" {
		t.Error("mounted after the end")
	}
	if d := find(); d.State != "active" {
		t.Errorf("%+v", d)
	}
	if d, err := s.deactivate(context.Background(), id); err != nil || d.State != "inactive" {
		t.Errorf("%+v, %v", d, err)
	}
	if entries, err := os.ReadDir(filepath.Join(s.state, "storage")); err != nil || len(entries) != 0 {
		t.Errorf("mount points: %v, %v", entries, err)
	}
}
