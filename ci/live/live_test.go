package live

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/gopacket/pcapgo"

	"galvo/ci/device"
	"galvo/ci/need"
	"galvo/ci/pace"
	"galvo/ci/rig"
	"galvo/services/api"
)

// twoWorkers is the configuration of most tests.
const twoWorkers = "[engine]\nworkers = 2\n"

// frameOf returns the frames of a savefile.
func framesOf(t testing.TB, file string) (frames [][]byte) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := pcapgo.NewNgReader(f, pcapgo.DefaultNgReaderOptions)
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	for {
		data, _, err := r.ReadPacketData()
		if err == io.EOF {
			return frames
		}
		if err != nil {
			t.Fatalf("%s: after %d packets: %v", file, len(frames), err)
		}
		frames = append(frames, data)
	}
}

// pair is what a frame's order is kept within: the flow, as far as its addresses go.
func pair(frame []byte) string {
	a, b := string(frame[0:6]), string(frame[6:12])
	return min(a, b) + max(a, b)
}

// sameFrames compares what arrived with what was sent: the same bytes, as often, and in order within each pair of addresses.
func sameFrames(t *testing.T, what string, got, want [][]byte) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s: %d frames, want %d", what, len(got), len(want))
	}
	count := map[string]int{}
	for _, f := range want {
		count[string(f)]++
	}
	for _, f := range got {
		count[string(f)]--
	}
	off := 0
	for f, n := range count {
		if n != 0 {
			if off++; off <= 3 {
				t.Errorf("%s: a frame of %d bytes came %d times too few: %x", what, len(f), n, f[:min(len(f), 64)])
			}
		}
	}
	if off > 0 {
		t.Errorf("%s: %d frames differ", what, off)
		return
	}
	order := func(frames [][]byte) map[string][][]byte {
		m := map[string][][]byte{}
		for _, f := range frames {
			m[pair(f)] = append(m[pair(f)], f)
		}
		return m
	}
	wanted := order(want)
	for p, frames := range order(got) {
		if !slices.EqualFunc(frames, wanted[p], bytes.Equal) {
			t.Errorf("%s: frames between %x are out of order", what, p)
			return
		}
	}
}

func play(t testing.TB, tx *rig.End, frames []rig.Frame, rate float64) uint64 {
	t.Helper()
	report, err := (&rig.Player{To: tx, Rate: rate}).Play(context.Background(), frames)
	if err != nil || report.Errors > 0 {
		t.Errorf("%v: %v", report, err) // not Fatal: it may run beside the test
	}
	return uint64(report.Sent) - report.Dropped
}

func dataOf(frames []rig.Frame) (data [][]byte) {
	for _, f := range frames {
		data = append(data, f.Data)
	}
	return data
}

// filters are what the product is asked for: every layer, and l7 among them.
var filters = []string{
	"l4Protocol == TCP",
	"port == 53 or port == 443",
	"vlan == any",
	"macProtocol == MPLS or macProtocol == PPPoE",
	"ipFragment == 1",
	"tcpFlags == syn and tcpFlags == !ack",
	"len > 1000 and ip != 10.0.0.1",
	"l7Protocol == DNS",
	"l7Protocol == TLS,HTTP and serverport == 1-1023",
	`regexp == "(?i)host: |cookie" or l7Protocol == SIP`,
}

