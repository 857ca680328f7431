package live

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"galvo/ci/device"
	"galvo/ci/need"
	"galvo/ci/rig"
	"galvo/services/api"
)

// raw sends a request with a body as it is.
func (d *tested) raw(method, path string, body io.Reader) (status int, answer []byte) {
	d.t.Helper()
	req, err := http.NewRequest(method, d.URL+path, body)
	if err != nil {
		d.t.Fatal(err)
	}
	req.SetBasicAuth("admin", device.Password)
	resp, err := d.client.Do(req)
	if err != nil {
		d.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	return resp.StatusCode, b
}

// storageReady waits until captures can go to the device data.
func (d *tested) storageReady() {
	d.t.Helper()
	d.wait("the storage device is active", func() bool {
		var dir api.Directory
		return d.call("GET", "/api/v1/storage/data/files/", nil, &dir) == nil
	})
}

// toMedia starts a capture to disk with the capture URL.
func (d *tested) toMedia(query string) (made api.CaptureCreated) {
	d.t.Helper()
	status, b := d.raw("GET", api.CaptureURLPath+"?captureToMedia=true&"+query, nil)
	if err := json.Unmarshal(b, &made); err != nil || status != http.StatusCreated || made.ID == "" || made.FileName == "" {
		d.t.Fatalf("captureToMedia: %d %s", status, b)
	}
	d.wait("the capture runs", func() bool {
		return slices.ContainsFunc(d.captures().Captures, func(c api.Capture) bool { return c.ID == made.ID && c.State == "running" })
	})
	return made
}

// ended waits until a capture is in the list of finished ones.
func (d *tested) ended(id string) (found api.Capture) {
	d.t.Helper()
	d.wait("the capture has ended", func() bool {
		list := d.finished().Captures
		i := slices.IndexFunc(list, func(c api.Capture) bool { return c.ID == id })
		if i >= 0 {
			found = list[i]
		}
		return i >= 0
	})
	return found
}

// savefiles returns the savefiles of the storage device data in the order in which they were written, as they lie on the machine.
func (d *tested) savefiles() (paths []string) {
	d.t.Helper()
	var dir api.Directory
	d.must("GET", "/api/v1/storage/data/files/", nil, &dir)
	slices.SortFunc(dir.Files, func(a, b api.File) int { return int(a.Modified - b.Modified) })
	for _, f := range dir.Files {
		paths = append(paths, filepath.Join(d.State, "data", f.Path))
	}
	return paths
}

func capinfos(t *testing.T, file string) {
	t.Helper()
	if out, err := exec.Command(need.Tool(t, "capinfos"), file).CombinedOutput(); err != nil || strings.Contains(string(out), "cut short") {
		t.Errorf("capinfos: %v: %s", err, out)
	}
}

// A capture to disk goes on without its client and without the web service, and its files together are what was sent.
func TestCaptureToDisk(t *testing.T) {
	need.Tool(t, "capinfos")
	tx, rx := rig.VethFor(t)
	d := start(t, rx.Netns, twoWorkers+"[captures]\nqueueBytes = 64000000\nsplitBytes = 2000000\n", rx.Name)
	d.portsUp(1)
	d.storageReady()
	made := d.toMedia("")
	frames := rig.Mix(21, 60_000)
	sent := play(t, tx, frames[:30_000], 50_000)
	d.kill("web")
	d.client.CloseIdleConnections()
	sent += play(t, tx, frames[30_000:], 50_000)
	d.settle(sent)
	d.must("DELETE", "/api/v1/captures/"+made.ID, nil, nil)
	c := d.ended(made.ID)
	if c.State != "finished" || c.Sink != "disk" || c.Captured != sent || sum(c) != sent || c.Device != "data" {
		t.Errorf("%+v, want %d captured", c, sent)
	}
	paths := d.savefiles()
	if uint64(len(paths)) != c.Files || len(paths) < 5 || filepath.Base(paths[0]) != made.FileName {
		t.Errorf("files %v, the list says %d, the first one was to be %s", paths, c.Files, made.FileName)
	}
	var got [][]byte
	for _, p := range paths {
		capinfos(t, p)
		if info, err := os.Stat(p); err != nil || info.Size() > 2_000_000 {
			t.Errorf("%s: %d bytes, %v", p, info.Size(), err)
		}
		got = append(got, framesOf(t, p)...)
	}
	sameFrames(t, "all files", got, dataOf(frames))

	// Downloaded whole, and from the middle.
	path := "/api/v1/storage/data/files/" + url.PathEscape(filepath.Base(paths[0]))
	want, err := os.ReadFile(paths[0])
	if err != nil {
		t.Fatal(err)
	}
	if status, b := d.raw("GET", path, nil); status != http.StatusOK || !bytes.Equal(b, want) {
		t.Errorf("downloaded: %d, %d bytes, want %d", status, len(b), len(want))
	}
	req, _ := http.NewRequest("GET", d.URL+path, nil)
	req.SetBasicAuth("admin", device.Password)
	req.Header.Set("Range", "bytes=1000-1999")
	resp, err := d.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusPartialContent || !bytes.Equal(b, want[1000:2000]) {
		t.Errorf("a range: %s, %d bytes", resp.Status, len(b))
	}
	req.Header.Set("Range", "bytes=900000000-")
	if resp, err = d.client.Do(req); err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusRequestedRangeNotSatisfiable || !bytes.Contains(b, []byte(`"kind":"bad_range"`)) {
		t.Errorf("a range that is not there: %s, %s", resp.Status, b)
	}
	if err := d.call("POST", "/api/v1/storage/data/files/none/of/them.pcap", nil, nil); err == nil || !strings.Contains(err.Error(), "there is no directory none/of on data") {
		t.Errorf("an upload to a directory that is not there: %v", err)
	}
}

// A full device ends its captures with files that are complete, and the next one is refused.
func TestStorageFull(t *testing.T) {
	need.Tool(t, "capinfos")
	tx, rx := rig.VethFor(t)
	d := start(t, rx.Netns, twoWorkers, rx.Name)
	d.portsUp(1)
	d.storageReady()
	d.must("POST", "/api/v1/storage/data/deactivate", nil, nil)
	if d.call("GET", "/api/v1/storage/data/files/", nil, nil) == nil {
		t.Error("files of a device that is deactivated")
	}
	dir := filepath.Join(d.State, "data")
	if err := syscall.Mount("none", dir, "tmpfs", 0, "size=4m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	if status, b := d.raw("GET", api.CaptureURLPath+"?captureToMedia=true", nil); status != http.StatusConflict || !strings.Contains(string(b), "no_storage") {
		t.Errorf("without an active device: %d %s", status, b)
	}
	d.must("POST", "/api/v1/storage/data/activate", nil, nil)
	made := d.toMedia("")
	frames := rig.Mix(22, 20_000)
	sent := play(t, tx, frames, 50_000)
	c := d.ended(made.ID)
	if c.State != "finished" || c.Reason != "storage full" || c.Captured == 0 || c.Captured >= sent {
		t.Errorf("%+v", c)
	}
	file := filepath.Join(dir, made.FileName)
	capinfos(t, file)
	if got := framesOf(t, file); uint64(len(got)) != c.Captured {
		t.Errorf("%d packets in the file, %d captured", len(got), c.Captured)
	}
	status, b := d.raw("GET", api.CaptureURLPath+"?captureToMedia=true", nil)
	if status != http.StatusInsufficientStorage {
		t.Errorf("a capture to a full device: %d %s", status, b)
	}
	if n := len(d.savefiles()); n != 1 {
		t.Errorf("%d files, want 1: the refused capture left one", n)
	}
}

// An engine that is killed in the middle leaves files that can be read, and the capture as interrupted.
func TestKilledEngineOnDisk(t *testing.T) {
	need.Tool(t, "capinfos")
	tx, rx := rig.VethFor(t)
	d := start(t, rx.Netns, twoWorkers, rx.Name)
	d.portsUp(1)
	d.storageReady()
	made := d.toMedia("")
	frames := rig.Mix(23, 60_000)
	done := make(chan struct{})
	go func() {
		defer close(done)
		play(t, tx, frames, 20_000)
	}()
	d.wait("packets are written", func() bool { list := d.captures().Captures; return len(list) == 1 && list[0].Captured > 20_000 })
	d.kill("engine")
	<-done
	c := d.ended(made.ID)
	if c.State != "interrupted" || c.FileName != made.FileName || c.Device != "data" || c.Captured < 10_000 {
		t.Errorf("%+v", c)
	}
	d.wait("the file is repaired", func() bool {
		var dir api.Directory
		return d.call("GET", "/api/v1/storage/data/files/", nil, &dir) == nil && len(dir.Files) == 1 && !dir.Files[0].Writing
	})
	file := filepath.Join(d.State, "data", made.FileName)
	capinfos(t, file)
	if got := framesOf(t, file); uint64(len(got)) < c.Captured {
		t.Errorf("%d packets in the file, %d captured", len(got), c.Captured)
	}
}

// Savefiles are analysed in a slot while live traffic is captured without loss.
func TestSlot(t *testing.T) {
	tx, rx := rig.VethFor(t)
	d := start(t, rx.Netns, twoWorkers+"[captures]\nqueueBytes = 64000000\n", rx.Name)
	d.portsUp(1)
	d.storageReady()
	dir := t.TempDir()
	all := rig.Mix(24, 200_000)
	var stored []api.StoredFile
	for i, part := range [][]rig.Frame{all[:100_000], all[100_000:]} {
		file := filepath.Join(dir, fmt.Sprintf("%d.pcap", i))
		if err := rig.WritePcap(file, part); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		// In two pieces, as after a connection that broke.
		path := fmt.Sprintf("/api/v1/storage/data/files/%d.pcap?total=%d", i, len(b))
		half := len(b) / 2
		for _, p := range []struct {
			offset int
			b      []byte
		}{{0, b[:half]}, {half, b[half:]}} {
			if status, answer := d.raw("POST", fmt.Sprintf("%s&offset=%d", path, p.offset), bytes.NewReader(p.b)); status != http.StatusCreated {
				t.Fatalf("upload: %d %s", status, answer)
			}
		}
		stored = append(stored, api.StoredFile{Path: fmt.Sprintf("%d.pcap", i)})
	}
	live := d.toMedia("expression=l4Protocol==TCP")
	frames := rig.Mix(25, 30_000)
	played := make(chan uint64, 1)
	go func() { played <- play(t, tx, frames, 30_000) }()
	slices.Reverse(stored) // they are merged by time
	var slot api.Slot
	d.must("POST", "/api/v1/slots", api.SlotRequest{Files: stored}, &slot)
	if err := d.call("POST", "/api/v1/slots", api.SlotRequest{Files: stored}, nil); err == nil || api.ErrorOf(err).Kind != api.Conflict {
		t.Errorf("a second analysis in one slot: %v", err)
	}
	d.wait("the analysis is ready", func() bool {
		var list api.SlotList
		d.must("GET", "/api/v1/slots", nil, &list)
		slot = list.Slots[0]
		return slot.State == "ready"
	})
	if slot.Packets != 200_000 || slot.Bytes != slot.TotalBytes || slot.Flows == 0 {
		t.Errorf("%+v", slot)
	}
	var ports []api.Port
	d.must("GET", "/api/v1/ports?mm-id=:1", nil, &ports)
	if len(ports) != 2 || ports[0].RxPackets+ports[1].RxPackets != 200_000 {
		t.Errorf("ports of the slot: %+v", ports)
	}

	for _, f := range []string{"l7Protocol == DNS", "vlan == any"} {
		want := filepath.Join(dir, "want.pcapng")
		if out, err := exec.Command(d.Galvo, "read", "-filter", f, "-w", want, filepath.Join(dir, "0.pcap"), filepath.Join(dir, "1.pcap")).CombinedOutput(); err != nil {
			t.Fatalf("galvo read: %v: %s", err, out)
		}
		status, b := d.raw("GET", api.CaptureURLPath+"?mm-id=:1&expression="+url.PathEscape(f), nil)
		got := filepath.Join(dir, "got.pcapng")
		if err := os.WriteFile(got, b, 0o600); err != nil || status != http.StatusOK {
			t.Fatalf("capture from the slot: %d %s, %v", status, b[:min(len(b), 300)], err)
		}
		wanted := framesOf(t, want)
		if len(wanted) == 0 {
			t.Errorf("nothing matches %q: the comparison says nothing", f)
		}
		sameFrames(t, f, framesOf(t, got), wanted)
	}
	sent := <-played
	d.settle(sent)
	d.must("DELETE", "/api/v1/captures/"+live.ID, nil, nil)
	if c := d.ended(live.ID); sum(c) != sent || c.Dropped+c.Lost != 0 {
		t.Errorf("live, beside the analysis: %+v, want %d without loss", c, sent)
	}
	d.must("DELETE", "/api/v1/slots/1", nil, nil)
	if err := d.call("GET", "/api/v1/ports?mm-id=:1", nil, nil); err == nil || api.ErrorOf(err).Kind != api.NotFound {
		t.Errorf("a free slot: %v", err)
	}
}
