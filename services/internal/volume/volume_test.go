package volume

import (
	"bytes"
	"errors"
	"io"
	"math"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"galvo/services/api"
)

// half takes the first half of what is behind good for whole.
func half(f *os.File, good int64) (int64, error) {
	info, err := f.Stat()
	return good + (info.Size()-good)/2, err
}

func open(t *testing.T, dir string) *Volume {
	t.Helper()
	v, err := Open("data", "data", dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { v.Close() })
	return v
}

func kindOf(err error) api.Kind {
	if err == nil {
		return ""
	}
	return api.ErrorOf(err).Kind
}

// Whatever a path is, nothing outside of the device is reached, and the answer is an error that says why.
func TestPathsStayOnTheDevice(t *testing.T) {
	outer := t.TempDir()
	dir := filepath.Join(outer, "device")
	if err := errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(filepath.Join(outer, "secret"), []byte("s"), 0o600), os.Mkdir(filepath.Join(dir, "d"), 0o700),
		os.Symlink("../secret", filepath.Join(dir, "out")), os.Symlink("..", filepath.Join(dir, "up")), os.Symlink("d", filepath.Join(dir, "inside"))); err != nil {
		t.Fatal(err)
	}
	v := open(t, dir)
	long := strings.Repeat("n", 256)
	for _, p := range []string{
		"..", "../secret", "d/../../secret", "d//x", "./x", "x/.", "/../secret", "a\x00b", "a\nb", "a\x7fb", "\xff", long, "d/" + long, `a\b`,
		"out", "up/secret", "up", "inside/x", ".galvo", ".galvo/unfinished", "lost+found", strings.Repeat("d/", 70) + "x", strings.Repeat("x", 250) + "/" + strings.Repeat("y/", 2000),
	} {
		file := strings.TrimSuffix(p, "/")
		calls := map[string]func() error{
			"read": func() error {
				f, err := v.Read(file)
				if err == nil {
					f.Close()
				}
				return err
			},
			"upload": func() error {
				_, err := v.Upload(Upload{Path: file, Total: -1}, strings.NewReader("x"))
				return err
			},
			"mkdir":     func() error { return v.MakeDirectory(file + "/new") },
			"create":    func() error { _, err := v.Create(file, "new.pcapng", 0); return err },
			"rename":    func() error { return v.Rename(file+"/x", "y") },
			"rename to": func() error { return v.Rename("d", file+"/x") },
			"list":      func() error { _, err := v.List(file); return err },
		}
		for name, call := range calls {
			if kind := kindOf(call()); kind != api.BadRequest && kind != api.NotFound && kind != api.Conflict {
				t.Errorf("%s of %.40q: %q", name, p, kind)
			}
		}
	}
	if b, err := os.ReadFile(filepath.Join(outer, "secret")); err != nil || string(b) != "s" {
		t.Errorf("the file outside: %q, %v", b, err)
	}
	entries, _ := os.ReadDir(outer)
	if len(entries) != 2 {
		t.Errorf("outside there are %v", entries)
	}
	// A link itself can be deleted, and what it leads to stays.
	if err := v.Remove("out", false); err != nil {
		t.Error(err)
	}
	if err := v.Remove("inside", true); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "d")); err != nil {
		t.Error("the directory behind a link went with it")
	}
}

func TestFiles(t *testing.T) {
	v := open(t, t.TempDir())
	put := func(p, s string) {
		t.Helper()
		if _, err := v.Upload(Upload{Path: p, Total: -1}, strings.NewReader(s)); err != nil {
			t.Fatal(err)
		}
	}
	if err := v.MakeDirectory("b"); err != nil {
		t.Fatal(err)
	}
	put("a", "12345")
	put("b/c", "1")
	for _, c := range []struct {
		what string
		err  error
		want api.Kind
	}{
		{"a directory that is there", v.MakeDirectory("b"), api.Conflict},
		{"a directory in a file", v.MakeDirectory("a/x"), api.NotFound},
		{"a directory in none", v.MakeDirectory("none/x"), api.NotFound},
		{"rename over another", v.Rename("a", "b/c"), api.Conflict},
		{"rename what is missing", v.Rename("none", "x"), api.NotFound},
		{"a directory into itself", v.Rename("b", "b/c/d"), api.BadRequest},
		{"rename into none", v.Rename("a", "none/x"), api.NotFound},
		{"rename into a file", v.Rename("a", "b/c/x"), api.NotFound},
		{"a directory that is called as a part", v.MakeDirectory("x.part"), api.BadRequest},
		{"delete what is missing", v.Remove("none", false), api.NotFound},
		{"delete what is not empty", v.Remove("b", false), api.Conflict},
		{"delete the device", v.Remove("", true), api.BadRequest},
		{"upload over another", func() error { _, err := v.Upload(Upload{Path: "a", Total: -1}, strings.NewReader("")); return err }(), api.Conflict},
		{"rename", v.Rename("a", "b/a"), ""},
	} {
		if got := kindOf(c.err); got != c.want {
			t.Errorf("%s: %q (%v), want %q", c.what, got, c.err, c.want)
		}
	}
	list, err := v.List("b")
	if err != nil || len(list.Files) != 2 || list.Files[0].Path != "b/a" || list.WholeBytes != 6 || list.FreeBytes == 0 || list.Bytes < list.FreeBytes {
		t.Errorf("List() = %+v, %v", list, err)
	}
	if err := v.Remove("b", true); err != nil {
		t.Error(err)
	}
	if list, err := v.List("/"); err != nil || len(list.Files) != 0 {
		t.Errorf("List() = %+v, %v", list, err)
	}
}

