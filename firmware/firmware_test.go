package firmware

import (
	"bytes"
	"context"
	"crypto/sha256"
	"debug/pe"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"aead.dev/minisign"
	"github.com/klauspost/compress/zstd"
	"github.com/u-root/u-root/pkg/cpio"

	"galvo/board"
	"galvo/ci/need"
	"galvo/firmware/bundle"
	"galvo/firmware/debian"
	"galvo/firmware/disk"
	"galvo/firmware/gpt"
	"galvo/firmware/lock"
	"galvo/firmware/slot"
	"galvo/firmware/uki"
)

// build builds the image of a board, with this test's program in place of ours, which is large.
func build(t *testing.T, name, version string) *Result {
	t.Helper()
	l, err := lock.Current()
	if err != nil {
		t.Fatal(err)
	}
	source, err := debian.FromEnvironment(l.Snapshot)
	if err != nil {
		t.Fatal(err)
	}
	b, err := board.Load(name)
	if err != nil {
		t.Fatal(err)
	}
	p, err := l.Find(b.Kernel, b.Architecture)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := source.Fetch(t.Context(), p); err != nil {
		need.Missing(t, "archive", err.Error())
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	galvo, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	public, private, err := minisign.GenerateKey(bytes.NewReader(make([]byte, 64)))
	if err != nil {
		t.Fatal(err)
	}
	text, err := public.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	r, err := Build(t.Context(), Options{Board: b, Version: version, Minimum: "1.0", Galvo: galvo, Keys: []Key{{"test.pub", text}}, UpdateKey: &private, Source: source, Lock: l,
		NPM: []NPMPackage{{Name: "@of/page", Version: "1.0.0", Licence: "MIT", Text: []byte("free of charge")}}})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// hashes returns the digests of the files in a folder.
func hashes(t *testing.T, dir string) map[string]string {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, f := range files {
		content, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		out[f.Name()] = fmt.Sprintf("%x", sha256.Sum256(content))
	}
	return out
}

// An image built twice is the same, and others have no complaint about its file systems.
func TestImage(t *testing.T) {
	dirs := []string{t.TempDir(), t.TempDir()}
	var r *Result
	for _, dir := range dirs {
		r = build(t, "qemu-amd64", "1.2.3")
		if _, err := r.Write(dir); err != nil {
			t.Fatal(err)
		}
	}
	first, second := hashes(t, dirs[0]), hashes(t, dirs[1])
	want := []string{KernelFile, InitramfsFile, UKIFile, DiskFile, BundleFile, ManifestFile, LicenceFile}
	for _, name := range want {
		if first[name] == "" || first[name] != second[name] {
			t.Errorf("%s: %q, and the second time %q", name, first[name], second[name])
		}
	}
	if len(first) != len(want) {
		t.Errorf("files: %v, want %v", first, want)
	}
	image := filepath.Join(dirs[0], DiskFile)
	t.Run("disk", func(t *testing.T) { checkDisk(t, image, r) })
	t.Run("unified kernel image", func(t *testing.T) { checkUKI(t, r) })
	t.Run("initramfs", func(t *testing.T) { checkInitramfs(t, r) })
	t.Run("licences", func(t *testing.T) { checkLicences(t, filepath.Join(dirs[0], LicenceFile)) })
	t.Run("update", func(t *testing.T) { checkUpdate(t, r) })
	t.Run("first boot", func(t *testing.T) { checkFirstBoot(t, image) })
}

func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(need.Tool(t, name), args...).CombinedOutput()
	if err != nil {
		t.Errorf("%s: %v\n%s", name, err, out)
	}
	return string(out)
}

// checkDisk asks sgdisk, fsck.fat and mtools.
func checkDisk(t *testing.T, image string, r *Result) {
	if out := tool(t, "sgdisk", "-v", image); !strings.Contains(out, "No problems found") {
		t.Errorf("sgdisk: %s", out)
	}
	system := extract(t, image)
	if out := tool(t, "fsck.fat", "-n", system); strings.Count(out, "\n") != 2 {
		t.Errorf("fsck.fat: %s", out)
	}
	if out := tool(t, "mtype", "-i", system, "::EFI/Linux/galvo-0001-1.2.3.efi"); out != string(r.UKI) {
		t.Errorf("mtools reads another image of %d bytes", len(out))
	}
	if out := tool(t, "mdir", "-/", "-b", "-i", system, "::"); !strings.Contains(out, "::/EFI/BOOT/BOOTX64.EFI") || !strings.Contains(out, "::/loader/loader.conf") {
		t.Errorf("files: %s", out)
	}
}

// extract copies the system partition of an image to a file.
func extract(t *testing.T, image string) string {
	t.Helper()
	f, err := os.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	table, _, err := gpt.Read(f, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	p := table.Partitions[0]
	content, err := io.ReadAll(io.NewSectionReader(f, p.Offset(), p.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "system")
	if err := os.WriteFile(out, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return out
}

func checkUKI(t *testing.T, r *Result) {
	f, err := pe.NewFile(bytes.NewReader(r.UKI))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]byte{".linux": r.Kernel, ".initrd": r.Initramfs, ".cmdline": append([]byte(r.CmdLine), 0)} {
		if got, err := uki.Section(bytes.NewReader(r.UKI), name, 1<<30); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s has %d other bytes, %v", name, len(got), err)
		}
	}
	// Sections lie one after the other, in the file and in memory.
	for i, s := range f.Sections[1:] {
		before := f.Sections[i]
		if s.Offset < before.Offset+before.Size || s.VirtualAddress < before.VirtualAddress+before.VirtualSize {
			t.Errorf("section %s overlaps %s", s.Name, before.Name)
		}
	}
	if !strings.Contains(r.CmdLine, "panic=10") || !strings.Contains(r.CmdLine, "oops=panic") {
		t.Errorf("a panic would not start the machine again: %s", r.CmdLine)
	}
}

func checkInitramfs(t *testing.T, r *Result) {
	z, err := zstd.NewReader(bytes.NewReader(r.Initramfs))
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	plain, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	records, err := cpio.ReadAllRecords(cpio.Newc.Reader(bytes.NewReader(plain)))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]cpio.Record{}
	for _, rec := range records {
		if files[rec.Name].Name != "" {
			t.Errorf("%s is there twice", rec.Name)
		}
		if dir := filepath.Dir(rec.Name); dir != "." && files[dir].Name == "" {
			t.Errorf("%s comes before its folder", rec.Name)
		}
		files[rec.Name] = rec
	}
	modules := "lib/modules/" + r.Release
	for _, name := range []string{"init", "bin/galvo", "bin/modprobe", "sbin/mke2fs", "sbin/mkfs.ext4", "sbin/e2fsck", "etc/mke2fs.conf", "lib64/ld-linux-x86-64.so.2", "dev/console",
		"etc/galvo/board.toml", "etc/galvo/keys/test.pub", "etc/os-release", modules + "/modules.dep", modules + "/modules.alias", modules + "/kernel/fs/ext4/ext4.ko",
		modules + "/kernel/crypto/crc32c_generic.ko"} {
		if files[name].Name == "" {
			t.Errorf("there is no %s", name)
		}
	}
	dep := content(t, files[modules+"/modules.dep"])
	if !strings.Contains(dep, "kernel/fs/ext4/ext4.ko: kernel/fs/jbd2/jbd2.ko kernel/fs/mbcache.ko kernel/lib/crc16.ko\n") && !strings.Contains(dep, "kernel/fs/ext4/ext4.ko: ") {
		t.Errorf("modules.dep:\n%s", dep)
	}
	for line := range strings.Lines(dep) {
		for _, file := range strings.Fields(strings.ReplaceAll(line, ":", " ")) {
			if files[modules+"/"+file].Name == "" {
				t.Errorf("modules.dep names %s, which is not there", file)
			}
		}
	}
	if alias := content(t, files[modules+"/modules.alias"]); !strings.Contains(alias, "alias virtio:d00000001v* virtio_net\n") {
		t.Error("modules.alias does not know virtio_net")
	}
	// What init and host read is the board that was built.
	path := filepath.Join(t.TempDir(), "board.toml")
	if err := os.WriteFile(path, []byte(content(t, files["etc/galvo/board.toml"])), 0o600); err != nil {
		t.Fatal(err)
	}
	if b, err := board.Read(path); err != nil || b.Name != "qemu-amd64" {
		t.Errorf("board: %+v, %v", b, err)
	}
}

func content(t *testing.T, r cpio.Record) string {
	t.Helper()
	b, err := io.ReadAll(io.NewSectionReader(r.ReaderAt, 0, int64(r.FileSize)))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func checkLicences(t *testing.T, path string) {
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var list struct {
		SPDXVersion string `json:"spdxVersion"`
		Packages    []struct {
			Name    string `json:"name"`
			License string `json:"licenseDeclared"`
		} `json:"packages"`
	}
	if err := json.Unmarshal(text, &list); err != nil || list.SPDXVersion != "SPDX-2.3" {
		t.Fatalf("%q, %v", list.SPDXVersion, err)
	}
	want := map[string]string{"galvo": "Apache-2.0", "e2fsprogs": "GPL-2.0-only", "libc6": "LGPL-2.1-or-later", "systemd-boot-efi": "LGPL-2.1-or-later", "@of/page": "MIT"}
	for _, p := range list.Packages {
		if l, ok := want[p.Name]; ok && l == p.License {
			delete(want, p.Name)
		}
	}
	if len(want) > 0 || !slices.ContainsFunc(list.Packages, func(p struct {
		Name    string `json:"name"`
		License string `json:"licenseDeclared"`
	}) bool {
		return strings.HasPrefix(p.Name, "linux-image-")
	}) {
		t.Errorf("not there: %v, or the kernel", want)
	}
}

func checkUpdate(t *testing.T, r *Result) {
	public, _, err := minisign.GenerateKey(bytes.NewReader(make([]byte, 64)))
	if err != nil {
		t.Fatal(err)
	}
	b, err := bundle.Open(bytes.NewReader(r.Bundle), int64(len(r.Bundle)), []minisign.PublicKey{public})
	if err != nil {
		t.Fatal(err)
	}
	if m := b.Manifest; m.Version != "1.2.3" || m.Minimum != "1.0" || m.Board != "qemu-amd64" || m.Build != r.Build {
		t.Errorf("manifest %+v", m)
	}
}

// On a larger disk the first boot makes what the image has no room for, whenever it is cut off, and an update fits then.
func checkFirstBoot(t *testing.T, image string) {
	f, err := os.OpenFile(image, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const size = 1 << 30
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	table, changed, err := disk.Adopt(f, size, 512_000_000)
	if err != nil || !changed || len(table.Partitions) != 2 {
		t.Fatalf("%+v, %v, %v", table, changed, err)
	}
	again, changed, err := disk.Adopt(f, size, 512_000_000)
	if err != nil || changed || fmt.Sprint(again) != fmt.Sprint(table) {
		t.Errorf("the second boot: %+v, %v, %v", again, changed, err)
	}
	if p := table.Partitions; p[0].Bytes() < 512_000_000 || p[1].Name != disk.DataName || p[1].Bytes() < 400_000_000 {
		t.Errorf("partitions: %+v", p)
	}
	if out := tool(t, "sgdisk", "-v", image); !strings.Contains(out, "No problems found") {
		t.Errorf("sgdisk: %s", out)
	}
	if out := tool(t, "fsck.fat", "-n", extract(t, image)); strings.Count(out, "\n") != 2 {
		t.Errorf("fsck.fat: %s", out)
	}
	p, err := slot.Open(disk.Section(f, table.Partitions[0]))
	if err != nil {
		t.Fatal(err)
	}
	next := build(t, "qemu-amd64", "1.3.0")
	public, _, err := minisign.GenerateKey(bytes.NewReader(make([]byte, 64)))
	if err != nil {
		t.Fatal(err)
	}
	b, err := bundle.Open(bytes.NewReader(next.Bundle), int64(len(next.Bundle)), []minisign.PublicKey{public})
	if err != nil {
		t.Fatal(err)
	}
	slots, err := p.Slots()
	if err != nil || len(slots) != 1 {
		t.Fatalf("%+v, %v", slots, err)
	}
	if s, err := p.Install(slots[0].Release, b); err != nil || s.File != "galvo-0002-1.3.0+3-0.efi" {
		t.Errorf("install: %+v, %v", s, err)
	}
	if out := tool(t, "fsck.fat", "-n", extract(t, image)); strings.Count(out, "\n") != 2 {
		t.Errorf("fsck.fat after the update: %s", out)
	}
}

func TestBuildRefuses(t *testing.T) {
	b, err := board.Load("qemu-amd64")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ version, minimum, want string }{
		{"latest", "", "not a version"}, {"1.0+3-0", "", "not a version"}, {"1.0", "1.1", "below its own minimum"},
	} {
		if _, err := Build(context.Background(), Options{Board: b, Version: c.version, Minimum: c.minimum}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.version, err, c.want)
		}
	}
}
