//go:build vmtest

package qemu

import (
	"bytes"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"galvo/ci/need"
	"galvo/ci/rig"
	"galvo/services/api"
)

// disk waits until the device with a name is in a state, and returns it.
func (c *Client) disk(name string, states ...string) (found api.Storage) {
	c.t.Helper()
	c.Wait("the disk is "+strings.Join(states, " or "), func() bool {
		var list api.StorageList
		if c.Call(http.MethodGet, api.ListStorage.Path, nil, &list) != nil {
			return false
		}
		for _, d := range list.Devices {
			for _, s := range states {
				if (d.Name == name || d.ID == name) && d.State == s {
					found = d
					return true
				}
			}
		}
		return false
	})
	return found
}

// An encrypted disk: formatted, written to, taken out of use, and after a start opened with its password only.
func TestEncryptedDisk(t *testing.T) {
	m := Direct(t, "amd64")
	m.Disks, m.Append = []Disk{m.BlankDisk(t, 256<<20), m.BlankDisk(t, 128<<20)}, []string{"galvo.data=/dev/vda"}
	v := m.Boot(t)
	c := v.Client(v.Password())
	c.Answers()
	const id, password = "virtio-galvo-d1", "an old password"
	c.disk(id, "unformatted")
	c.Must(http.MethodPost, "/api/v1/storage/"+id+"/format", api.FormatRequest{Confirm: id, Name: "vault", Encrypt: true, Password: password}, nil)
	if d := c.disk(id, "active", "failed"); d.State != "active" || !d.Encrypted {
		t.Fatalf("%+v", d)
	}
	text := bytes.Repeat([]byte("nobody is to read this. "), 10_000)
	file := "/api/v1/storage/" + id + "/files/secret.txt"
	resp, err := c.Do(http.MethodPost, file, "application/octet-stream", bytes.NewReader(text))
	if err != nil || resp.StatusCode != http.StatusCreated {
		t.Fatalf("upload: %v, %+v", err, resp)
	}
	resp.Body.Close()
	c.Must(http.MethodPost, "/api/v1/storage/"+id+"/deactivate", nil, nil)
	c.disk(id, "locked", "inactive")
	c.Must(http.MethodPost, "/api/v1/storage/"+id+"/activate", api.ActivateRequest{Password: password}, nil)
	c.disk(id, "active")
	v.PressPower()
	v.AwaitOff()

	v = m.Boot(t)
	c = v.Client(c.password)
	c.Answers()
	c.disk(id, "locked")
	for wrong, says := range map[string]string{"": "activate it with its password", "a wrong one": "password"} {
		err := c.Call(http.MethodPost, "/api/v1/storage/"+id+"/activate", api.ActivateRequest{Password: wrong}, nil)
		t.Logf("activated with %q: %v", wrong, err)
		if err == nil || api.ErrorOf(err).Kind != api.Conflict || !strings.Contains(err.Error(), says) {
			t.Errorf("activated with %q: %v", wrong, err)
		}
	}
	c.Must(http.MethodPost, "/api/v1/storage/"+id+"/activate", api.ActivateRequest{Password: password}, nil)
	c.disk(id, "active")
	resp, err = c.Do(http.MethodGet, file, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got, err := io.ReadAll(resp.Body); err != nil || !bytes.Equal(got, text) {
		t.Errorf("the file has %d bytes, want %d; %v", len(got), len(text), err)
	}
}

// One of a ring's two disks is pulled while it records. The device says so, keeps what is on the other one, and goes on.
func TestRingDiskPulled(t *testing.T) {
	m := Direct(t, "amd64")
	m.Ports = 1
	pulled := m.BlankDisk(t, 128<<20)
	pulled.Removable = true
	m.Disks, m.Append = []Disk{m.BlankDisk(t, 256<<20), m.BlankDisk(t, 128<<20), pulled}, []string{"galvo.data=/dev/vda"}
	v := m.Boot(t)
	c := v.Client(v.Password())
	c.Answers()
	ids := []string{"virtio-galvo-d1", "virtio-galvo-d2"}
	for _, id := range ids {
		c.disk(id, "unformatted")
		c.Must(http.MethodPost, "/api/v1/storage/"+id+"/format", api.FormatRequest{Confirm: id}, nil)
	}
	for _, id := range ids {
		c.disk(id, "active")
	}
	c.PortsUp(1)
	c.Must(http.MethodPost, "/api/v1/rings", api.RingRequest{Name: "both", SizeBytes: 128 << 20, Devices: ids}, nil)
	ring := func() (r api.Ring) {
		c.Call(http.MethodGet, "/api/v1/rings/both", nil, &r)
		return r
	}
	c.Wait("the ring records", func() bool { return ring().State == "recording" })
	frames := data(rig.Mix(8, 12_000))
	send := func(part [][]byte) {
		t.Helper()
		before := ring().Packets
		if err := v.Wires[0].Send(part...); err != nil {
			t.Fatal(err)
		}
		c.Wait("everything is recorded", func() bool { return ring().Packets == before+uint64(len(part)) })
	}
	send(frames[:4000])
	send(frames[4000:8000])
	v.PullDisk(2)
	c.disk(ids[1], "absent")
	c.Wait("the ring says that the disk is gone, and records", func() bool {
		r := ring()
		return r.State == "recording" && len(r.DeviceStates) == 2 && r.DeviceStates[1].State == "absent" && r.DeviceStates[0].State == "active"
	})
	send(frames[8000:])
	d := c.Capture(url.Values{"fromCaptureBuffer": {"true"}, "endTime": {"now"}})
	file, err := d.Wait()
	if err != nil {
		t.Fatal(err)
	}
	got := savefile(t, file)
	if n := len(got) - 4000; n <= 0 || n >= 8000 {
		t.Fatalf("%d frames came back; of the first 8000 those on one disk should, and the last 4000", len(got))
	}
	same(t, got[len(got)-4000:], frames[8000:])
	var list api.CaptureList
	c.Must(http.MethodGet, api.ListFinished.Path, nil, &list)
	if s := list.Captures[0].Scan; s == nil || len(s.Gaps) == 0 || !strings.Contains(s.Gaps[0].Reason, "missing") {
		t.Errorf("the capture says nothing of what is missing: %+v", s)
	}
}

// A write-protected disk can be read, and says why it takes nothing.
func TestWriteProtected(t *testing.T) {
	mkfs := need.Tool(t, "mkfs.ext4")
	m := Direct(t, "amd64")
	d := m.BlankDisk(t, 64<<20)
	from := t.TempDir()
	if err := os.WriteFile(filepath.Join(from, "kept.txt"), []byte("kept"), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(mkfs, "-q", "-d", from, d.Path).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	d.ReadOnly = true
	m.Disks, m.Append = []Disk{m.BlankDisk(t, 256<<20), d}, []string{"galvo.data=/dev/vda"}
	v := m.Boot(t)
	c := v.Client(v.Password())
	c.Answers()
	const id = "virtio-galvo-d1"
	c.disk(id, "inactive")
	c.Must(http.MethodPost, "/api/v1/storage/"+id+"/activate", api.ActivateRequest{}, nil)
	if d := c.disk(id, "active"); !strings.Contains(d.Reason, "write-protected") || d.FreeBytes != 0 {
		t.Errorf("%+v", d)
	}
	resp, err := c.Do(http.MethodGet, "/api/v1/storage/"+id+"/files/kept.txt", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got, err := io.ReadAll(resp.Body); err != nil || string(got) != "kept" {
		t.Errorf("the file has %q, %v", got, err)
	}
	resp, err = c.Do(http.MethodPost, "/api/v1/storage/"+id+"/files/more.txt", "application/octet-stream", strings.NewReader("more"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := api.ReadError(resp); resp.StatusCode/100 == 2 {
		t.Error("it took a file")
	} else {
		t.Logf("an upload: %v", err)
	}
}