// A broken is a reader that fails after some bytes.
type broken struct{ io.Reader }

func (b broken) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// reading is a reader that tells that it is read.
type reading func()

func (r reading) Read([]byte) (int, error) {
	r()
	return 0, io.EOF
}

func TestUploadGoesOn(t *testing.T) {
	v := open(t, t.TempDir())
	up := func(u Upload, s string, breaks bool) (api.File, error) {
		u.Path = "f"
		if breaks {
			return v.Upload(u, broken{strings.NewReader(s)})
		}
		return v.Upload(u, strings.NewReader(s))
	}
	if _, err := up(Upload{Total: -1}, "hello ", true); kindOf(err) != api.BadRequest || !slices.Equal(api.ErrorOf(err).Expected, []string{"6"}) {
		t.Fatalf("an upload that broke off: %v", err)
	}
	if _, err := v.Stat("f"); kindOf(err) != api.NotFound {
		t.Error("an incomplete file has its name")
	}
	if _, err := up(Upload{Offset: 3, Total: -1}, "x", false); kindOf(err) != api.Conflict || !slices.Equal(api.ErrorOf(err).Expected, []string{"6"}) {
		t.Errorf("a wrong offset: %v", err)
	}
	if f, err := up(Upload{Offset: 6, Total: 11}, "wor", false); err != nil || f.Path != "f.part" || f.Bytes != 9 || f.Writing {
		t.Errorf("a part: %+v, %v", f, err)
	}
	if _, err := up(Upload{Offset: 9, Total: 11}, "ldly", false); kindOf(err) != api.BadRequest {
		t.Errorf("more than there should be: %v", err)
	}
	if f, err := v.Stat("f.part"); err != nil || f.Bytes != 9 {
		t.Errorf("it was taken: %+v, %v", f, err)
	}
	if _, err := v.Upload(Upload{Path: "h", Total: 2}, strings.NewReader("abc")); kindOf(err) != api.BadRequest {
		t.Errorf("more than there should be: %v", err)
	}
	if _, err := v.Stat("h.part"); kindOf(err) != api.NotFound {
		t.Error("an upload of which nothing was taken left a part")
	}
	read := 0
	unread := reading(func() { read++ })
	if _, err := v.Upload(Upload{Path: "g", Total: 11, Limit: 10}, unread); kindOf(err) != api.TooLarge || read > 0 {
		t.Errorf("more than the limit is announced: %v, read %d times", err, read)
	}
	if _, err := v.Upload(Upload{Path: "g", Total: math.MaxInt64 - 1}, unread); kindOf(err) != api.StorageFull || read > 0 {
		t.Errorf("more than the device has room for is announced: %v, read %d times", err, read)
	}
	if _, err := up(Upload{Total: -1, Limit: 10}, "hello world", false); kindOf(err) != api.TooLarge {
		t.Errorf("more than the limit: %v", err)
	}
	if _, err := up(Upload{Offset: 5, Total: -1}, "x", false); kindOf(err) != api.Conflict || !slices.Equal(api.ErrorOf(err).Expected, []string{"0"}) {
		t.Errorf("going on with what is not there: %v", err)
	}
	if _, err := v.Stat("f.part"); kindOf(err) != api.NotFound {
		t.Error("an upload that was refused left a part")
	}
	for _, limit := range []uint64{math.MaxInt64, math.MaxInt64 - 1} {
		if f, err := up(Upload{Total: 9, Limit: limit}, "hello", false); err != nil || f.Bytes != 5 {
			t.Errorf("the first part, and a limit of %d bytes: %+v, %v", limit, f, err)
		}
	}
	if f, err := up(Upload{Total: -1}, "hello world", false); err != nil || f.Path != "f" || f.Bytes != 11 {
		t.Errorf("whole: %+v, %v", f, err)
	}
}

