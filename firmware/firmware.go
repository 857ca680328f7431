// Package firmware builds what is flashed: for a board and a version it makes a kernel, an initramfs, a unified kernel image and a disk image, with lists of
// their sizes and licences. It needs no root, mounts nothing, and gives the same bytes for the same inputs.
//
// What comes from Debian is pinned by package lock. FORMAT.md says how disk, system partition and update bundle are laid out.
package firmware

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"maps"
	"path"
	"slices"
	"strings"

	"aead.dev/minisign"
	"github.com/klauspost/compress/zstd"

	"galvo/board"
	"galvo/firmware/bundle"
	"galvo/firmware/debian"
	"galvo/firmware/kernel"
	"galvo/firmware/lock"
	"galvo/firmware/program"
	"galvo/firmware/uki"
	"galvo/firmware/version"
	"galvo/initramfs/image"
)

// Options are the inputs of a build.
type Options struct {
	Board     *board.Board
	Version   string       // of the firmware, as 1.2.3 or 0.0.345-gabc1234
	Minimum   string       // once this was confirmed, a device takes no version below; empty is 0.0
	Galvo     []byte       // the binary for the board's architecture
	NPM       []NPMPackage // that the binary's page is made of
	Keys      []Key        // with which updates may be signed
	Arguments string       // more kernel arguments, for tests
	Source    *debian.Source
	Lock      *lock.Lock
	Sign      func(efi []byte) ([]byte, error) // for Secure Boot; nil leaves programs unsigned
	UpdateKey *minisign.PrivateKey             // signs the update bundle; nil makes none
}

// A Key is a public key of minisign, as a file of its own.
type Key struct {
	Name string
	Text []byte
}

// A Result is what a build made.
type Result struct {
	Board     *board.Board
	Version   string
	Build     string // identifies the content: equal inputs have equal builds
	Kernel    []byte // for a direct boot
	Initramfs []byte
	CmdLine   string
	UKI       []byte
	Bundle    []byte // the update; nil without a key
	Loader    []byte // systemd-boot
	Release   string // the kernel's
	Modules   *kernel.Set
	Packages  []lock.Package
	GoModules []goModule // of our binary
	NPM       []NPMPackage
	Firmware  []string // files below /lib/firmware
	PlainSize int64    // of the initramfs, before compression
}

// Paths in the image.
const (
	ReleaseFile = "etc/os-release"
	KeyFolder   = "etc/galvo/keys"
)

// efi says how an architecture's files are called.
var efi = map[string]struct{ stub, loader, removable string }{
	"amd64": {"linuxx64.efi.stub", "systemd-bootx64.efi", "BOOTX64.EFI"},
	"arm64": {"linuxaa64.efi.stub", "systemd-bootaa64.efi", "BOOTAA64.EFI"},
}

// A builder collects the parts of one image.
type builder struct {
	Options
	ctx      context.Context
	files    []image.File
	packages []lock.Package
	result   *Result
}

// Build builds the parts of an image.
func Build(ctx context.Context, o Options) (*Result, error) {
	o.Minimum = cmp.Or(o.Minimum, "0.0")
	if err := errors.Join(version.Check(o.Version), version.Check(o.Minimum)); err != nil {
		return nil, err
	}
	if version.Compare(o.Version, o.Minimum) < 0 {
		return nil, fmt.Errorf("version %s is below its own minimum %s", o.Version, o.Minimum)
	}
	b := &builder{Options: o, ctx: ctx, result: &Result{Board: o.Board, Version: o.Version}}
	for _, step := range []func() error{b.addBoard, b.addKernel, b.addPrograms, b.addCountries, b.addFirmware, b.assemble} {
		if err := step(); err != nil {
			return nil, fmt.Errorf("build an image for %s: %w", o.Board.Name, err)
		}
	}
	return b.result, nil
}

func (b *builder) add(path string, mode uint64, content []byte) {
	b.files = append(b.files, image.File{Path: path, Mode: mode, Content: content})
}

func (b *builder) link(path, target string) {
	b.files = append(b.files, image.File{Path: path, Link: target})
}

// addBoard adds our own parts: the binary under its names, the board's file, the keys.
func (b *builder) addBoard() error {
	text, err := board.Text(b.Board.Name)
	if err != nil {
		return err
	}
	info, err := buildinfo.Read(bytes.NewReader(b.Galvo))
	if err != nil {
		return fmt.Errorf("read what our binary is made of: %w", err)
	}
	b.result.GoModules = goModules(info)
	for _, m := range b.result.GoModules {
		if m.text != nil {
			b.add("usr/share/doc/go/"+m.path+"/LICENSE", 0o644, m.text)
		}
	}
	b.result.NPM = b.NPM
	for _, p := range b.NPM {
		if p.Text != nil {
			b.add("usr/share/doc/npm/"+p.Name+"-"+p.Version+"/LICENSE", 0o644, p.Text)
		}
	}
	b.add("bin/galvo", 0o755, b.Galvo)
	b.link("init", "bin/galvo")
	b.link("bin/modprobe", "galvo")
	b.add(strings.TrimPrefix(board.Path, "/"), 0o644, board.Named(b.Board.Name, text))
	b.add("etc/passwd", 0o644, []byte("root:x:0:0:root:/root:/bin/galvo\n"))
	b.add("etc/group", 0o644, []byte("root:x:0:\n"))
	b.add("etc/mtab", 0o644, nil)
	for _, k := range b.Keys {
		b.add(path.Join(KeyFolder, k.Name), 0o644, k.Text)
	}
	return nil
}

