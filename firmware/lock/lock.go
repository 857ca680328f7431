// Package lock pins what an image takes from Debian: every package with its version, size and SHA-256, in one file that people review and commit.
//
// The table Wanted says what is taken and under which licence; Resolve turns it into a lock, from the archive's indexes. The package does no I/O.
package lock

import (
	"bytes"
	_ "embed"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
)

// A Lock is the whole file.
type Lock struct {
	Snapshot string    `toml:"snapshot"` // when the indexes were made, as 20260711T101637Z: what a snapshot archive has of that time
	Packages []Package `toml:"package"`
}

// A Package is one Debian package, to the byte.
type Package struct {
	Want         string `toml:"want"` // name in the table Wanted, as linux-image-amd64
	Name         string `toml:"name"` // of the package, as linux-image-6.12.95+deb12-amd64
	Architecture string `toml:"architecture"`
	Version      string `toml:"version"`
	Path         string `toml:"path"` // in the archive, from pool/ on
	Size         int64  `toml:"size"` // bytes
	SHA256       string `toml:"sha256"`
	License      string `toml:"license"`  // SPDX expression
	Homepage     string `toml:"homepage"` // of the source; may be empty
	Source       string `toml:"source"`   // name and version of the source package
}

// A Want is something that images need of Debian.
type Want struct {
	Name      string // package; a kernel's is the one that depends on the newest
	Suite     string
	Component string
	Arch      string // the only architecture it is for; empty is both
	License   string // SPDX expression
	Why       string
}

// Wanted returns the table of what is taken from Debian.
func Wanted() []Want {
	const stable, backports, main, nonfree = "bookworm", "bookworm-backports", "main", "non-free-firmware"
	// Each file has its own; they are in the package's copyright file, which the image carries.
	const redistributable = "LicenseRef-Debian-firmware-nonfree"
	return []Want{
		{"linux-image-amd64", backports, main, "amd64", "GPL-2.0-only WITH Linux-syscall-note", "kernel and modules"},
		{"linux-image-arm64", backports, main, "arm64", "GPL-2.0-only WITH Linux-syscall-note", "kernel and modules"},
		{"systemd-boot-efi", stable, main, "", "LGPL-2.1-or-later", "boot loader with boot counting, and the stub of a unified kernel image"},
		{"e2fsprogs", stable, main, "", "GPL-2.0-only", "mke2fs and e2fsck for the data partition"},
		{"libext2fs2", stable, main, "", "LGPL-2.0-only", "for e2fsprogs"},
		{"libcom-err2", stable, main, "", "MIT", "for e2fsprogs"},
		{"libblkid1", stable, main, "", "LGPL-2.1-or-later", "for e2fsprogs"},
		{"libuuid1", stable, main, "", "BSD-3-Clause", "for e2fsprogs"},
		{"libc6", stable, main, "", "LGPL-2.1-or-later", "for e2fsprogs"},
		{"cryptsetup-bin", stable, main, "", "GPL-2.0-or-later", "cryptsetup for encrypted storage devices"},
		{"libcryptsetup12", stable, main, "", "LGPL-2.1-or-later", "for cryptsetup-bin"},
		{"libdevmapper1.02.1", stable, main, "", "LGPL-2.1-only", "for cryptsetup-bin"},
		{"libargon2-1", stable, main, "", "CC0-1.0 OR Apache-2.0", "for cryptsetup-bin"},
		{"libjson-c5", stable, main, "", "MIT", "for cryptsetup-bin"},
		{"libpopt0", stable, main, "", "MIT", "for cryptsetup-bin"},
		{"libssl3", stable, main, "", "Apache-2.0", "for cryptsetup-bin"},
		{"libselinux1", stable, main, "", "LicenseRef-Debian-public-domain", "for cryptsetup-bin"},
		{"libpcre2-8-0", stable, main, "", "BSD-3-Clause", "for cryptsetup-bin"},
		{"libudev1", stable, main, "", "LGPL-2.1-or-later", "for cryptsetup-bin"},
		{"libgcc-s1", stable, main, "", "GPL-3.0-or-later WITH GCC-exception-3.1", "for cryptsetup-bin, whose threads libc ends with it"},
		{"tor-geoipdb", stable, main, "", "CC-BY-SA-4.0", "countries of addresses, for the filter's countryCode"},
		{"firmware-misc-nonfree", stable, nonfree, "", redistributable, "what runs in the NICs of Intel (ice), Broadcom (tg3) and Chelsio"},
		{"firmware-realtek", stable, nonfree, "", redistributable, "what runs in Realtek's NICs"},
		{"firmware-bnx2", stable, nonfree, "amd64", redistributable, "what runs in old NICs of Broadcom"},
		{"firmware-bnx2x", stable, nonfree, "", redistributable, "what runs in older NICs of Broadcom"},
	}
}

