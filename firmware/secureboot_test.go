//go:build vmtest

package firmware

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"galvo/ci/need"
	"galvo/firmware/authenticode"
	"galvo/firmware/disk"
)

// OVMF's own test keys (package ovmf).
const (
	snakeOilKey  = "/usr/share/ovmf/PkKek-1-snakeoil.key"
	snakeOilCert = "/usr/share/ovmf/PkKek-1-snakeoil.pem"
	secureCode   = "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd"
	snakeOilVars = "/usr/share/OVMF/OVMF_VARS_4M.snakeoil.fd"
)

// snakeOil returns a signer with OVMF's test keys.
func snakeOil(t *testing.T) *authenticode.Signer {
	t.Helper()
	certificate, err := os.ReadFile(snakeOilCert)
	if err != nil {
		need.Missing(t, "qemu", err.Error())
	}
	key, err := exec.Command(need.Tool(t, "openssl"), "pkey", "-in", snakeOilKey, "-passin", "pass:snakeoil", "-traditional").Output()
	if err != nil {
		t.Fatal(err)
	}
	s, err := authenticode.Parse(certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// With Secure Boot the firmware starts what the owner signed, the boot loader and the image behind it, and nothing else.
func TestSecureBoot(t *testing.T) {
	qemu := need.Tool(t, "qemu-system-x86_64")
	s := snakeOil(t)
	r := build(t, "qemu-amd64", "1.2.3")
	sign := func(program []byte) []byte {
		signed, err := s.Sign(program)
		if err != nil {
			t.Fatal(err)
		}
		return signed
	}
	flipped := sign(r.UKI)
	flipped[len(r.UKI)-1000] ^= 1
	// This test's program is init there, and ends.
	const starts, refused = `Attempted to kill init`, `Access Denied|Security Violation|Security Policy Violation|Access denied|Failed to execute`
	for _, c := range []struct {
		name        string
		loader, uki []byte
		want, never string
	}{
		{"nothing is signed", r.Loader, r.UKI, refused, starts},
		{"only the loader is signed", sign(r.Loader), r.UKI, refused, starts},
		{"the image was changed after it was signed", sign(r.Loader), flipped, refused, starts},
		{"all is signed", sign(r.Loader), sign(r.UKI), starts, refused},
	} {
		t.Run(c.name, func(t *testing.T) {
			console := bootSecurely(t, qemu, []disk.File{
				{Path: "EFI/BOOT/BOOTX64.EFI", Content: c.loader}, {Path: "loader/loader.conf", Content: []byte(loaderConf)}, {Path: "EFI/Linux/galvo-0001-1.2.3.efi", Content: c.uki},
			}, regexp.MustCompile(c.want))
			if regexp.MustCompile(c.never).MatchString(console) {
				t.Errorf("console:\n%s", console)
			}
		})
	}
}

// bootSecurely boots a disk with the files until the console shows want, and returns what it showed.
func bootSecurely(t *testing.T, qemu string, files []disk.File, want *regexp.Regexp) string {
	t.Helper()
	dir := t.TempDir()
	image, vars := filepath.Join(dir, "disk.img"), filepath.Join(dir, "vars.fd")
	f, err := os.Create(image)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(512 << 20); err != nil {
		t.Fatal(err)
	}
	_, err = disk.Image(unsynced{f}, "test", 256<<20, files)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(snakeOilVars)
	if err == nil {
		err = os.WriteFile(vars, content, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, qemu, "-M", "q35,smm=on", "-accel", "tcg,thread=multi", "-cpu", "Nehalem", "-m", "1024", "-nographic", "-no-reboot", "-nic", "none",
		"-global", "driver=cfi.pflash01,property=secure,value=on", "-global", "ICH9-LPC.disable_s3=1",
		"-drive", "if=pflash,format=raw,unit=0,readonly=on,file="+secureCode, "-drive", "if=pflash,format=raw,unit=1,file="+vars, "-drive", "if=virtio,format=raw,file="+image)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var console strings.Builder
	for b := make([]byte, 4096); !want.MatchString(console.String()); {
		n, err := out.Read(b)
		console.Write(b[:n])
		if err != nil {
			t.Errorf("it ended before %q:\n%s", want, console.String())
			break
		}
	}
	cmd.Process.Kill()
	cmd.Wait()
	return console.String()
}
