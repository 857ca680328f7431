package firmware

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"galvo/firmware/disk"
	"galvo/firmware/slot"
)

// A Manifest is manifest.json beside the images: what they are, for whoever boots or publishes them.
type Manifest struct {
	Board         string           `json:"board"`
	Architecture  string           `json:"architecture"`
	Version       string           `json:"version"`
	Build         string           `json:"build"`
	KernelRelease string           `json:"kernelRelease"`
	CommandLine   string           `json:"commandLine"` // of a direct boot
	Modules       int              `json:"modules"`
	Bytes         map[string]int64 `json:"bytes"` // sizes of the files, and of some of their parts
}

// Names of the files that Write makes.
const (
	KernelFile    = "vmlinuz"
	InitramfsFile = "initramfs.zst"
	UKIFile       = "galvo.efi"
	DiskFile      = "disk.img"
	BundleFile    = "update.galvo"
	ManifestFile  = "manifest.json"
	LicenceFile   = "spdx.json"
)

// loaderConf is the configuration of systemd-boot (loader.conf(5)): no menu, and no changes of the command line.
const loaderConf = "timeout 0\neditor no\nconsole-mode keep\n"

// Write writes the images of a result into the folder dir.
func (r *Result) Write(dir string) (*Manifest, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	m := &Manifest{Board: r.Board.Name, Architecture: r.Board.Architecture, Version: r.Version, Build: r.Build, KernelRelease: r.Release, CommandLine: r.CmdLine,
		Modules: len(r.Modules.Modules), Bytes: map[string]int64{"modules": r.Modules.Bytes(), "initramfs": r.PlainSize}}
	spdx, err := r.spdx()
	if err != nil {
		return nil, err
	}
	for name, content := range map[string][]byte{KernelFile: r.Kernel, InitramfsFile: r.Initramfs, UKIFile: r.UKI, LicenceFile: spdx} {
		m.Bytes[name] = int64(len(content))
		if err := replace(filepath.Join(dir, name), content); err != nil {
			return nil, err
		}
	}
	if m.Bytes[DiskFile], err = r.writeDisk(filepath.Join(dir, DiskFile)); err != nil {
		return nil, err
	}
	if r.Bundle != nil {
		m.Bytes[BundleFile] = int64(len(r.Bundle))
		if err := replace(filepath.Join(dir, BundleFile), r.Bundle); err != nil {
			return nil, err
		}
	}
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, err
	}
	if err := replace(filepath.Join(dir, ManifestFile), append(text, '\n')); err != nil {
		return nil, err
	}
	if most := r.Board.ImageBudgetBytes; most > 0 && m.Bytes[DiskFile] > most {
		return m, fmt.Errorf("the disk image of %s has %d bytes, its budget is %d", r.Board.Name, m.Bytes[DiskFile], most)
	}
	return m, nil
}

// replace writes a file so that whoever has it open, or linked, keeps the old one.
func replace(path string, content []byte) error {
	if err := os.WriteFile(path+".part", content, 0o644); err != nil {
		return err
	}
	return os.Rename(path+".part", path)
}

func (r *Result) writeDisk(path string) (size int64, err error) {
	f, err := os.Create(path + ".part")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	// A hole up to the largest end that the image can have; the file is cut to its size then.
	if err := f.Truncate(2*int64(len(r.UKI)) + r.Board.SystemBytes); err != nil {
		return 0, err
	}
	size, err = disk.Image(unsynced{f}, r.Board.Name, r.Board.SystemBytes, r.SystemFiles())
	if err != nil {
		return 0, err
	}
	if err := f.Truncate(size); err != nil {
		return 0, err
	}
	return size, os.Rename(path+".part", path)
}

// SystemFiles returns what is on the system partition.
func (r *Result) SystemFiles() []disk.File {
	return []disk.File{
		{Path: "EFI/BOOT/" + efi[r.Board.Architecture].removable, Content: r.Loader},
		{Path: "loader/loader.conf", Content: []byte(loaderConf)},
		{Path: slot.First(r.Version), Content: r.UKI},
	}
}

// unsynced is a file whose content need not survive a power cut.
type unsynced struct{ *os.File }

func (unsynced) Sync() error { return nil }
