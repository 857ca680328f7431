package lock

import (
	"bytes"
	"strings"
	"testing"
)

// The committed lock has everything that is wanted, and is as `make kernel-update` writes it.
func TestCurrent(t *testing.T) {
	l, err := Current()
	if err != nil {
		t.Fatal(err)
	}
	for _, arch := range Architectures() {
		for _, w := range Wanted() {
			if w.Arch != "" && w.Arch != arch {
				continue
			}
			p, err := l.Find(w.Name, arch)
			if err != nil {
				t.Error(err)
			} else if p.License != w.License {
				t.Errorf("%s for %s: licence %s, wanted %s", w.Name, arch, p.License, w.License)
			}
		}
	}
	if !bytes.Equal(l.Encode(), current) {
		t.Error("the lock file is not as Encode writes it")
	}
	if _, err := l.Find("vim", "amd64"); err == nil || !strings.Contains(err.Error(), "make kernel-update") {
		t.Errorf("a package that is not there: %v", err)
	}
}

const some = `snapshot = "20260711T101637Z"
[[package]]
want = "libc6"
name = "libc6"
architecture = "amd64"
version = "2.36-9"
path = "pool/main/g/glibc/libc6.deb"
size = 10
sha256 = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
license = "LGPL-2.1-or-later"
`

func TestParseRefuses(t *testing.T) {
	if _, err := Parse([]byte(some)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ old, new, want string }{
		{"pool/main/g", "pool/../../g", "not a path in the archive"},
		{"pool/main/g", "http://elsewhere", "not a path in the archive"},
		{"0011", "00112", "not a SHA-256"},
		{"size = 10", "size = 0", "size 0"},
		{`"amd64"`, `"i386"`, "not one of amd64, arm64"},
		{`version = "2.36-9"`, "", "version and license must be given"},
		{"size = 10", "size = 10\nmirror = 1", "unknown key"},
		{"20260711T101637Z", "yesterday", "not of the form"},
	} {
		if _, err := Parse([]byte(strings.Replace(some, c.old, c.new, 1))); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.new, err, c.want)
		}
	}
}

const packages = `Package: linux-image-amd64
Version: 6.12.95-1
Depends: linux-image-6.12.95-amd64 (= 6.12.95-1)

Package: linux-image-6.12.95-amd64
Source: linux-signed-amd64 (6.12.95+1)
Version: 6.12.95-1
Filename: pool/main/l/new.deb
Size: 100
SHA256: 00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff
Description: a text
 that goes on: here

Package: linux-image-6.12.9-amd64
Version: 6.12.9-1
Filename: pool/main/l/old.deb
Size: 99
SHA256: 00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff

Package: libc6
Version: 2.36-10
Filename: pool/main/g/newer.deb
Size: 8
SHA256: 00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff

Package: libc6
Version: 2.36-9
Filename: pool/main/g/older.deb
Size: 7
SHA256: 00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff
`

func TestResolve(t *testing.T) {
	wanted := []Want{{"linux-image-amd64", "s", "main", "amd64", "GPL-2.0-only", ""}, {"libc6", "s", "main", "amd64", "LGPL-2.1-or-later", ""}}
	x, err := ReadIndex(strings.NewReader(packages))
	if err != nil {
		t.Fatal(err)
	}
	l, err := Resolve(wanted, "20260711T101637Z", func(Want, string) (Index, error) { return x, nil })
	if err != nil {
		t.Fatal(err)
	}
	if len(l.Packages) != 2 || l.Packages[0].Name != "linux-image-6.12.95-amd64" || l.Packages[0].Source != "linux-signed-amd64 6.12.95+1" || l.Packages[1].Path != "pool/main/g/newer.deb" {
		t.Errorf("%+v", l)
	}
	again, err := Parse(l.Encode())
	if err != nil || len(again.Packages) != 2 || again.Packages[0] != l.Packages[0] {
		t.Errorf("%+v, %v", again, err)
	}
}

// As dpkg --compare-versions has it.
func TestCompareVersions(t *testing.T) {
	for _, c := range [][2]string{
		{"1.0~rc1", "1.0"}, {"1.0", "1.0-1"}, {"1.0-1", "1.0-1+b1"}, {"1.9", "1.10"}, {"1.0", "1:0.1"}, {"6.12.9-1", "6.12.95-1"}, {"1.0a", "1.0+"}, {"6.12.95-1~bpo12+1", "6.12.95-1"},
		{"2.36-9+deb12u9", "2.36-9+deb12u14"},
	} {
		if CompareVersions(c[0], c[1]) >= 0 || CompareVersions(c[1], c[0]) <= 0 || CompareVersions(c[0], c[0]) != 0 {
			t.Errorf("%s is not below %s", c[0], c[1])
		}
	}
}