func TestEndToEnd(t *testing.T) {
	need.Tool(t, "curl")
	tx, rx := rig.VethFor(t)
	d := start(t, rx.Netns, twoWorkers+"[captures]\nmax = 16\nqueueBytes = 256000000\n", rx.Name)
	d.portsUp(1)
	frames := rig.Mix(1, 100_000)
	file := filepath.Join(t.TempDir(), "mix.pcap")
	if err := rig.WritePcap(file, frames); err != nil {
		t.Fatal(err)
	}

	all := d.curl(url.Values{}, "")
	var downloads []*download
	for _, f := range filters {
		downloads = append(downloads, d.curl(url.Values{"expression": {f}}, ""))
	}
	sent := play(t, tx, frames, 50_000)
	if sent != uint64(len(frames)) {
		t.Fatalf("%d of %d frames arrived at the port", sent, len(frames))
	}
	d.settle(sent)
	d.end(append(downloads, all)...)

	sameFrames(t, "no filter", framesOf(t, all.file), dataOf(frames))
	for i, f := range filters {
		want := filepath.Join(t.TempDir(), "want.pcapng")
		if out, err := exec.Command(d.Galvo, "read", "-filter", f, "-undecided", "skip", "-w", want, file).CombinedOutput(); err != nil {
			t.Fatalf("galvo read -filter %q: %v: %s", f, err, out)
		}
		wanted := framesOf(t, want)
		if len(wanted) == 0 {
			t.Errorf("no frame of the mix matches %q: the comparison says nothing", f)
		}
		sameFrames(t, f, framesOf(t, downloads[i].file), wanted)
	}
	for _, c := range d.finished().Captures {
		if sum(c) != sent {
			t.Errorf("%q: the counters add up to %d, want %d: %+v", c.Expression, sum(c), sent, c.Counters)
		}
		if c.Dropped+c.Held+c.Lost != 0 {
			t.Errorf("%q: %+v", c.Expression, c.Counters)
		}
	}
}

// The equation holds with many captures, some of them slow and one that never reads.
func TestSlowClientsAndManyCaptures(t *testing.T) {
	need.Tool(t, "curl")
	tx, rx := rig.VethFor(t)
	d := start(t, rx.Netns, twoWorkers+"[captures]\nmax = 64\nqueueBytes = 1000000\n", rx.Name)
	d.portsUp(1)
	var downloads []*download
	for i := range 64 {
		rate := ""
		if i%16 == 0 {
			rate = "100k"
		}
		downloads = append(downloads, d.curl(url.Values{"expression": {fmt.Sprintf("len > %d", i*10)}}, rate))
	}
	if err := d.call("POST", "/api/v1/captures", api.CaptureRequest{}, nil); err == nil || api.ErrorOf(err).Kind != api.TooManyCaptures {
		t.Errorf("the 65th capture: %v, want a refusal", err)
	}
	downloads[1].cmd.Process.Signal(syscall.SIGSTOP)
	frames := rig.Mix(2, 60_000)
	sent := play(t, tx, frames, 30_000)
	d.settle(sent)
	list := d.captures().Captures
	if len(list) != 64 {
		t.Errorf("%d captures run, want 64: a slow client keeps its capture", len(list))
	}
	for _, c := range list {
		if sum(c) != sent {
			t.Errorf("running %q: the counters add up to %d, want %d: %+v", c.Expression, sum(c), sent, c.Counters)
		}
	}
	downloads[1].cmd.Process.Signal(syscall.SIGKILL)
	downloads[1].cmd.Wait()
	d.wait("the capture of the dead client ends", func() bool { return len(d.captures().Captures) == 63 })
	for _, c := range d.captures().Captures {
		d.must("DELETE", "/api/v1/captures/"+c.ID, nil, nil)
	}
	for i, dl := range downloads {
		if i != 1 {
			dl.cmd.Wait() // the slow ones are cut off with what they did not take counted as dropped
		}
	}
	d.wait("64 captures have ended", func() bool { return len(d.finished().Captures) == 64 })
	dropped := false
	for _, c := range d.finished().Captures {
		if sum(c) != sent {
			t.Errorf("finished %q: the counters add up to %d, want %d: %+v", c.Expression, sum(c), sent, c.Counters)
		}
		dropped = dropped || c.Dropped > 0
	}
	if !dropped {
		t.Error("no slow client lost a packet: the test did not stress the queues")
	}
	for i, dl := range downloads {
		if i%16 != 0 && i != 1 {
			framesOf(t, dl.file) // a complete savefile, whatever was dropped
		}
	}
}

