//go:build vmtest

package ring

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"galvo/ci/need"
	"galvo/ci/rig"
	"galvo/qemu"
	"galvo/services/api"
)

// A cut is what a power cut leaves of a disk.
type cut struct {
	image  string
	safe   uint64 // so many frames were recorded, or lost, more than limit before
	limit  time.Duration
	strict uint64 // likewise, a second before
	lost   uint64 // of all these, before they came to the ring
	share  int    // of what was not flushed, in 256
}

// A recorder is an appliance that records in a ring on a disk, as fast as it can, and whose power is cut.
type recorder struct {
	t    *testing.T
	m    *qemu.Machine
	disk *qemu.NBD
	vm   *qemu.VM
	api  *qemu.Client
	base [][]byte

	mu      sync.Mutex
	sent    uint64
	samples []reading // of what was recorded, since the last boot
}

// A reading is what the machine said. Its frames came in order to its one worker, so what was recorded or lost are the first ones.
type reading struct {
	at             time.Time
	recorded, lost uint64
}

const (
	vmRing   = 96 << 20
	vmDisk   = 160 << 20
	vmWindow = 1500 // frames that are on their way at once: more would be lost in the emulated machine
)

// frame returns frame n of all that are ever sent.
func (r *recorder) frame(n uint64) []byte {
	f := append([]byte(nil), r.base[n%uint64(len(r.base))]...)
	binary.BigEndian.PutUint64(f, n)
	return f
}

// boot switches the machine on and waits until its ring records.
func (r *recorder) boot(password string) {
	r.t.Helper()
	r.vm = r.m.Boot(r.t)
	if password == "" {
		password = r.vm.Password()
	}
	r.api = r.vm.Client(password)
	r.api.Answers()
	r.api.PortsUp(1)
}

func (r *recorder) ring() (v api.Ring) {
	r.api.Call(http.MethodGet, "/api/v1/rings/all", nil, &v)
	return v
}

// record sends frames until stop is closed, as fast as the machine takes them, and notes what it says it has recorded. before is what it had when it was booted.
func (r *recorder) record(stop chan struct{}, before uint64) {
	from := r.sent
	r.samples = nil
	for {
		select {
		case <-stop:
			return
		default:
		}
		v, lost := r.ring(), uint64(0)
		var ports []api.Port
		r.api.Call(http.MethodGet, api.ListPorts.Path, nil, &ports)
		for _, p := range ports {
			lost += p.LostKernel + p.LostNic
		}
		r.mu.Lock()
		done := from + v.Packets + lost
		r.samples = append(r.samples, reading{time.Now(), from + v.Packets, lost})
		r.mu.Unlock()
		for _, n := range v.Dropped {
			if n > before {
				r.t.Errorf("the ring dropped packets: %v", v.Dropped)
				return
			}
		}
		var burst [][]byte
		for r.sent < done+vmWindow {
			burst = append(burst, r.frame(r.sent))
			r.sent++
		}
		if err := r.vm.Wires[0].Send(burst...); err != nil {
			return // the power is off
		}
	}
}

// safe returns how many frames were recorded or lost so long ago, and how many were lost up to now.
func (r *recorder) safe(ago time.Duration) (n, lost uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.samples {
		if time.Since(s.at) > ago {
			n = max(n, s.recorded)
		}
		lost = s.lost
	}
	return n, lost
}

// limit is how much a power cut may cost: a second, and more where the emulated machine gets only a part of the time.
func limit() time.Duration {
	load := 0.0
	if text, err := os.ReadFile("/proc/loadavg"); err == nil {
		fmt.Sscan(string(text), &load)
	}
	return time.Duration(min(4, max(1, load/float64(runtime.NumCPU()))) * float64(time.Second))
}