// fetch returns the file of a locked package, which is listed among the image's.
func (b *builder) fetch(want string) (string, lock.Package, error) {
	p, err := b.Lock.Find(want, b.Board.Architecture)
	if err != nil {
		return "", p, err
	}
	deb, err := b.Source.Fetch(b.ctx, p)
	if err == nil && !slices.Contains(b.packages, p) {
		b.packages = append(b.packages, p)
	}
	return deb, p, err
}

func (b *builder) addKernel() error {
	deb, p, err := b.fetch(b.Board.Kernel)
	if err != nil {
		return err
	}
	root, err := b.Source.Unpack(deb, p, "kernel", kernel.Wanted)
	if err != nil {
		return err
	}
	tree, err := kernel.Open(root)
	if err != nil {
		return err
	}
	if b.result.Kernel, err = tree.Kernel(); err != nil {
		return err
	}
	set, err := tree.Close(b.Board.AllModules())
	if err != nil {
		return err
	}
	builtin, err := tree.Builtin()
	if err != nil {
		return err
	}
	licence, err := tree.Copyright()
	if err != nil {
		return err
	}
	dir := "lib/modules/" + tree.Release
	for _, m := range set.Modules {
		b.add(path.Join(dir, m.File), 0o644, m.Content)
	}
	b.add(dir+"/modules.dep", 0o644, set.Dep())
	b.add(dir+"/modules.alias", 0o644, set.Alias())
	b.add(dir+"/modules.softdep", 0o644, set.Softdep())
	b.add(dir+"/modules.builtin", 0o644, builtin)
	b.add("usr/share/doc/linux/copyright", 0o644, licence)
	b.result.Modules, b.result.Release = set, tree.Release
	return nil
}

// programs are what init calls. mkfs.ext4 and fsck.ext4 are other names of theirs.
var programs = []string{"sbin/mke2fs", "sbin/e2fsck", "sbin/resize2fs", "sbin/cryptsetup"}

// programPackages have these programs, and the libraries that they need.
var programPackages = []string{
	"e2fsprogs", "libext2fs2", "libcom-err2", "libblkid1", "libuuid1", "libc6",
	"cryptsetup-bin", "libcryptsetup12", "libdevmapper1.02.1", "libargon2-1", "libjson-c5", "libpopt0", "libssl3", "libselinux1", "libpcre2-8-0", "libudev1",
	"libgcc-s1",
}

// loaded is a library that no program names, because libc loads it when a thread ends.
const loaded = "libgcc_s.so.1"

func (b *builder) addPrograms() error {
	files := map[string][]byte{}
	for _, want := range programPackages {
		deb, _, err := b.fetch(want)
		if err != nil {
			return err
		}
		some, err := debian.ReadFiles(deb, program.Wanted)
		if err != nil {
			return err
		}
		for name, content := range some {
			files[name] = content
			if strings.HasPrefix(name, "usr/share/doc/") {
				b.add(name, 0o644, content)
			}
		}
	}
	wanted := slices.Clone(programs)
	for name := range files {
		if path.Base(name) == loaded {
			wanted = append(wanted, name)
		}
	}
	parts, err := program.Close(files, wanted)
	if err != nil {
		return err
	}
	for _, p := range parts {
		b.add(p.Path, 0o755, p.Content)
	}
	conf, ok := files["etc/mke2fs.conf"]
	if !ok {
		return errors.New("no package has etc/mke2fs.conf")
	}
	b.add("etc/mke2fs.conf", 0o644, conf)
	b.link("sbin/mkfs.ext4", "mke2fs")
	b.link("sbin/fsck.ext4", "e2fsck")
	return nil
}

// addCountries adds the table of the countries of addresses where the engine looks for it.
func (b *builder) addCountries() error {
	deb, _, err := b.fetch("tor-geoipdb")
	if err != nil {
		return err
	}
	files, err := debian.ReadFiles(deb, func(file string) bool {
		return strings.HasPrefix(file, "usr/share/tor/geoip") || strings.HasSuffix(file, "/copyright")
	})
	if err != nil {
		return err
	}
	z, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBetterCompression), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return err
	}
	defer z.Close()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if strings.HasSuffix(name, "/copyright") {
			b.add(name, 0o644, files[name])
			continue
		}
		// The image is unpacked into memory, where these 25 MB of text would stay.
		b.add(name+".zst", 0o644, z.EncodeAll(files[name], nil))
	}
	return nil
}

