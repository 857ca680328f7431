package qemu

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// Run boots the image for flashing in imageDir for a person: the serial console is this process's terminal, and the URL is printed when the page answers. The disk lies in dir,
// where it stays from run to run; it is made of the image if it is not there. Run returns when the machine is off, or ctx is done.
func Run(ctx context.Context, arch, imageDir, dir string, diskBytes int64, memoryMB int) error {
	m := &Machine{Arch: arch, Image: Image{imageDir}, UEFI: true, MemoryMB: memoryMB, Dir: dir, Watchdog: arch == "amd64"}
	hw, ok := hardware[arch]
	if !ok {
		return fmt.Errorf("there is no machine for %s", arch)
	}
	if _, err := os.Stat(hw.code); err != nil {
		return fmt.Errorf("UEFI for the machine is not installed: %w; `make tools` installs it on Debian", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	disk := filepath.Join(dir, "disk.img")
	if _, err := os.Stat(disk); errors.Is(err, fs.ErrNotExist) {
		if err := copySparse(disk, m.Image.Disk(), diskBytes); err != nil {
			return errors.Join(err, os.Remove(disk))
		}
	}
	m.Disks = []Disk{{Path: disk}}
	sockets, err := os.MkdirTemp("", "galvo-vm")
	if err != nil {
		return err
	}
	defer os.RemoveAll(sockets)
	port, err := freePort()
	if err != nil {
		return err
	}
	accel, cpu := accelerator(m)
	cmd := exec.CommandContext(ctx, program(arch), m.arguments(sockets, accel, cpu, port)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start QEMU: %w", err)
	}
	ready, stop := context.WithCancel(ctx)
	defer stop()
	go announce(ready, fmt.Sprintf("https://127.0.0.1:%d", port))
	err = cmd.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// announce prints the URL when it answers.
func announce(ctx context.Context, url string) {
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	for ctx.Err() == nil {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return
		}
		if resp, err := client.Do(r); err == nil {
			resp.Body.Close()
			fmt.Printf("\r\nready %s\r\n", url)
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(300 * time.Millisecond):
		}
	}
}
