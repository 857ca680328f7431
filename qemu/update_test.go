//go:build vmtest

package qemu

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"galvo/ci/need"
	"galvo/firmware/gpt"
	"galvo/services/api"
)

// diskBytes has room for the grown system partition and some data.
const diskBytes = 2 << 30

// An imageOptions says what is different of an update.
type imageOptions struct {
	board, version, minimum, arguments, key string
	binary                                  string // galvo, without the architecture
}

// makeImage builds an image as `make image` does, and returns its folder.
func makeImage(t *testing.T, o imageOptions) string {
	t.Helper()
	top, err := root()
	if err != nil {
		t.Fatal(err)
	}
	if o.board == "" {
		o.board = "qemu-amd64"
	}
	if o.key == "" {
		o.key = filepath.Join(top, "build/keys/development")
	}
	if o.binary == "" {
		o.binary = filepath.Join(top, "build/galvo-")
	}
	if o.minimum == "" {
		o.minimum = "0.0"
	}
	out := t.TempDir()
	cmd := exec.Command("go", "run", "./firmware/mkimage", "-board", o.board, "-version", o.version, "-minimum", o.minimum, "-arguments", o.arguments,
		"-galvo", o.binary, "-key", o.key, "-out", out)
	cmd.Dir = top
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("mkimage: %v\n%s", err, said)
	}
	return filepath.Join(out, o.board)
}

