package host

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"galvo/services/api"
	"galvo/services/config"
	"galvo/services/internal/disk"
	"galvo/services/internal/memory"
)

// A desk is the service's API without a machine behind it.
type desk struct {
	*testing.T
	handler http.Handler
	keeper  *keeper
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	dir := t.TempDir()
	store, err := config.Open(filepath.Join(dir, "config.toml"))
	if err != nil {
		t.Fatal(err)
	}
	storage, err := newStorage(Options{}, store, disk.Local())
	if err != nil {
		t.Fatal(err)
	}
	k, err := newKeeper(Options{State: dir}, store, storage)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.nics.close)
	trial, err := openTrial(store, filepath.Join(dir, "unconfirmed.toml"), k.poke, k.managed)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(trial.close)
	return &desk{t, (&service{store: store, keeper: k, storage: storage, trial: trial, version: "test"}).handler(), k}
}

// call returns the status and text of an answer, and reads it into reply if that is not nil.
func (d *desk) call(method, path, body string, reply any) (int, string) {
	d.Helper()
	r, err := http.NewRequest(method, path, strings.NewReader(body))
	if err != nil {
		d.Fatal(err)
	}
	r.Header.Set("Content-Type", map[bool]string{true: "application/json", false: "application/toml"}[strings.HasPrefix(body, "{")])
	w := &answer{header: http.Header{}, status: 200}
	d.handler.ServeHTTP(w, r)
	if reply != nil {
		if err := json.Unmarshal([]byte(w.String()), reply); err != nil {
			d.Fatalf("%s %s: %d %s", method, path, w.status, w.String())
		}
	}
	return w.status, w.String()
}

type answer struct {
	strings.Builder
	header http.Header
	status int
}

func (a *answer) Header() http.Header    { return a.header }
func (a *answer) WriteHeader(status int) { a.status = status }