// away is how long a service may be away that was killed, on a machine that has nothing else to do.
const away = 2 * time.Second

// kill kills a service and waits until it is back. If that takes too long it is tried again when the test has no more use for the device: the best time counts.
func (d *tested) kill(role string) {
	d.t.Helper()
	took := d.killOnce(role)
	if took <= away {
		return
	}
	d.t.Cleanup(func() {
		if d.t.Failed() {
			return
		}
		first, limit := true, time.Duration(pace.Slowness()*float64(away))
		pace.Within(d.t, limit, func() time.Duration {
			if !first {
				took = d.killOnce(role)
			}
			first = false
			return took
		})
	})
}

// killOnce kills a service and returns how long it was away.
func (d *tested) killOnce(role string) time.Duration {
	d.t.Helper()
	pid := d.Service(role)
	if pid == 0 {
		d.t.Fatalf("there is no process %s", role)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		d.t.Fatal(err)
	}
	killed := time.Now()
	d.wait(role+" is back", func() bool { n := d.Service(role); return n != 0 && n != pid })
	d.wait("the device is well", func() bool {
		var s api.Status
		return d.call("GET", "/api/v1/status", nil, &s) == nil && s.State == "ok"
	})
	took := time.Since(killed)
	d.t.Logf("%s was back after %s", role, took)
	return took
}

func TestKilledEngine(t *testing.T) {
	need.Tool(t, "curl")
	tx, rx := rig.VethFor(t)
	d := start(t, rx.Netns, twoWorkers, rx.Name)
	d.portsUp(1)
	dl := d.curl(url.Values{"expression": {"l4Protocol == TCP"}}, "")
	frames := rig.Mix(3, 60_000)
	sent := make(chan uint64, 1)
	go func() { sent <- play(t, tx, frames, 15_000) }()
	d.wait("frames arrive", func() bool { return d.received() > 10_000 })
	d.kill("engine")
	dl.cmd.Wait()
	d.portsUp(1)
	n := <-sent
	d.wait("every frame is accounted for", func() bool { return d.received() == n })
	lost := d.ports()[0]
	if lost.LostKernel == 0 || len(lost.Gaps) == 0 {
		t.Errorf("no frame was lost while there was no engine: %+v", lost)
	}
	t.Logf("%d frames sent, %d received, %d lost", n, lost.RxPackets, lost.LostKernel)
	var inGaps uint64
	for _, g := range lost.Gaps {
		if g.Start >= g.End {
			t.Errorf("frames were lost in no time: %+v", g)
		}
		inGaps += g.Lost
	}
	if inGaps != lost.LostKernel+lost.LostNic {
		t.Errorf("the gaps add up to %d, want %d: %+v", inGaps, lost.LostKernel+lost.LostNic, lost.Gaps)
	}
	list := d.finished().Captures
	if len(list) != 1 || list[0].State != "interrupted" {
		t.Fatalf("finished captures: %+v, want one that was interrupted", list)
	}
	if c := list[0]; c.Captured == 0 || c.Ignored == 0 || sum(c) > n {
		t.Errorf("the interrupted capture has %+v of %d frames", c.Counters, n)
	}

	// The new engine captures.
	again := d.curl(url.Values{}, "")
	more := rig.Mix(4, 1000)
	n += play(t, tx, more, 0)
	d.settle(n)
	d.end(again)
	sameFrames(t, "after the kill", framesOf(t, again.file), dataOf(more))
}

