package qemu

import (
	"bytes"
	"cmp"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"galvo/ci/pace"
	"galvo/ci/rig"
	"galvo/services/api"
)

// atOnce is how many frames are on their way at once. More are lost, and counted, where an emulated processor stands still for too long.
const atOnce = 4000

// capture lets frames in through a wire and returns what the capture URL gives of them.
func capture(t *testing.T, c *Client, w *Wire, frames [][]byte) []rig.Frame {
	t.Helper()
	d := c.Capture(url.Values{"maxPackets": {strconv.Itoa(len(frames))}})
	sent := 0
	for part := range slices.Chunk(frames, atOnce) {
		if err := w.Send(part...); err != nil {
			t.Fatal(err)
		}
		if sent += len(part); sent < len(frames) {
			c.Wait("the frames so far are captured", func() bool {
				var list api.CaptureList
				err := c.Call(http.MethodGet, api.ListCaptures.Path, nil, &list)
				return err == nil && len(list.Captures) > 0 && list.Captures[0].Captured+list.Captures[0].Lost >= uint64(sent)
			})
		}
	}
	file, err := d.Wait()
	if err != nil {
		t.Fatalf("capture: %v", err)
	}
	return savefile(t, file)
}

// savefile returns the frames in a pcapng.
func savefile(t *testing.T, file []byte) []rig.Frame {
	t.Helper()
	name := filepath.Join(t.TempDir(), "capture.pcapng")
	if err := os.WriteFile(name, file, 0o600); err != nil {
		t.Fatal(err)
	}
	frames, err := rig.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return frames
}

func data(frames []rig.Frame) (all [][]byte) {
	for _, f := range frames {
		all = append(all, f.Data)
	}
	return all
}

// same compares frames byte for byte, in the order of their times. Frames that the machine's clock gave the same time may have changed places: two workers had them. A capture waits
// 60 ms for a worker that lags behind, and an emulated machine's processor stands still for longer on a busy one: then whole runs of frames leave later, with their times.
func same(t *testing.T, got []rig.Frame, want [][]byte) {
	t.Helper()
	byTime := func(a, b rig.Frame) int { return cmp.Compare(a.Time, b.Time) }
	if !slices.IsSortedFunc(got, byTime) {
		t.Logf("frames left after younger ones: a worker was more than 60 ms behind, with this machine's load at %.1f", load())
		got = slices.Clone(got)
		slices.SortStableFunc(got, byTime)
	}
	if len(got) != len(want) {
		t.Fatalf("%d frames came back of %d", len(got), len(want))
	}
	wrong := 0
	for i := 0; i < len(got); {
		n := 1
		for i+n < len(got) && got[i+n].Time == got[i].Time {
			n++
		}
		one, other := slices.Clone(data(got[i:i+n])), slices.Clone(want[i:i+n])
		slices.SortFunc(one, bytes.Compare)
		slices.SortFunc(other, bytes.Compare)
		if !slices.EqualFunc(one, other, bytes.Equal) {
			if wrong += n; wrong <= 3 {
				where := slices.IndexFunc(got, func(f rig.Frame) bool { return bytes.Equal(f.Data, want[i]) })
				t.Errorf("frame %d at %s came back as\n%x\nand was\n%x\nwhich is in place %d of what came back", i, got[i].Time, got[i].Data, want[i], where)
				if where >= 0 {
					t.Errorf("it has the time %s", got[where].Time)
				}
			}
		}
		i += n
	}
	if wrong > 3 {
		t.Errorf("%d frames are different", wrong)
	}
}

// silent says what a machine has sent on its capture ports, which is nothing.
func silent(t *testing.T, v *VM) {
	t.Helper()
	for i, w := range v.Wires {
		if sent := w.Received(); len(sent) > 0 {
			t.Errorf("capture port %d sent %d frames by itself; the first is %x", i+1, len(sent), sent[0])
		}
	}
}

// bootTime is how long the page may take to answer after power on, emulated on a machine that has nothing else to do.
const bootTime = 12 * time.Second

// The kernel, init and the services start, the page answers, and frames come back byte for byte.
func TestBoot(t *testing.T) {
	for _, arch := range []string{"amd64", "arm64"} {
		t.Run(arch, func(t *testing.T) {
			m := Direct(t, arch)
			m.Ports = 2
			m.Disks, m.Append = []Disk{m.BlankDisk(t, 256<<20)}, []string{"galvo.data=/dev/vda"}
			m.Watchdog = arch == "amd64"
			v := m.Boot(t)
			c := v.Client(v.Password())
			c.Answers()
			answered, busy := time.Since(v.Started), load()
			t.Logf("answers %.1f s after power on, %.1f s after the kernel's start, with this machine's load at %.1f\n%s", answered.Seconds(), readyAfter(t, v), busy, phases(v))
			if arch == "amd64" && busy < 1 && answered > bootTime {
				if slow := pace.Slowness(); answered > time.Duration(slow*float64(bootTime)) {
					t.Errorf("the page answered %s after power on, on a machine with nothing else to do where things take %.1f times as long as elsewhere; at most %s times that are allowed", answered, slow, bootTime)
				}
			}
			c.PortsUp(2)
			frames := data(rig.Mix(1, 1000))
			same(t, capture(t, c, v.Wires[0], frames), frames)
			silent(t, v)
			if resp, err := c.Do(http.MethodPost, "/api/v1/system/poweroff", "", nil); err != nil || resp.StatusCode/100 != 2 {
				t.Fatalf("poweroff: %v %v", resp, err)
			}
			v.AwaitOff()
		})
	}
}

// phases returns init's table.
func phases(v *VM) string {
	v.Console.Await(Patience(v.t), "confirm the running image")
	return strings.Join(regexp.MustCompile(`(?m)^(phase |.* s  (ok|degraded|failed)).*$`).FindAllString(v.Console.String(), -1), "\n")
}

// load is how many processes want this machine's processors, over the last minute.
func load() float64 {
	text, _ := os.ReadFile("/proc/loadavg")
	before, _, _ := strings.Cut(string(text), " ")
	n, _ := strconv.ParseFloat(before, 64)
	return n
}

// BenchmarkReady is the time from the start of the kernel to the line ready, by direct kernel boot.
func BenchmarkReady(b *testing.B) {
	for arch := range hardware {
		b.Run(arch, func(b *testing.B) {
			m := Direct(b, arch)
			m.Ports = 2
			total := 0.0
			for range b.N {
				v := m.Boot(b)
				if err := v.Console.Await(Patience(b), "\nready https://"); err != nil {
					b.Fatalf("%v\n%s", err, v.Console.Tail())
				}
				total += readyAfter(b, v)
				b.Logf("with this machine's load at %.1f\n%s", load(), phases(v))
				v.PowerCut()
			}
			b.ReportMetric(total/float64(b.N), "s/ready")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// readyAfter returns when the page answered, in seconds since the kernel started, as init's table has it.
func readyAfter(t testing.TB, v *VM) float64 {
	t.Helper()
	m := regexp.MustCompile(`wait for the page +([0-9.]+) s +([0-9.]+) s`).FindStringSubmatch(phases(v))
	if m == nil {
		t.Fatalf("init's table has no page:\n%s", v.Console.Tail())
	}
	begin, _ := strconv.ParseFloat(m[1], 64)
	took, _ := strconv.ParseFloat(m[2], 64)
	return begin + took
}