// Who replaces a configuration that another one has changed meanwhile is told, if he says which one he has seen.
func TestIfMatch(t *testing.T) {
	d := newDesk(t)
	tag := func(path string) string {
		w := &answer{header: http.Header{}, status: 200}
		r, err := http.NewRequest("GET", path, nil)
		if err != nil {
			t.Fatal(err)
		}
		d.handler.ServeHTTP(w, r)
		return w.header.Get("ETag")
	}
	put := func(match, body string) (int, string) {
		w := &answer{header: http.Header{}, status: 200}
		r, err := http.NewRequest("PUT", "/api/v1/config", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/toml")
		r.Header.Set("If-Match", match)
		d.handler.ServeHTTP(w, r)
		return w.status, w.String()
	}
	first := tag("/api/v1/config")
	if first == "" || tag("/api/v1/config/export") != "" {
		t.Errorf("tags %q, %q", first, tag("/api/v1/config/export"))
	}
	if status, text := put(first, "[captures]\nmax = 5\n"); status != 200 {
		t.Errorf("the one that was seen: %d %s", status, text)
	}
	if status, text := put(first, "[captures]\nmax = 6\n"); status != 412 || !strings.Contains(text, `"changed"`) {
		t.Errorf("another one: %d %s", status, text)
	}
	second := tag("/api/v1/config")
	for _, match := range []string{"*", first + ", " + tag("/api/v1/config"), ""} {
		if status, text := put(match, "[captures]\nmax = 5\n"); status != 200 || tag("/api/v1/config") != second {
			t.Errorf("%s: %d %s", match, status, text)
		}
	}
}

// Ten generations can be looked at and restored.
func TestGenerations(t *testing.T) {
	d := newDesk(t)
	for max := 5; max <= 17; max++ {
		if status, text := d.call("PUT", "/api/v1/config", fmt.Sprintf("[captures]\nmax = %d\n", max), nil); status != 200 {
			t.Fatal(status, text)
		}
	}
	var list []api.Generation
	d.call("GET", "/api/v1/config/generations", "", &list)
	if len(list) != 10 || list[0].Number != 1 || list[9].Time == 0 || len(list[9].Changes) != 1 || list[9].Changes[0].Field != "captures.max" || list[9].Changes[0].New != "7" {
		t.Errorf("generations %+v", list)
	}
	if status, text := d.call("GET", "/api/v1/config/generations/10", "", nil); status != 200 || !strings.Contains(text, "\nmax = 7\n") {
		t.Errorf("%d %.200s", status, text)
	}
	var check api.ConfigCheck
	if status, _ := d.call("POST", "/api/v1/config/generations/3/restore", "", &check); status != 200 || check.Changes[0].New != "14" || check.ConfirmSeconds != 0 {
		t.Errorf("restored: %d %+v", status, check)
	}
	if _, text := d.call("GET", "/api/v1/config", "", nil); !strings.Contains(text, "\nmax = 14\n") {
		t.Errorf("%.300s", text)
	}
	if status, _ := d.call("POST", "/api/v1/config/generations/11/restore", "", nil); status != 422 && status != 400 {
		t.Errorf("an eleventh generation: %d", status)
	}
	if status, text := newDesk(t).call("GET", "/api/v1/config/generations/1", "", nil); status != 404 || !strings.Contains(text, "there is no generation 1") {
		t.Errorf("%d %s", status, text)
	}
}

// Parts are exported, imported and reset by themselves.
func TestParts(t *testing.T) {
	d := newDesk(t)
	const whole = "[device]\nname = \"lab\"\n[[port]]\nname = \"eth1\"\n[[group]]\nname = \"a\"\ninterfaces = [1]\n[captures]\nmax = 9\n"
	d.call("PUT", "/api/v1/config", whole, nil)
	_, text := d.call("GET", "/api/v1/config/export?parts=captures,port", "", nil)
	if !strings.Contains(text, "max = 9") || !strings.Contains(text, "eth1") || strings.Contains(text, "[device]") || strings.Contains(text, "[[group]]") {
		t.Errorf("exported:\n%s", text)
	}
	if status, reason := d.call("GET", "/api/v1/config/export?parts=capture", "", nil); status != 400 || !strings.Contains(reason, "is no part of the configuration; there are device") {
		t.Errorf("%d %s", status, reason)
	}

	other := newDesk(t)
	if status, text := other.call("POST", "/api/v1/config/import?parts=captures", text, nil); status != 200 {
		t.Errorf("import: %d %s", status, text)
	}
	if _, text := other.call("GET", "/api/v1/config", "", nil); !strings.Contains(text, "max = 9") || strings.Contains(text, "eth1\"") {
		t.Errorf("only captures were to be imported:\n%s", text)
	}

	var check api.ConfigCheck
	if status, _ := d.call("POST", "/api/v1/config/reset", `{"keep":["device"]}`, &check); status != 200 {
		t.Errorf("reset: %d %+v", status, check)
	}
	if _, text := d.call("GET", "/api/v1/config", "", nil); !strings.Contains(text, "\nname = \"lab\"\n") || !strings.Contains(text, "\nmax = 4\n") {
		t.Errorf("after the reset:\n%s", text)
	}
	if status, _ := d.call("POST", "/api/v1/config/reset", `{}`, nil); status != 200 {
		t.Errorf("reset of all: %d", status)
	}
	if _, text := d.call("GET", "/api/v1/config", "", nil); strings.Contains(text, "name = \"lab\"") {
		t.Errorf("after the reset of all:\n%s", text)
	}
}

// A change of the way to the device must be confirmed, once.
func TestConfirm(t *testing.T) {
	d := newDesk(t)
	if status, text := d.call("POST", "/api/v1/config/confirm", "", nil); status != 409 || !strings.Contains(text, "nothing to confirm") {
		t.Errorf("%d %s", status, text)
	}
	var check api.ConfigCheck
	d.call("PUT", "/api/v1/config", "[management]\nport = \"nic7\"\nipv4 = \"link-local\"\n", &check)
	if check.ConfirmSeconds != 60 || len(check.Changes) != 2 {
		t.Errorf("%+v", check)
	}
	var n api.Network
	if d.call("GET", "/api/v1/system/network", "", &n); n.ConfirmSeconds < 1 || len(n.Problems) != 1 {
		t.Errorf("%+v", n)
	}
	if status, _ := d.call("POST", "/api/v1/config/confirm", "", nil); status != 204 {
		t.Errorf("confirm: %d", status)
	}
	if status, text := d.call("PUT", "/api/v1/config", "[management]\nipv4 = \"static\"\n", nil); status != 400 || !strings.Contains(text, "static needs address") {
		t.Errorf("%d %s", status, text)
	}
}

// A plan that is impossible is refused before it is saved, one that is tight says what it costs.
func TestMemoryOfConfig(t *testing.T) {
	d := newDesk(t)
	var few, many api.ConfigCheck
	d.call("POST", "/api/v1/config/check", "[captures]\nmax = 4\n", &few)
	d.call("POST", "/api/v1/config/check", "[captures]\nmax = 64\n", &many)
	part := func(c api.ConfigCheck, name string) api.MemoryPart {
		i := slices.IndexFunc(c.Memory.Parts, func(p api.MemoryPart) bool { return p.Name == name })
		return c.Memory.Parts[i]
	}
	if a, b := part(few, memory.Statistics), part(many, memory.Statistics); b.Bytes >= a.Bytes {
		t.Errorf("statistics have %d with 4 captures and %d with 64", a.Bytes, b.Bytes)
	}
	var greedy api.ConfigCheck
	d.call("POST", "/api/v1/config/check", "[captures]\nmax = 64\nqueueBytes = 100_000_000_000\n", &greedy)
	if p := part(greedy, memory.CaptureQueues); p.Bytes >= p.Want || !strings.Contains(p.Why, "64 captures") {
		t.Errorf("greedy captures: %+v", p)
	}
	ports := ""
	for i := range 64 {
		ports += fmt.Sprintf("[[port]]\nname = \"p%d\"\n", i)
	}
	impossible := ports + "[engine]\nworkers = 64\nmemoryPercent = 5\n"
	var check api.ConfigCheck
	if d.call("POST", "/api/v1/config/check", impossible, &check); check.Error == nil || !strings.Contains(check.Error.Text, "lower engine.workers") {
		t.Errorf("an impossible plan: %+v", check.Error)
	}
	if status, text := d.call("PUT", "/api/v1/config", impossible, nil); status != 400 {
		t.Errorf("an impossible plan is saved: %d %s", status, text)
	}
	var m api.Memory
	if d.call("GET", "/api/v1/system/memory", "", &m); m.Total == 0 || m.Kernel == 0 || m.Share+m.Kernel != m.Total {
		t.Errorf("memory %+v", m)
	}
}

// TestTooLittleMemory has a plan that does not fit the ports that were named at the start: what the engine ends with is among the device's problems.
func TestTooLittleMemory(t *testing.T) {
	d := newDesk(t)
	if status, text := d.call("PUT", "/api/v1/config", "[engine]\nworkers = 64\nmemoryPercent = 5\n", nil); status >= 300 {
		t.Fatalf("%d %s", status, text)
	}
	problems := func() string {
		var n api.Network
		d.call("GET", api.GetNetwork.Path, "", &n)
		return strings.Join(n.Problems, "\n")
	}
	if p := problems(); strings.Contains(p, "engine") {
		t.Errorf("problems without ports: %s", p)
	}
	for i := range 64 {
		d.keeper.options.Interfaces = append(d.keeper.options.Interfaces, fmt.Sprintf("p%d", i))
	}
	if p := problems(); !strings.Contains(p, "the engine cannot start") || !strings.Contains(p, "lower engine.workers") {
		t.Errorf("problems with 64 ports: %s", p)
	}
}