// Frames that found the rings full are lost, and counted to the last one.
func TestOverload(t *testing.T) {
	need.Tool(t, "curl")
	tx, rx := rig.VethFor(t)
	d := start(t, rx.Netns, twoWorkers, rx.Name)
	d.portsUp(1)
	dl := d.curl(url.Values{"expression": {"l4Protocol == TCP"}}, "")
	engine := d.Service("engine")
	if err := syscall.Kill(engine, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	frames := rig.Mix(11, 100_000)
	var sent uint64
	for range 10 { // more than two rings of 128 MiB hold
		sent += play(t, tx, frames, 0)
	}
	if err := syscall.Kill(engine, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	d.wait("every frame is accounted for", func() bool { return d.received() == sent })
	p := d.ports()[0]
	if p.LostKernel == 0 || len(p.Gaps) == 0 {
		t.Errorf("nothing was lost: the test did not overload the rings: %+v", p)
	}
	t.Logf("%d frames sent, %d received, %d lost", sent, p.RxPackets, p.LostKernel)
	d.end(dl)
	c := d.finished().Captures[0]
	if sum(c) != sent || c.Lost != p.LostKernel {
		t.Errorf("the counters add up to %d, want %d: %+v", sum(c), sent, c.Counters)
	}
}

func TestKilledHostAndWeb(t *testing.T) {
	need.Tool(t, "curl")
	tx, rx := rig.VethFor(t)
	d := start(t, rx.Netns, twoWorkers, rx.Name)
	d.portsUp(1)
	engine := d.Service("engine")
	d.kill("web")
	if d.Service("engine") != engine {
		t.Error("the engine was restarted with the web service")
	}
	dl := d.curl(url.Values{}, "")
	frames := rig.Mix(5, 30_000)
	sent := make(chan uint64, 1)
	before := d.received()
	go func() { sent <- play(t, tx, frames, 10_000) }()
	d.kill("host")
	d.portsUp(1)
	d.settle(before + <-sent)
	if d.Service("engine") != engine {
		t.Error("the engine was restarted with the host service")
	}
	d.end(dl)
	sameFrames(t, "while the host was killed", framesOf(t, dl.file), dataOf(frames))
}

func TestPortRemovedUnderLoad(t *testing.T) {
	need.Tool(t, "curl")
	txA, rxA := rig.VethFor(t)
	txB, _, err := rig.Veth(rig.NetnsFor(t), "tx1", rxA.Netns, "rx1", 0)
	if err != nil {
		t.Fatal(err)
	}
	d := start(t, rxA.Netns, twoWorkers, rxA.Name, "rx1")
	d.portsUp(2)
	dl := d.curl(url.Values{}, "")
	sent := make(chan uint64, 1)
	go func() { sent <- play(t, txA, rig.Mix(6, 40_000), 10_000) }()
	frames := rig.Mix(7, 200_000)
	ctx, cancel := context.WithCancel(context.Background())
	gone := make(chan rig.Report, 1)
	go func() {
		report, _ := (&rig.Player{To: txB, Rate: 20_000}).Play(ctx, frames)
		gone <- report
	}()
	d.wait("frames arrive on both ports", func() bool {
		p := d.ports()
		return len(p) == 2 && p[0].RxPackets > 1000 && p[1].RxPackets > 1000
	})
	if err := txB.Remove(); err != nil {
		t.Fatal(err)
	}
	d.wait("the port is absent", func() bool { return d.ports()[1].State == "absent" })
	cancel()
	<-gone
	n := <-sent
	d.wait("the other port goes on", func() bool {
		p := d.ports()[0]
		return p.RxPackets+p.LostKernel+p.LostNic == n
	})
	total := d.received()

	// The port comes back, and is captured again by the same capture.
	txB, _, err = rig.Veth(rig.NetnsFor(t), "tx1", rxA.Netns, "rx1", 0)
	if err != nil {
		t.Fatal(err)
	}
	d.portsUp(2)
	more := rig.Mix(8, 1000)
	total += play(t, txB, more, 0)
	d.settle(total)
	list := d.captures().Captures
	if len(list) != 1 || sum(list[0]) != d.received() {
		t.Errorf("the capture has %+v of %d frames", list, d.received())
	}
	d.end(dl)
	got := framesOf(t, dl.file)
	if want := int(list[0].Captured); len(got) != want {
		t.Errorf("the file has %d frames, want %d", len(got), want)
	}
	if c := d.finished().Captures[0]; c.Lost+c.Dropped == 0 {
		sameFrames(t, "after the port came back", got[len(got)-len(more):], dataOf(more))
	}
}

// galvo capture takes a capture from a device, and ends by each of its limits with the counters on its last line.
func TestRemoteCapture(t *testing.T) {
	tx, rx := rig.VethFor(t)
	d := start(t, rx.Netns, twoWorkers, rx.Name)
	d.portsUp(1)
	frames := rig.Mix(10, 3000)
	for _, c := range []struct {
		args []string
		want string // of the last line
		got  func(n int) bool
	}{
		{[]string{"-max-packets", "100"}, "captured=100 dropped=0 ", func(n int) bool { return n == 100 }},
		{[]string{"-filter", "l4Protocol == TCP", "-duration"}, " dropped=0 ", func(n int) bool { return n > 1000 && n < 3000 }},
		{[]string{"-max-bytes", "50000", "-snaplen", "60"}, " bytes=4", func(n int) bool { return n > 800 && n < 3000 }},
	} {
		pace.Patiently(t, func(times time.Duration) error {
			args := slices.Clone(c.args)
			if args[len(args)-1] == "-duration" { // which must be enough for the frames to come
				args = append(args, (times * 1500 * time.Millisecond).String())
			}
			last, n := d.takeRemotely(tx, frames, args...)
			if strings.Contains(last, c.want) && c.got(n) {
				return nil
			}
			err := fmt.Errorf("galvo capture %s: %d packets, and the last line is %q, want %q in it", args, n, last, c.want)
			if len(args) == len(c.args) {
				t.Error(err)
				return nil
			}
			return err
		})
	}
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"capture"}, 2, "-d"},
		{[]string{"capture", "-k", "-d", d.URL, "-filter", "ip == x"}, 1, "position 6"},
		{[]string{"capture", "-k", "-d", d.URL, "-from", "now-1h"}, 1, "ring"},
		{[]string{"capture", "-d", d.URL}, 1, "certificate"},
		{[]string{"capture", "-k", "-d", d.URL, "-duration", "1s", "-w", "/dev/none/file"}, 1, "/dev/none/file"},
	} {
		code, said := d.remote(c.args...)
		if code != c.code || !strings.Contains(said, c.want) {
			t.Errorf("galvo %s: exit code %d, said %q, want %d and %q", c.args, code, said, c.code, c.want)
		}
		if code == 1 && !strings.Contains(said, "\ncaptured=0 dropped=0 ignored=0 held=0 lost=0 bytes=0 seconds=") {
			t.Errorf("galvo %s: said %q, without the counters", c.args, said)
		}
	}
}