// The power is cut at fifty moments while an appliance records at full rate, on a disk that loses what was not flushed, or a part of it. Ten at a time are taken
// of the running machine, and what they leave of the disk is mounted and opened here; the last one of each ten is followed by a start of the machine.
func TestPowerCutInVM(t *testing.T) {
	need.Root(t)
	losetup := need.Tool(t, "losetup")
	for round := range 5 {
		t.Run(fmt.Sprint("round ", round), func(t *testing.T) {
			r := &recorder{t: t, m: qemu.Direct(t, "amd64"), disk: qemu.NewNBD(t, vmDisk)}
			for _, f := range rig.Mix(uint64(50+round), 4000) {
				r.base = append(r.base, f.Data)
			}
			r.m.Ports = 1
			r.m.Disks, r.m.Append = []qemu.Disk{r.m.BlankDisk(t, 256<<20), r.disk.Disk()}, []string{"galvo.data=/dev/vda"}
			r.boot("")
			if err := r.api.PutConfig("[engine]\nworkers = 1\n[[storage]]\nname = \"disk\"\ndisk = \"/dev/vdb\"\n"); err != nil {
				t.Fatal(err)
			}
			id := ""
			r.api.Wait("the disk is there", func() bool {
				var list api.StorageList
				r.api.Call(http.MethodGet, "/api/v1/storage", nil, &list)
				for _, d := range list.Devices {
					if d.Name == "disk" && d.State == "unformatted" {
						id = d.ID
					}
				}
				return id != ""
			})
			r.api.Must(http.MethodPost, "/api/v1/storage/"+id+"/format", api.FormatRequest{Confirm: "disk"}, nil)
			r.api.Wait("the disk is active", func() bool { return r.api.Call(http.MethodGet, "/api/v1/storage/"+id+"/files/", nil, nil) == nil })
			r.api.PortsUp(1)
			r.api.Must(http.MethodPost, "/api/v1/rings", api.RingRequest{Name: "all", SizeBytes: vmRing, Devices: []string{id}}, nil)
			r.api.Wait("the ring records", func() bool { return r.ring().State == "recording" })

			stop, recording := make(chan struct{}), make(chan struct{})
			go func() { defer close(recording); r.record(stop, 0) }()
			rng := rand.New(rand.NewPCG(uint64(round), 50))
			var cuts []cut
			dir := t.TempDir()
			take := func(snapshot func(c cut) error) {
				time.Sleep(time.Duration(1100+rng.IntN(1500)) * time.Millisecond) // a random moment is what this is about
				c := cut{image: filepath.Join(dir, fmt.Sprint(len(cuts))), share: []int{0, 64, 128, 250}[rng.IntN(4)]}
				c.limit = limit()
				c.safe, c.lost = r.safe(c.limit)
				strict, _ := r.safe(time.Second)
				c.strict = strict
				if err := snapshot(c); err != nil {
					t.Fatal(err)
				}
				cuts = append(cuts, c)
			}
			for range 9 {
				take(func(c cut) error { return r.disk.Snapshot(c.image, c.share) })
			}
			take(func(c cut) error {
				r.disk.Tear(c.share)
				r.vm.PowerCut()
				r.disk.Serve()
				return r.disk.Snapshot(c.image, 0)
			})
			close(stop)
			<-recording
			t.Logf("%d frames sent, %d of them safe at the last cut", r.sent, cuts[len(cuts)-1].safe)
			for i, c := range cuts {
				r.check(losetup, i, c)
			}
			r.goesOn(cuts[len(cuts)-1])
		})
	}
}

