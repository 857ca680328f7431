package host

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"aead.dev/minisign"

	"galvo/firmware/bundle"
	"galvo/firmware/disk"
	"galvo/firmware/gpt"
	"galvo/firmware/slot"
	"galvo/firmware/uki/ukitest"
	"galvo/services/api"
)

func firmwareImage(v string) []byte {
	return ukitest.Image("generic-amd64", v, "1.0", "build "+v, bytes.Repeat([]byte(v), 5000))
}

// flashedDevice returns an appliance made of files, which runs version 1.0.0 from its disk, and the key that it trusts.
func flashedDevice(t *testing.T) (slot.Device, minisign.PrivateKey) {
	t.Helper()
	dir := t.TempDir()
	d := slot.Device{Sys: filepath.Join(dir, "sys"), Dev: filepath.Join(dir, "dev"), ReleaseFile: filepath.Join(dir, "os-release"), KeyFolder: dir}
	public, private, err := minisign.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := public.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	for _, folder := range []string{d.Dev, filepath.Join(d.Sys, "firmware/efi"), filepath.Join(d.Sys, "block/sdx")} {
		if err := os.MkdirAll(folder, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	whole, err := os.Create(filepath.Join(d.Dev, "sdx"))
	if err != nil {
		t.Fatal(err)
	}
	defer whole.Close()
	if err := whole.Truncate(80 << 20); err != nil {
		t.Fatal(err)
	}
	size, err := disk.Image(whole, "test", 68<<20, []disk.File{{Path: slot.First("1.0.0"), Content: firmwareImage("1.0.0")}})
	if err != nil {
		t.Fatal(err)
	}
	table, _, err := gpt.Read(whole, size)
	if err != nil {
		t.Fatal(err)
	}
	system, err := io.ReadAll(io.NewSectionReader(whole, table.Partitions[0].Offset(), table.Partitions[0].Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{
		filepath.Join(d.Dev, "sdx1"):           system,
		filepath.Join(d.Sys, "block/sdx/size"): fmt.Appendln(nil, size/512),
		d.ReleaseFile:                          []byte("ID=galvo\nGALVO_BOARD=generic-amd64\nGALVO_VERSION=1.0.0\nGALVO_MINIMUM=1.0\nGALVO_BUILD=\"build 1.0.0\"\n"),
		filepath.Join(dir, "test.pub"):         text,
	} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return d, private
}

func firmwareUpdate(t *testing.T, image []byte, key minisign.PrivateKey) []byte {
	t.Helper()
	m, err := bundle.Describe(bytes.NewReader(image), int64(len(image)))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := bundle.Write(&b, m, bundle.Sign(m, key), bytes.NewReader(image)); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestFirmwareCall(t *testing.T) {
	d, key := flashedDevice(t)
	t.Chdir(t.TempDir())
	s := &service{firmware: firmware{device: d}, version: "1.0.0"}
	h := s.handler()
	post := func(body []byte) (*httptest.ResponseRecorder, api.Error) {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, api.FirmwarePath, bytes.NewReader(body)))
		var e api.Error
		json.Unmarshal(w.Body.Bytes(), &e)
		return w, e
	}
	good := firmwareUpdate(t, firmwareImage("1.1.0"), key)
	_, foreign, err := minisign.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(good)
	flipped[len(flipped)/2] ^= 1
	for _, c := range []struct {
		name   string
		body   []byte
		status int
		want   string
	}{
		{"nothing", nil, http.StatusBadRequest, "not an update"},
		{"flipped byte", flipped, http.StatusBadRequest, "not the one that was signed"},
		{"cut", good[:len(good)-1], http.StatusBadRequest, "damaged"},
		{"wrong key", firmwareUpdate(t, firmwareImage("1.1.0"), foreign), http.StatusBadRequest, "key"},
		{"other board", firmwareUpdate(t, ukitest.Image("other", "1.1.0", "1.0", "x", nil), key), http.StatusBadRequest, "for other"},
		{"below the minimum", firmwareUpdate(t, ukitest.Image("generic-amd64", "0.9.0", "0.5", "x", nil), key), http.StatusBadRequest, "none below 1.0"},
		{"the same", firmwareUpdate(t, firmwareImage("1.0.0"), key), http.StatusConflict, "already"},
	} {
		if w, e := post(c.body); w.Code != c.status || !strings.Contains(e.Text, c.want) {
			t.Errorf("%s: %d %q, want %d and %q", c.name, w.Code, e.Text, c.status, c.want)
		}
	}
	w, e := post(good)
	var reply api.Firmware
	if err := json.Unmarshal(w.Body.Bytes(), &reply); err != nil || w.Code != http.StatusOK {
		t.Fatalf("good update: %d %s %v", w.Code, e.Text, err)
	}
	if len(reply.Images) != 2 || !reply.Images[0].Next || reply.Images[0].State != api.FirmwareTrial || reply.Images[0].TriesLeft != 3 || !reply.Images[1].Running {
		t.Errorf("after the update: %+v", reply)
	}
	get := httptest.NewRecorder()
	h.ServeHTTP(get, httptest.NewRequest(http.MethodGet, api.FirmwarePath, nil))
	var again api.Firmware
	if err := json.Unmarshal(get.Body.Bytes(), &again); err != nil || fmt.Sprint(again) != fmt.Sprint(reply) {
		t.Errorf("GET: %+v, %v; want %+v", again, err, reply)
	}
	if left, err := os.ReadDir("."); err != nil || len(left) > 0 {
		t.Errorf("files are left: %v", left)
	}
}

// On a machine that is no appliance the calls say so.
func TestFirmwareElsewhere(t *testing.T) {
	s := &service{firmware: firmware{device: slot.Device{ReleaseFile: "/nonexistent"}}, version: "1"}
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		w := httptest.NewRecorder()
		s.handler().ServeHTTP(w, httptest.NewRequest(method, api.FirmwarePath, strings.NewReader("x")))
		if w.Code != http.StatusNotImplemented || !strings.Contains(w.Body.String(), "does not run Galvo's firmware") {
			t.Errorf("%s: %d %s", method, w.Code, w.Body)
		}
	}
}