var architectures = []string{"amd64", "arm64"}

// Architectures returns what images are made for.
func Architectures() []string { return slices.Clone(architectures) }

//go:embed debian.toml
var current []byte

// Current returns the lock that was committed.
func Current() (*Lock, error) { return Parse(current) }

var (
	digestForm   = regexp.MustCompile(`^[0-9a-f]{64}$`)
	snapshotForm = regexp.MustCompile(`^[0-9]{8}T[0-9]{6}Z$`)
)

// Parse reads a lock. An unknown key, a digest that is none and a path that leads out of the archive are errors.
func Parse(text []byte) (*Lock, error) {
	l := &Lock{}
	meta, err := toml.Decode(string(text), l)
	if err != nil {
		return nil, fmt.Errorf("lock file: %w", err)
	}
	if unknown := meta.Undecoded(); len(unknown) > 0 {
		return nil, fmt.Errorf("lock file: unknown key %s", unknown[0])
	}
	if !snapshotForm.MatchString(l.Snapshot) {
		return nil, fmt.Errorf("lock file: snapshot %q is not of the form 20260711T101637Z", l.Snapshot)
	}
	for _, p := range l.Packages {
		switch {
		case p.Want == "" || p.Name == "" || p.Version == "" || p.License == "":
			return nil, fmt.Errorf("lock file: package %q: want, name, version and license must be given", p.Name)
		case !slices.Contains(architectures, p.Architecture):
			return nil, fmt.Errorf("lock file: package %s: architecture %q is not one of %s", p.Name, p.Architecture, strings.Join(architectures, ", "))
		case !digestForm.MatchString(p.SHA256):
			return nil, fmt.Errorf("lock file: package %s: %q is not a SHA-256 in hexadecimal", p.Name, p.SHA256)
		case p.Size <= 0:
			return nil, fmt.Errorf("lock file: package %s: size %d", p.Name, p.Size)
		case !strings.HasPrefix(p.Path, "pool/") || path.Clean(p.Path) != p.Path:
			return nil, fmt.Errorf("lock file: package %s: %q is not a path in the archive's pool", p.Name, p.Path)
		}
	}
	return l, nil
}

// Encode returns the lock as a file.
func (l *Lock) Encode() []byte {
	var b bytes.Buffer
	b.WriteString("# What images take from Debian. Made by `make kernel-update`; commit it after a look at what changed.\n")
	e := toml.NewEncoder(&b)
	e.Indent = ""
	if err := e.Encode(l); err != nil {
		panic(err) // of plain values into memory
	}
	return b.Bytes()
}

// Find returns the package that was locked for a want.
func (l *Lock) Find(want, architecture string) (Package, error) {
	for _, p := range l.Packages {
		if p.Want == want && p.Architecture == architecture {
			return p, nil
		}
	}
	return Package{}, fmt.Errorf("the lock file has no %s for %s: is it in the table of package lock? then run `make kernel-update`", want, architecture)
}