func readUpdate(t *testing.T, image string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(image, "update.galvo"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// install sends an update, and returns what is answered.
func install(t *testing.T, c *Client, update []byte) (status int, f api.Firmware, e api.Error) {
	t.Helper()
	resp, err := c.Do(http.MethodPost, api.FirmwarePath, "application/octet-stream", bytes.NewReader(update))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	json.Unmarshal(body, &f)
	json.Unmarshal(body, &e)
	return resp.StatusCode, f, e
}

// firmware asks what runs.
func firmware(c *Client) (f api.Firmware, err error) {
	err = c.Call(http.MethodGet, api.FirmwarePath, nil, &f)
	return f, err
}

// awaitVersion waits until the device answers with a version that is confirmed, or not.
func awaitVersion(t *testing.T, v *VM, c *Client, limit time.Duration, version string, state api.FirmwareImageState) api.Firmware {
	t.Helper()
	var f api.Firmware
	var err error
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); time.Sleep(500 * time.Millisecond) {
		if f, err = firmware(c); err != nil || f.Version != version {
			continue
		}
		for _, i := range f.Images {
			if i.Running && i.State == state {
				return f
			}
		}
	}
	t.Fatalf("version %s does not become %s: %+v, %v\n%s", version, state, f, err, v.Console.Tail())
	return f
}

func reboot(t *testing.T, c *Client) {
	t.Helper()
	if resp, err := c.Do(http.MethodPost, "/api/v1/system/reboot", "", nil); err != nil || resp.StatusCode/100 != 2 {
		t.Fatalf("reboot: %v %v", resp, err)
	}
}

// flashedWith returns a running machine with an image of a version.
func flashedWith(t *testing.T, image string) (*VM, *Client) {
	t.Helper()
	m := Flashed(t, "amd64", 0)
	m.Image = Image{image}
	if err := copySparse(m.Disks[0].Path, m.Image.Disk(), diskBytes); err != nil {
		t.Fatal(err)
	}
	m.Watchdog = true
	v := m.Boot(t)
	c := v.Client(v.Password())
	c.Answers()
	return v, c
}

// What is not signed, not whole, or not for this device is refused, and the device goes on as before.
func TestUpdateRefused(t *testing.T) {
	base := makeImage(t, imageOptions{version: "1.1.0", minimum: "1.0"})
	good := readUpdate(t, makeImage(t, imageOptions{version: "1.2.0"}))
	foreign := filepath.Join(t.TempDir(), "foreign")
	top, err := root()
	if err != nil {
		t.Fatal(err)
	}
	keygen := exec.Command("go", "run", "./services/galvo", "firmware", "keygen", "-plain", foreign)
	keygen.Dir = top
	if out, err := keygen.CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	flipped := bytes.Clone(good)
	flipped[len(flipped)-100000] ^= 1
	v, c := flashedWith(t, base)
	for _, u := range []struct {
		name   string
		update []byte
		want   string
	}{
		{"a flipped byte", flipped, "not the one that was signed"},
		{"cut off", good[:len(good)/2], "damaged"},
		{"a wrong key", readUpdate(t, makeImage(t, imageOptions{version: "1.2.0", key: foreign})), "key"},
		{"another board", readUpdate(t, makeImage(t, imageOptions{version: "1.2.0", board: "qemu-arm64"})), "for qemu-arm64"},
		{"below the minimum", readUpdate(t, makeImage(t, imageOptions{version: "0.9.0"})), "none below 1.0"},
	} {
		if status, _, e := install(t, c, u.update); status != http.StatusBadRequest || !strings.Contains(e.Text, u.want) {
			t.Errorf("%s: %d %q, want %q", u.name, status, e.Text, u.want)
		}
	}
	if f, err := firmware(c); err != nil || len(f.Images) != 1 || f.Version != "1.1.0" {
		t.Errorf("%+v, %v", f, err)
	}
	v.PowerCut()
}

// clean asks fsck.fat about the system partition of a machine that is off, which UEFI, systemd-boot and we have written to.
func clean(t *testing.T, m *Machine) {
	t.Helper()
	fsck := need.Tool(t, "fsck.fat")
	f, err := os.Open(m.Disks[0].Path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	table, whole, err := gpt.Read(f, diskBytes)
	if err != nil || !whole {
		t.Fatalf("partition table: whole %v, %v", whole, err)
	}
	p := table.Partitions[0]
	system := filepath.Join(t.TempDir(), "system")
	out, err := os.Create(system)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if _, err := io.Copy(out, io.NewSectionReader(f, p.Offset(), p.Bytes())); err != nil {
		t.Fatal(err)
	}
	if said, err := exec.Command(fsck, "-n", "-v", system).CombinedOutput(); err != nil {
		t.Errorf("fsck.fat: %v\n%s", err, said)
	}
}

// A good update is confirmed, and stays.
func TestUpdateConfirmed(t *testing.T) {
	v, c := flashedWith(t, makeImage(t, imageOptions{version: "1.1.0"}))
	status, f, e := install(t, c, readUpdate(t, makeImage(t, imageOptions{version: "1.2.0", minimum: "1.1.5"})))
	if status != http.StatusOK || len(f.Images) != 2 || f.Images[0].State != api.FirmwareTrial {
		t.Fatalf("%d %q %+v", status, e.Text, f)
	}
	reboot(t, c)
	f = awaitVersion(t, v, c, 2*Patience(t), "1.2.0", api.FirmwareConfirmed)
	if f.Minimum != "1.1.5" {
		t.Errorf("the lowest version is %s", f.Minimum)
	}
	if status, _, e := install(t, c, readUpdate(t, makeImage(t, imageOptions{version: "1.1.0"}))); status != http.StatusBadRequest {
		t.Errorf("below the confirmed minimum: %d %q", status, e.Text)
	}
	v.PowerCut()
	clean(t, v.Machine)
}

// A defect is a change of one of our files, by which an update does not work.
type defect struct{ file, old, new string }

// brokenGalvo builds our binary with a defect, and returns its path without the architecture.
func brokenGalvo(t *testing.T, d defect) string {
	t.Helper()
	top, err := root()
	if err != nil {
		t.Fatal(err)
	}
	source := filepath.Join(top, d.file)
	text, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Count(string(text), d.old) != 1 {
		t.Fatalf("%s does not have %q once: this test must follow what changed there", d.file, d.old)
	}
	dir := t.TempDir()
	changed, overlay := filepath.Join(dir, "changed.go"), filepath.Join(dir, "overlay.json")
	list, err := json.Marshal(map[string]any{"Replace": map[string]string{source: changed}})
	if err != nil {
		t.Fatal(err)
	}
	for path, content := range map[string][]byte{changed: []byte(strings.Replace(string(text), d.old, d.new, 1)), overlay: list} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	binary := filepath.Join(dir, "galvo-")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-overlay", overlay, "-o", binary+"amd64", "./services/galvo")
	cmd.Dir, cmd.Env = top, append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	return binary
}

// An update that does not work falls back by itself after three tries, whatever is wrong with it.
func TestUpdateFallsBack(t *testing.T) {
	for _, u := range []struct {
		name      string
		arguments string
		defect    defect
	}{
		{name: "the kernel panics", arguments: "rdinit=/nonexistent root=/dev/nonexistent"},
		{name: "the engine does not start", defect: defect{"services/galvo/services.go", "return engine.Run(ctx, o)", `_ = engine.Run; return fmt.Errorf("broken")`}},
		{name: "init hangs until the watchdog bites", defect: defect{"initramfs/boot/boot.go", "(*machine).confirm}", "func(*machine) error { select {} }}"}},
	} {
		t.Run(u.name, func(t *testing.T) {
			o := imageOptions{version: "1.2.0", arguments: u.arguments}
			if u.defect.file != "" {
				o.binary = brokenGalvo(t, u.defect)
			}
			update := readUpdate(t, makeImage(t, o))
			v, c := flashedWith(t, makeImage(t, imageOptions{version: "1.1.0"}))
			if status, _, e := install(t, c, update); status != http.StatusOK {
				t.Fatalf("%d %q", status, e.Text)
			}
			reboot(t, c)
			start := time.Now()
			awaitFailed(t, v, c, 12*Patience(t))
			t.Logf("fell back after %.0f s", time.Since(start).Seconds())
			v.PowerCut()
			clean(t, v.Machine)
		})
	}
}

// awaitFailed waits until the update was given up and the version before runs.
func awaitFailed(t *testing.T, v *VM, c *Client, limit time.Duration) {
	t.Helper()
	var f api.Firmware
	var err error
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); time.Sleep(time.Second) {
		if f, err = firmware(c); err == nil && f.Version == "1.1.0" && len(f.Images) == 2 && f.Images[0].State == api.FirmwareFailed {
			return
		}
	}
	t.Fatalf("the update is not given up: %+v, %v\n%s", f, err, v.Console.Tail())
}

// The power is cut at twenty moments of an update, on a disk that loses what was not flushed, or a part of it. The device boots what it had, or the new one, whole; one for which
// the installation was answered boots the new one.
func TestUpdatePowerCut(t *testing.T) {
	const cuts, groups = 20, 4 // a group can be run by itself: it boots once more than it has cuts
	versions := []string{"1.1.0", "1.2.0"}
	updates := map[string][]byte{}
	base := ""
	for _, v := range versions {
		image := makeImage(t, imageOptions{version: v})
		if updates[v] = readUpdate(t, image); base == "" {
			base = image
		}
	}
	for group := range groups {
		t.Run(fmt.Sprintf("group %d", group), func(t *testing.T) {
			m := Flashed(t, "amd64", 0)
			nbd := NewNBD(t, diskBytes)
			nbd.Load(Image{base}.Disk())
			m.Disks, m.Watchdog = []Disk{nbd.Disk()}, true
			v := m.Boot(t)
			c := v.Client(v.Password())
			awaitConfirmed(t, v, c)
			begin := time.Now()
			if status, _, e := install(t, c, updates[versions[1]]); status != http.StatusOK {
				t.Fatalf("%d %q", status, e.Text)
			}
			now, took := 0, time.Since(begin) // what runs, and how long an installation takes
			for i := group; i < cuts; i += groups {
				answered := make(chan bool, 1)
				begin = time.Now()
				go func() {
					resp, err := c.Do(http.MethodPost, api.FirmwarePath, "application/octet-stream", bytes.NewReader(updates[versions[1-now]]))
					if err == nil {
						resp.Body.Close()
					}
					answered <- err == nil && resp.StatusCode == http.StatusOK
				}()
				installed := false
				select {
				case installed = <-answered:
					took = time.Since(begin)
				case <-time.After(took * time.Duration(i+1) / (cuts - 2)):
				}
				cut := time.Since(begin)
				nbd.Tear(i * 256 / cuts)
				v.PowerCut()
				if !installed {
					installed = <-answered // it may have come in between
				}
				nbd.Serve()
				v = m.Boot(t)
				c = v.Client(c.password)
				f := awaitConfirmed(t, v, c)
				switch {
				case f.Version == versions[1-now]:
					now = 1 - now
				case f.Version != versions[now] || installed || len(f.Images) > 2:
					t.Fatalf("cut %d after %s: installed %v, and then %+v", i, cut, installed, f)
				}
				for _, image := range f.Images {
					if image.Version == "" || image.State == api.FirmwareFailed {
						t.Errorf("cut %d after %s: half an image is there: %+v", i, cut, f)
					}
				}
				t.Logf("cut %d after %.2f s (answered: %v): %s of %d images", i, cut.Seconds(), installed, f.Version, len(f.Images))
			}
		})
	}
}

// awaitConfirmed waits until the device runs an image that is confirmed, and returns what it says of its images.
func awaitConfirmed(t *testing.T, v *VM, c *Client) (f api.Firmware) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(Patience(t)); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		f, err = firmware(c)
		if refused := new(api.Error); errors.As(err, &refused) && refused.Kind == api.Unauthenticated {
			break // its state is not what it was, and the console still has why
		}
		for _, i := range f.Images {
			if i.Running && i.State == api.FirmwareConfirmed {
				return f
			}
		}
	}
	t.Fatalf("nothing confirmed runs: %+v, %v\n%s", f, err, v.Console.Tail())
	return f
}
