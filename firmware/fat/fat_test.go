package fat

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"galvo/ci/need"
)

const testBytes = 70 << 20

func options() Options {
	return Options{Bytes: testBytes, GrowBytes: 300 << 20, ClusterBytes: 1024, Label: "GALVO", ID: 0x12345678}
}

// file returns a file system in a file, with some content.
func file(t *testing.T) (*os.File, *Volume) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "fat"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := f.Truncate(testBytes); err != nil {
		t.Fatal(err)
	}
	if err := Format(f, options()); err != nil {
		t.Fatal(err)
	}
	v, err := Open(f)
	if err != nil {
		t.Fatal(err)
	}
	return f, v
}

func fsck(t *testing.T, path string) {
	t.Helper()
	out, err := exec.Command(need.Tool(t, "fsck.fat"), "-n", "-v", path).CombinedOutput()
	if err != nil {
		t.Errorf("fsck.fat: %v\n%s", err, out)
	}
	for _, complaint := range []string{"wrong", "differ", "not", "Invalid", "uninitialized", "Orphaned", "reclaim"} {
		if strings.Contains(string(out), complaint) && !strings.Contains(string(out), "not set") {
			t.Errorf("fsck.fat complains:\n%s", out)
		}
	}
}

func write(t *testing.T, v *Volume, name string, content []byte) {
	t.Helper()
	if err := v.WriteFile(name, int64(len(content)), bytes.NewReader(content)); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, v *Volume, name string) []byte {
	t.Helper()
	r, err := v.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, r.Size())
	if _, err := r.ReadAt(b, 0); err != nil && len(b) > 0 {
		t.Fatal(err)
	}
	return b
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(n), byte(n >> 8)}).Read(b)
	return b
}

// What others read is what was written, after every sort of change.
func TestOthersReadIt(t *testing.T) {
	mtype := need.Tool(t, "mtype")
	f, v := file(t)
	fsck(t, f.Name())
	if err := v.MakeFolder("EFI/Linux"); err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{"EFI/Linux/galvo-0001-1.2.3+3-0.efi": random(3 << 20), "EFI/BOOT.EFI": random(100), "empty": nil, "EFI/Linux/one cluster.efi": random(1024)}
	for name, content := range files {
		write(t, v, name, content)
	}
	// Enough names to make a folder longer than a cluster.
	for i := range 60 {
		name := fmt.Sprintf("EFI/Linux/a file with a rather long name %d.txt", i)
		files[name] = []byte(name)
		write(t, v, name, files[name])
	}
	write(t, v, "EFI/BOOT.EFI", random(70000))
	files["EFI/BOOT.EFI"] = random(70000)
	for i := range 30 {
		name := fmt.Sprintf("EFI/Linux/a file with a rather long name %d.txt", 2*i)
		if err := v.Remove(name); err != nil {
			t.Fatal(err)
		}
		delete(files, name)
	}
	for old, to := range map[string]string{"galvo-0001-1.2.3+3-0.efi": "galvo-0001-1.2.3.efi", "one cluster.efi": "a longer name of one cluster that has no room.efi"} {
		if err := v.Rename("EFI/Linux/"+old, to); err != nil {
			t.Fatal(err)
		}
		files["EFI/Linux/"+to] = files["EFI/Linux/"+old]
		delete(files, "EFI/Linux/"+old)
	}
	fsck(t, f.Name())
	for name, content := range files {
		out, err := exec.Command(mtype, "-i", f.Name(), "::"+name).Output()
		if err != nil || !bytes.Equal(out, content) {
			t.Errorf("%s: mtools read %d bytes, %v; %d were written", name, len(out), err, len(content))
		}
		if got := read(t, v, name); !bytes.Equal(got, content) {
			t.Errorf("%s: read %d other bytes", name, len(got))
		}
	}
}

// What others write can be read, and changed further.
func TestReadsOthers(t *testing.T) {
	mcopy, mren := need.Tool(t, "mcopy"), need.Tool(t, "mren")
	f, v := file(t)
	if err := v.MakeFolder("EFI/Linux"); err != nil {
		t.Fatal(err)
	}
	content := random(50000)
	src := filepath.Join(t.TempDir(), "src")
	if err := os.WriteFile(src, content, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{mcopy, "-i", f.Name(), src, "::EFI/Linux/galvo-0002-1.0+3-0.efi"}, {mren, "-i", f.Name(), "::EFI/Linux/galvo-0002-1.0+3-0.efi", "galvo-0002-1.0+2-1.efi"}} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v %s", args[0], err, out)
		}
	}
	v, err := Open(f)
	if err != nil {
		t.Fatal(err)
	}
	if got := read(t, v, "EFI/Linux/galvo-0002-1.0+2-1.efi"); !bytes.Equal(got, content) {
		t.Fatalf("read %d other bytes", len(got))
	}
	if err := v.Rename("EFI/Linux/galvo-0002-1.0+2-1.efi", "galvo-0002-1.0.efi"); err != nil {
		t.Fatal(err)
	}
	write(t, v, "EFI/Linux/galvo-0003-1.1+3-0.efi", random(5000))
	fsck(t, f.Name())
}

func TestGrow(t *testing.T) {
	f, v := file(t)
	write(t, v, "kept", random(1000))
	if err := f.Truncate(200 << 20); err != nil {
		t.Fatal(err)
	}
	if err := Grow(f, 200<<20); err != nil {
		t.Fatal(err)
	}
	v, err := Open(f)
	if err != nil {
		t.Fatal(err)
	}
	write(t, v, "large", random(100<<20))
	fsck(t, f.Name())
	if !bytes.Equal(read(t, v, "kept"), random(1000)) || !bytes.Equal(read(t, v, "large"), random(100<<20)) {
		t.Error("content changed")
	}
	if free, err := v.Free(); err != nil || free < 90<<20 || free > 100<<20 {
		t.Errorf("free: %d, %v", free, err)
	}
}

func TestNoRoom(t *testing.T) {
	_, v := file(t)
	write(t, v, "a", random(40<<20))
	err := v.WriteFile("b", 40<<20, bytes.NewReader(random(40<<20)))
	if err == nil || !strings.Contains(err.Error(), "no room") {
		t.Errorf("a file that does not fit: %v", err)
	}
	// Its replacement needs room beside it.
	if err := v.WriteFile("a", 10<<20, bytes.NewReader(random(10<<20))); err != nil {
		t.Error(err)
	}
	if !bytes.Equal(read(t, v, "a"), random(10<<20)) {
		t.Error("the replaced file has other content")
	}
}

func FuzzOpen(f *testing.F) {
	d := &memory{b: make([]byte, testBytes), left: -1}
	if err := Format(d, options()); err != nil {
		f.Fatal(err)
	}
	v, err := Open(d)
	if err != nil {
		f.Fatal(err)
	}
	if err := v.MakeFolder("EFI"); err != nil {
		f.Fatal(err)
	}
	if err := v.WriteFile("EFI/a long name.efi", 3000, bytes.NewReader(make([]byte, 3000))); err != nil {
		f.Fatal(err)
	}
	start := v.g.offset(2)
	f.Add(d.b[:sectorSize], d.b[v.g.reserved*sectorSize:][:sectorSize], d.b[start:start+4096])
	f.Fuzz(func(t *testing.T, boot, table, data []byte) {
		broken := &memory{b: d.b, over: map[int64][]byte{0: boot, int64(v.g.reserved) * sectorSize: table, start: data}}
		w, err := Open(broken)
		if err != nil {
			return
		}
		w.List("EFI")
		w.Open("EFI/a long name.efi")
		w.Free()
	})
}