// What gets the name of an upload while that runs stays, and so does what was uploaded.
func TestUploadOverOther(t *testing.T) {
	for what, make := range map[string]func(v *Volume) error{
		"directory": func(v *Volume) error { return v.MakeDirectory("f") },
		"rename":    func(v *Volume) error { return v.Rename("other", "f") },
		"capture": func(v *Volume) error {
			f, err := v.Create("", "f", 0)
			return errors.Join(err, f.Write([]byte("other")), f.Close())
		},
	} {
		t.Run(what, func(t *testing.T) {
			v := open(t, t.TempDir())
			if _, err := v.Upload(Upload{Path: "other", Total: -1}, strings.NewReader("other")); err != nil {
				t.Fatal(err)
			}
			meanwhile := io.MultiReader(strings.NewReader("hello"), reading(func() {
				if err := make(v); err != nil {
					t.Error(err)
				}
			}))
			if _, err := v.Upload(Upload{Path: "f", Total: -1}, meanwhile); kindOf(err) != api.Conflict {
				t.Errorf("the upload ends with %v", err)
			}
			if f, err := v.Stat("f"); err != nil || f.Type == "file" && f.Bytes != 5 || f.Type != "directory" && what == "directory" {
				t.Errorf("what was made meanwhile: %+v, %v", f, err)
			}
			if err := v.Remove("f", false); err != nil {
				t.Fatal(err)
			}
			if f, err := v.Upload(Upload{Path: "f", Offset: 5, Total: 5}, strings.NewReader("")); err != nil || f.Bytes != 5 || f.Path != "f" {
				t.Errorf("the upload goes on: %+v, %v", f, err)
			}
		})
	}
}

// What somebody has put where an upload is to go, which no path of the API could make, is not written to.
func TestUploadToWhatIsNoFile(t *testing.T) {
	dir := t.TempDir()
	v := open(t, dir)
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "precious"), []byte("precious"), 0o600), os.Symlink("precious", filepath.Join(dir, "link.part")),
		os.Symlink("/etc/passwd", filepath.Join(dir, "out.part")), os.Mkdir(filepath.Join(dir, "directory.part"), 0o700),
		syscall.Mkfifo(filepath.Join(dir, "pipe.part"), 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"link", "out", "directory", "pipe"} {
		if _, err := v.Upload(Upload{Path: name, Total: -1}, strings.NewReader("x")); kindOf(err) != api.BadRequest && kindOf(err) != api.Conflict {
			t.Errorf("%s: %v", name, err)
		}
	}
	if b, err := os.ReadFile(filepath.Join(dir, "precious")); err != nil || string(b) != "precious" {
		t.Errorf("what a link leads to is %q, %v", b, err)
	}
}