// addFirmware adds the files that the board names, of the packages with what runs in NICs. A pattern that finds nothing is an error.
func (b *builder) addFirmware() error {
	if len(b.Board.Firmware) == 0 {
		return nil
	}
	found := map[string]bool{}
	for _, p := range b.Lock.Packages {
		if p.Architecture != b.Board.Architecture || !strings.HasPrefix(p.Want, "firmware-") {
			continue
		}
		deb, _, err := b.fetch(p.Want)
		if err != nil {
			return err
		}
		files, err := debian.ReadFiles(deb, func(file string) bool {
			return strings.HasPrefix(strings.TrimPrefix(file, "usr/"), "lib/firmware/") || strings.HasSuffix(file, "/copyright")
		})
		if err != nil {
			return err
		}
		for _, file := range slices.Sorted(maps.Keys(files)) {
			name, ok := strings.CutPrefix(strings.TrimPrefix(file, "usr/"), "lib/firmware/")
			if !ok {
				b.add(file, 0o644, files[file])
				continue
			}
			for _, pattern := range b.Board.Firmware {
				if match, _ := path.Match(pattern, name); match {
					found[pattern] = true
					b.add("lib/firmware/"+name, 0o644, files[file])
					b.result.Firmware = append(b.result.Firmware, name)
					break
				}
			}
		}
	}
	for _, pattern := range b.Board.Firmware {
		if !found[pattern] {
			return fmt.Errorf("no package has the firmware %s", pattern)
		}
	}
	return nil
}

// assemble makes the images of what was collected.
func (b *builder) assemble() error {
	deb, _, err := b.fetch("systemd-boot-efi")
	if err != nil {
		return err
	}
	names := efi[b.Board.Architecture]
	loaders, err := debian.ReadFiles(deb, func(file string) bool {
		return path.Base(file) == names.stub || path.Base(file) == names.loader || path.Base(file) == "copyright"
	})
	if err != nil {
		return err
	}
	var stub []byte
	for file, content := range loaders {
		switch path.Base(file) {
		case names.stub:
			stub = content
		case names.loader:
			b.result.Loader = content
		default:
			b.add(file, 0o644, content)
		}
	}
	if stub == nil || b.result.Loader == nil {
		return fmt.Errorf("systemd-boot-efi has no %s or no %s", names.stub, names.loader)
	}
	r := b.result
	r.Packages = b.packages
	r.CmdLine = strings.TrimSpace(b.Board.CommandLine() + " " + b.Arguments)
	r.Build = b.identify()
	release := b.release()
	b.add(ReleaseFile, 0o644, release)
	if r.Initramfs, r.PlainSize, err = image.Compressed(b.files); err != nil {
		return err
	}
	r.UKI, err = uki.Build(uki.Parts{Stub: stub, OSRelease: release, CmdLine: r.CmdLine, Uname: r.Release, Initrd: r.Initramfs, Kernel: r.Kernel})
	if err != nil {
		return err
	}
	if b.Sign != nil {
		if r.UKI, err = b.Sign(r.UKI); err != nil {
			return err
		}
		if r.Loader, err = b.Sign(r.Loader); err != nil {
			return err
		}
	}
	return b.bundle()
}

// bundle makes the update of the image.
func (b *builder) bundle() error {
	if b.UpdateKey == nil {
		return nil
	}
	m, err := bundle.Describe(bytes.NewReader(b.result.UKI), int64(len(b.result.UKI)))
	if err != nil {
		return err
	}
	var out bytes.Buffer
	if err := bundle.Write(&out, m, bundle.Sign(m, *b.UpdateKey), bytes.NewReader(b.result.UKI)); err != nil {
		return err
	}
	b.result.Bundle = out.Bytes()
	return nil
}

// identify returns a digest of everything that the image is made of.
func (b *builder) identify() string {
	sum := sha256.New()
	section := func(h hash.Hash, name string, content []byte) {
		fmt.Fprintf(h, "%s %d\n", name, len(content))
		h.Write(content)
	}
	section(sum, "version", []byte(b.Version+" "+b.Minimum))
	section(sum, "command line", []byte(b.result.CmdLine))
	section(sum, "kernel", b.result.Kernel)
	files := slices.SortedFunc(slices.Values(b.files), func(x, y image.File) int { return strings.Compare(x.Path, y.Path) })
	for _, f := range files {
		section(sum, fmt.Sprintf("%s %o %s", f.Path, f.Mode, f.Link), f.Content)
	}
	return hex.EncodeToString(sum.Sum(nil)[:16])
}

// release is the os-release (os-release(5)) of image and initramfs. It has no VERSION_ID on purpose: systemd-boot would sort by it, and an update to a lower
// version, which is allowed down to a minimum, would never start. So the file's name decides, which has a number that rises with each installation.
func (b *builder) release() []byte {
	return fmt.Appendf(nil, "ID=galvo\nNAME=Galvo\nPRETTY_NAME=\"Galvo %s\"\nGALVO_VERSION=%s\nGALVO_MINIMUM=%s\nGALVO_BOARD=%s\nGALVO_BUILD=%s\n",
		b.Version, b.Version, b.Minimum, b.Board.Name, b.result.Build)
}