// check mounts what a cut left, and opens the ring in it.
func (r *recorder) check(losetup string, i int, c cut) {
	t := r.t
	t.Helper()
	out, err := exec.Command(losetup, "--find", "--show", c.image).CombinedOutput()
	if err != nil {
		need.Missing(t, "loop", fmt.Sprintf("no loop device is to be had: %v: %s", err, out))
	}
	loop, point := strings.TrimSpace(string(out)), t.TempDir()
	defer exec.Command(losetup, "-d", loop).Run()
	if err := unix.Mount(loop, point, "ext4", 0, ""); err != nil {
		t.Fatalf("cut %d: mount: %v", i, err)
	}
	defer unix.Unmount(point, unix.MNT_DETACH) // also when the ring could not be closed
	cfg := Config{Name: "all", Dirs: []string{filepath.Join(point, ".galvo", "rings", "all")}, Workers: 1, QueueBytes: 8 << 20}
	start := time.Now()
	ring, err := Open(cfg)
	took := time.Since(start)
	if err != nil {
		t.Fatalf("cut %d: %v", i, err)
	}
	if took > 2*time.Second {
		t.Errorf("cut %d: opening took %s", i, took)
	}
	state := ring.State()
	have, scan := collect(t, ring, Query{From: state.Oldest, To: math.MaxInt64})
	if g := scan.Gaps; len(g) != 1 || g[0].Why != whyPaused || len(have) > 0 && g[0].From < have[len(have)-1].Time-int64(time.Second) {
		t.Errorf("cut %d: the gap is not that since a second before the last packet, but %v", i, g)
	}
	next, missing, strictly := uint64(0), uint64(0), uint64(0)
	hole := func(from, to uint64) {
		missing += min(to, max(from, c.safe)) - from
		strictly += min(to, max(from, c.strict)) - from
	}
	for k, f := range have {
		n := binary.BigEndian.Uint64(f.Data)
		if k > 0 && n < next || string(f.Data) != string(r.frame(n)) {
			t.Errorf("cut %d: after packet %d comes %d, or it is not what was sent", i, next-1, n)
			break
		}
		if k > 0 {
			hole(next, n)
		}
		next = n + 1
	}
	hole(next, max(next, c.safe))
	if missing > c.lost {
		t.Errorf("cut %d: %d of the packets that were recorded %s before are missing, and %d were lost", i, missing, c.limit, c.lost)
	}
	more := stamp(mix(9, 500), 1, time.Microsecond)
	for k := range more {
		more[k].Time = state.Newest + int64(time.Second) + int64(k)*1000
	}
	s := ring.Stage(0, table)
	play(t, s, &traffic{frames: more})
	s.Finish()
	again, _ := collect(t, ring, Query{From: more[0].Time, To: math.MaxInt64})
	sameFrames(t, more, again)
	closeRing(t, ring)
	t.Logf("cut %d: opened in %s; %d packets, up to %d, are there; up to %d were recorded %s before, up to %d one second before; of these %d and %d are missing, %d were lost before; share %d; problems %q",
		i, took.Round(time.Millisecond), len(have), next, c.safe, c.limit.Round(time.Millisecond), c.strict, missing, strictly, c.lost, c.share, state.Problems)
	os.Remove(c.image)
}

// goesOn switches the machine on after the cut: the ring has what was safe, and records.
func (r *recorder) goesOn(c cut) {
	r.t.Helper()
	r.boot(r.api.Password())
	r.api.Wait("the ring records", func() bool { return r.ring().State == "recording" })
	var burst [][]byte
	for range 1000 {
		burst = append(burst, r.frame(r.sent))
		r.sent++
	}
	if err := r.vm.Wires[0].Send(burst...); err != nil {
		r.t.Fatal(err)
	}
	r.api.Wait("new packets are recorded", func() bool { return r.ring().Packets == 1000 })
	d := r.api.Capture(url.Values{"fromCaptureBuffer": {"true"}, "endTime": {"now"}})
	file, err := d.Wait()
	if err != nil {
		r.t.Fatal(err)
	}
	name := filepath.Join(r.t.TempDir(), "past.pcapng")
	if err := os.WriteFile(name, file, 0o600); err != nil {
		r.t.Fatal(err)
	}
	frames, err := rig.ReadFile(name)
	if err != nil || len(frames) < 2000 {
		r.t.Fatalf("%d frames, %v", len(frames), err)
	}
	var last, missing uint64
	for i, f := range frames {
		n := binary.BigEndian.Uint64(f.Data)
		if i > 0 && n <= last || string(f.Data) != string(r.frame(n)) {
			r.t.Fatalf("after packet %d comes %d, or it is not what was sent", last, n)
		}
		if i > 0 {
			missing += min(n, max(last+1, c.safe)) - (last + 1)
		}
		last = n
	}
	if missing > c.lost {
		r.t.Errorf("%d of the packets up to %d are missing, and %d were lost", missing, c.safe, c.lost)
	}
	if last != r.sent-1 {
		r.t.Errorf("the last packet is %d, want %d", last, r.sent-1)
	}
}