// What is no file is not read, and says so.
func TestReadOfWhatIsNoFile(t *testing.T) {
	dir := t.TempDir()
	v := open(t, dir)
	socket, err := net.Listen("unix", filepath.Join(dir, "socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	if err := errors.Join(syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600), os.Mkdir(filepath.Join(dir, "directory"), 0o700)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"socket", "pipe", "directory"} {
		if _, err := v.Read(name); kindOf(err) != api.BadRequest || !strings.Contains(err.Error(), "not a file") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCreate(t *testing.T) {
	dir := t.TempDir()
	v := open(t, dir)
	var files []*File
	for _, want := range []string{"a.pcapng", "a_1.pcapng", "a_2.pcapng"} {
		f, err := v.Create("", "a.pcapng", 0)
		if err != nil || f.Path() != want {
			t.Fatalf("Create() = %v, %v, want %s", f, err, want)
		}
		files = append(files, f)
	}
	f := files[0]
	if err := f.Write([]byte("0123456789")); err != nil {
		t.Fatal(err)
	}
	if info, err := v.Stat("a.pcapng"); err != nil || info.Bytes != 10 || !info.Writing {
		t.Errorf("Stat() = %+v, %v: what is written must be seen, and no more", info, err)
	}
	for _, err := range []error{v.Remove("a.pcapng", false), v.Rename("a.pcapng", "b")} {
		if kindOf(err) != api.Conflict {
			t.Errorf("a file that is being written: %v", err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	var st syscall.Stat_t
	if err := syscall.Stat(filepath.Join(dir, "a.pcapng"), &st); err != nil || st.Size != 10 || st.Blocks*512 > 1<<20 {
		t.Errorf("%+v, %v: room that was not used is given back", st, err)
	}
	files[1].Discard()
	if _, err := v.Stat("a_1.pcapng"); kindOf(err) != api.NotFound {
		t.Error("a discarded file is there")
	}

	// The process is gone without having closed a file.
	if err := files[2].Write([]byte("0123456789")); err != nil {
		t.Fatal(err)
	}
	files[2].noteGood()
	if err := files[2].Write([]byte("abcd")); err != nil {
		t.Fatal(err)
	}
	again := open(t, dir)
	if info, err := again.Stat("a_2.pcapng"); err != nil || !info.Writing {
		t.Errorf("a file that is to be repaired: %+v, %v", info, err)
	}
	again.Repair(half)
	if b, err := os.ReadFile(filepath.Join(dir, "a_2.pcapng")); err != nil || string(b) != "0123456789ab" {
		t.Errorf("repaired: %q, %v", b, err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "a.pcapng")); err != nil || string(b) != "0123456789" {
		t.Errorf("a file that was complete: %q, %v", b, err)
	}
	if notes, err := os.ReadDir(filepath.Join(dir, unfinished)); err != nil || len(notes) != 0 {
		t.Errorf("notes: %v, %v", notes, err)
	}
	if err := again.Remove("a_2.pcapng", false); err != nil {
		t.Error(err)
	}
}

// What is for rings is not for files.
func TestRingShare(t *testing.T) {
	for _, c := range []struct {
		size, free, rings uint64
		share             int
		want              uint64
	}{{1000, 900, 0, 0, 900}, {1000, 900, 0, 40, 500}, {1000, 600, 300, 40, 500}, {1000, 500, 500, 40, 500}, {1000, 900, 0, 100, 0}} {
		if got := ForFiles(c.size, c.free, c.rings, c.share); got != c.want {
			t.Errorf("ForFiles(%d, %d, %d, %d) = %d, want %d", c.size, c.free, c.rings, c.share, got, c.want)
		}
	}
	dir := t.TempDir()
	v := open(t, dir)
	if err := errors.Join(os.MkdirAll(filepath.Join(dir, RingsPath, "r"), 0o700), os.WriteFile(filepath.Join(dir, RingsPath, "r", "s"), make([]byte, 12345), 0o600)); err != nil {
		t.Fatal(err)
	}
	if n := RingBytes(dir); n != 12345 {
		t.Errorf("rings take %d bytes, want 12345", n)
	}
	f, err := v.Create("", "a", 0)
	if err != nil {
		t.Fatal(err)
	}
	v.SetRingShare(100)
	if _, err := v.Create("", "b", 0); kindOf(err) != api.StorageFull {
		t.Errorf("a file on a device for rings: %v", err)
	}
	if _, files, err := v.Space(); err != nil || files != 0 {
		t.Errorf("%d bytes are free for files, %v", files, err)
	}
	if size, rings, err := v.RingSpace(); err != nil || rings == 0 || rings > size {
		t.Errorf("%d of %d bytes are free for rings, %v", rings, size, err)
	}
	if err := f.Write(make([]byte, 2*aheadBytes)); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("a file that grows: %v", err)
	}
	if err := errors.Join(f.Complete([]byte("end")), f.Close()); err != nil {
		t.Error(err)
	}
}

func TestRing(t *testing.T) {
	dir := t.TempDir()
	v := open(t, dir)
	if p, err := v.Ring("office"); err != nil || p != filepath.Join(dir, ".galvo/rings/office") {
		t.Errorf("Ring() = %q, %v", p, err)
	}
	for _, name := range []string{"", "..", "a/b", "a\x00", strings.Repeat("x", 256)} {
		if p, err := v.Ring(name); kindOf(err) != api.BadRequest {
			t.Errorf("Ring(%q) = %q, %v", name, p, err)
		}
	}
}

func FuzzClean(f *testing.F) {
	for _, s := range []string{"", "/", "a/b", "../a", "a/./b", ".galvo/x", "a\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := Clean(s)
		if err != nil {
			return
		}
		if again, err := Clean(p); err != nil || again != p {
			t.Errorf("Clean(%q) = %q, and of that %q, %v", s, p, again, err)
		}
		if p != "" && !filepath.IsLocal(p) || bytes.ContainsRune([]byte(p), 0) || strings.HasPrefix(p+"/", own+"/") {
			t.Errorf("Clean(%q) = %q", s, p)
		}
	})
}

// Every name that a file may have can be uploaded, also in parts, and no file that is there is taken for a part.
func TestUploadLongNames(t *testing.T) {
	v := open(t, t.TempDir())
	up := func(name string, u Upload, s string) error {
		u.Path = name
		_, err := v.Upload(u, strings.NewReader(s))
		return err
	}
	for _, name := range []string{strings.Repeat("a", 250), strings.Repeat("a", 251), strings.Repeat("a", 254) + "b", strings.Repeat("a", 254) + "c", strings.Repeat("\u20ac", 85)} {
		if err := up(name, Upload{Total: 10}, "hello"); err != nil {
			t.Fatalf("the first part of a name of %d bytes: %v", len(name), err)
		}
		if err := up(name, Upload{Offset: 1, Total: 10}, "world"); kindOf(err) != api.Conflict || !slices.Equal(api.ErrorOf(err).Expected, []string{"5"}) {
			t.Errorf("another offset: %v", err)
		}
	}
	list, err := v.List("")
	if err != nil || len(list.Files) != 5 {
		t.Fatalf("%d parts, %v", len(list.Files), err)
	}
	for _, f := range list.Files {
		if !IsPart(f.Name) || checkName(f.Name) != nil {
			t.Errorf("a part is called %q", f.Name)
		}
	}
	for _, name := range []string{strings.Repeat("a", 254) + "c", strings.Repeat("\u20ac", 85)} {
		if err := up(name, Upload{Offset: 5, Total: 10}, "world"); err != nil {
			t.Errorf("the second part: %v", err)
		}
		if f, err := v.Stat(name); err != nil || f.Bytes != 10 {
			t.Errorf("%+v, %v", f, err)
		}
	}
	if err := up(strings.Repeat("a", 256), Upload{Total: -1}, "x"); kindOf(err) != api.BadRequest || !strings.Contains(err.Error(), "256 bytes") {
		t.Errorf("256 bytes: %v", err)
	}
	if err := up("whole", Upload{Total: -1}, "x"); err != nil {
		t.Fatal(err)
	}
	_, created := v.Create("", "whole.part", 0)
	for what, err := range map[string]error{"upload": up("f.part", Upload{Total: -1}, "x"), "rename": v.Rename("whole", "f.part"), "capture": created} {
		if kindOf(err) != api.BadRequest || !strings.Contains(err.Error(), ".part") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// What others have put on a device can be listed, read, renamed and deleted one by one, whatever its name is; no new file gets such a name.
func TestForeignNames(t *testing.T) {
	dir := t.TempDir()
	v := open(t, dir)
	escaped := map[string]string{"\xff\xfe": "%FF%FE", "\xe4 ?#.pcap": "%E4%20%3F%23.pcap", "a\nb": "", "a\x1bb": "", `a\b`: ""}
	for name := range escaped {
		in := filepath.Join(dir, "d"+name)
		if err := errors.Join(os.Mkdir(in, 0o700), os.WriteFile(filepath.Join(in, name), []byte(name), 0o600), os.WriteFile(filepath.Join(dir, name), []byte(name), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	list, err := v.List("")
	if err != nil || len(list.Files) != 2*len(escaped) {
		t.Fatalf("list: %+v, %v", list, err)
	}
	for name, want := range escaped {
		for _, p := range []string{name, "d" + name + "/" + name} {
			f, err := v.Read(p)
			if err != nil {
				t.Errorf("read %q: %v", p, err)
				continue
			}
			b, err := io.ReadAll(f)
			if f.Close(); err != nil || string(b) != name {
				t.Errorf("read %q: %q, %v", p, b, err)
			}
			if _, err := v.Upload(Upload{Path: p + "x", Total: -1}, strings.NewReader("x")); kindOf(err) != api.BadRequest {
				t.Errorf("upload %q: %v", p, err)
			}
			if err := v.Rename(p, p+"x"); kindOf(err) != api.BadRequest {
				t.Errorf("rename %q to a name of its kind: %v", p, err)
			}
		}
		if info, err := v.Stat(name); err != nil || info.Escaped != want {
			t.Errorf("%q is escaped %q, want %q, %v", name, info.Escaped, want, err)
		}
		if list, err := v.List("d" + name); err != nil || len(list.Files) != 1 {
			t.Errorf("list %q: %+v, %v", "d"+name, list, err)
		}
		if err := v.Rename(name, "plain"); err != nil {
			t.Errorf("rename %q: %v", name, err)
		}
		if err := errors.Join(v.Remove("plain", false), v.Remove("d"+name+"/"+name, false), v.Remove("d"+name, false)); err != nil {
			t.Errorf("remove %q: %v", name, err)
		}
	}
	if kind := kindOf(v.Remove("a\x00", false)); kind != api.BadRequest {
		t.Errorf("a zero byte: %q", kind)
	}
}