// takeRemotely plays frames while galvo capture runs beside the device, and returns the last line that it said, and how many packets it wrote.
func (d *tested) takeRemotely(tx *rig.End, frames []rig.Frame, args ...string) (last string, packets int) {
	d.t.Helper()
	file := filepath.Join(d.t.TempDir(), "remote.pcapng")
	cmd := exec.Command(d.Galvo, append([]string{"capture", "-k", "-d", d.URL, "-w", file}, args...)...)
	cmd.Env = append(os.Environ(), "GALVO_PASSWORD="+device.Password)
	var said bytes.Buffer
	cmd.Stderr = &said
	before := len(d.finished().Captures)
	if err := d.Netns.Start(cmd); err != nil {
		d.t.Fatal(err)
	}
	d.wait("the capture runs, or has run", func() bool {
		list := d.captures().Captures
		return len(list) == 1 && list[0].State == "running" || len(d.finished().Captures) > before
	})
	play(d.t, tx, frames, 0)
	if err := cmd.Wait(); err != nil {
		d.t.Fatalf("galvo capture %s: %v: %s", args, err, &said)
	}
	lines := strings.Split(strings.TrimSpace(said.String()), "\n")
	return lines[len(lines)-1], len(framesOf(d.t, file))
}

// remote runs a command of the binary beside the device, and returns its exit code and what it said.
func (d *tested) remote(args ...string) (code int, said string) {
	cmd := exec.Command(d.Galvo, args...)
	cmd.Env = append(os.Environ(), "GALVO_PASSWORD="+device.Password)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := d.Netns.Start(cmd); err != nil {
		d.t.Fatal(err)
	}
	cmd.Wait()
	return cmd.ProcessState.ExitCode(), stderr.String()
}

