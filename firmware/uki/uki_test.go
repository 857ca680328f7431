package uki_test

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"galvo/firmware/uki"
	"galvo/firmware/uki/ukitest"
)

func parts() uki.Parts {
	return uki.Parts{Stub: ukitest.Stub(), OSRelease: []byte("ID=galvo\nNAME=\"A name\"\n"), CmdLine: "quiet", Uname: "6.12", Initrd: bytes.Repeat([]byte("i"), 5000), Kernel: []byte("kernel")}
}

func TestBuild(t *testing.T) {
	image, err := uki.Build(parts())
	if err != nil {
		t.Fatal(err)
	}
	r := bytes.NewReader(image)
	for name, want := range map[string]string{".cmdline": "quiet\x00", ".uname": "6.12\x00", ".initrd": strings.Repeat("i", 5000), ".linux": "kernel"} {
		if got, err := uki.Section(r, name, 1<<20); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if v, err := uki.OSRelease(r); err != nil || v["ID"] != "galvo" || v["NAME"] != "A name" {
		t.Errorf("os-release: %v, %v", v, err)
	}
	if _, err := uki.Section(r, ".initrd", 100); err == nil {
		t.Error("a section that is too large was read")
	}
	if _, err := uki.Section(r, ".none", 100); err == nil {
		t.Error("a section that is not there was read")
	}
}

// What a stub carries behind its sections does not get between them and ours.
func TestStubIsCut(t *testing.T) {
	with := parts()
	with.Stub = append(with.Stub, bytes.Repeat([]byte("symbols"), 100)...)
	a, err := uki.Build(parts())
	if err != nil {
		t.Fatal(err)
	}
	b, err := uki.Build(with)
	if err != nil || !bytes.Equal(a, b) {
		t.Errorf("%d bytes, with symbols %d, %v", len(a), len(b), err)
	}
}

func TestBuildRefuses(t *testing.T) {
	for name, change := range map[string]func(stub []byte) []byte{
		"no program":  func([]byte) []byte { return []byte("text") },
		"cut":         func(s []byte) []byte { return s[:200] },
		"no room":     func(s []byte) []byte { binary.LittleEndian.PutUint32(s[0x44+20+60:], 512); return s },
		"no sections": func(s []byte) []byte { return s[:len(s)-512] },
	} {
		p := parts()
		p.Stub = change(p.Stub)
		if _, err := uki.Build(p); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func FuzzSection(f *testing.F) {
	image, err := uki.Build(parts())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(image)
	f.Fuzz(func(t *testing.T, b []byte) {
		uki.OSRelease(bytes.NewReader(b))
		p := parts()
		p.Stub = b
		uki.Build(p)
	})
}