// One packet comes out of a running stream within a moment.
func TestStreamIsAlive(t *testing.T) {
	need.Tool(t, "curl")
	tx, rx := rig.VethFor(t)
	d := start(t, rx.Netns, twoWorkers, rx.Name)
	d.portsUp(1)
	dl := d.curl(url.Values{}, "")
	d.wait("the header comes before the first packet", func() bool {
		info, err := os.Stat(dl.file)
		return err == nil && info.Size() > 0
	})
	pace.Within(t, 2*time.Second, func() time.Duration {
		before, err := os.Stat(dl.file)
		if err != nil {
			t.Fatal(err)
		}
		play(t, tx, rig.Mix(9, 1), 0)
		sent := time.Now()
		d.wait("the packet comes out", func() bool {
			now, err := os.Stat(dl.file)
			return err == nil && now.Size() > before.Size()
		})
		t.Logf("the packet came out after %s", time.Since(sent))
		return time.Since(sent)
	})
	d.end(dl)
}

// What is asked wrongly is answered clearly, and leaves no trace.
func TestRefusals(t *testing.T) {
	_, rx := rig.VethFor(t)
	d := start(t, rx.Netns, "storage = []\n"+twoWorkers, rx.Name)
	d.portsUp(1)
	for _, c := range []struct {
		query  string
		kind   api.Kind
		status int
	}{
		{"expression=ip==nonsense", api.BadExpression, 400},
		{"expression=l4protocl==TCP", api.BadExpression, 400},
		{`expression=regexp==%22(%22`, api.BadExpression, 400},
		{"expression=group==nowhere", api.BadExpression, 400},
		{"expression=interface==7", api.BadExpression, 400},
		{"expression=badCRC==1", api.BadExpression, 400},
		{"fromCaptureBuffer=true", api.NoRing, 409},
		{"captureToMedia=true", api.NoStorage, 409},
		{"snapPacketLength=0", api.BadRequest, 400},
		{"colour=red", api.BadRequest, 400},
		{"comment=%ff", api.BadRequest, 400},
		{"comment=a%00b", api.BadRequest, 400},
	} {
		err := d.call("GET", api.CaptureURLPath+"?"+c.query, nil, nil)
		if err == nil {
			t.Errorf("%s: no error", c.query)
			continue
		}
		if e := api.ErrorOf(err); e.Kind != c.kind || e.GetStatus() != c.status || e.Text == "" {
			t.Errorf("%s: %+v, want the kind %s", c.query, e, c.kind)
		}
	}
	if n := len(d.captures().Captures) + len(d.finished().Captures); n != 0 {
		t.Errorf("refused captures are in the lists: %d", n)
	}
}

func TestWhatServicesMayDo(t *testing.T) {
	_, rx := rig.VethFor(t)
	d := start(t, rx.Netns, twoWorkers, rx.Name)
	d.portsUp(1)
	for _, role := range []string{"engine", "web"} {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.Service(role)))
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"CapEff:\t0000000000000000", "CapPrm:\t0000000000000000", "CapAmb:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"} {
			if !strings.Contains(string(b), want) {
				t.Errorf("%s: /proc/PID/status has no %q", role, want)
			}
		}
		if strings.Contains(string(b), "Uid:\t0\t") {
			t.Errorf("%s runs as root", role)
		}
	}
}
