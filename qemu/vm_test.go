//go:build vmtest

package qemu

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"galvo/ci/need"
	"galvo/ci/rig"
	"galvo/services/api"
)

var architectures = []string{"amd64", "arm64"}

// traffic returns n frames of real traffic, in the order of the corpus. What a virtio NIC with an MTU of 9216 would not take is left out.
func traffic(t *testing.T, n int) (frames [][]byte) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(need.Corpus(t), "*", "*.pcap*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no savefiles in the corpus: %v", err)
	}
	for _, name := range files {
		list, err := rig.ReadFile(name)
		if err != nil {
			continue // other link types, compressed ones, damaged ones
		}
		for _, f := range list {
			if len(f.Data) >= 14 && len(f.Data) <= 9216 {
				frames = append(frames, f.Data)
			}
			if len(frames) == n {
				return frames
			}
		}
	}
	t.Fatalf("the corpus has %d frames only", len(frames))
	return nil
}

// From the image that is flashed, through UEFI: an address, the page, a capture, and an end on the power button.
func TestFlashed(t *testing.T) {
	for _, arch := range architectures {
		t.Run(arch, func(t *testing.T) {
			m := Flashed(t, arch, 1<<30)
			m.Ports = 2
			v := m.Boot(t)
			c := v.Client(v.Password())
			c.Answers()
			t.Logf("answers %.1f s after power on, with the machine's load at %.1f\n%s", time.Since(v.Started).Seconds(), load(), phases(v))
			c.PortsUp(2)
			frames := traffic(t, 20_000)
			same(t, capture(t, c, v.Wires[0], frames), frames)
			silent(t, v)
			if !v.Console.Has("configuration and state are on /dev/vda2") {
				t.Error("the state is not on the disk")
			}
			v.PressPower()
			v.AwaitOff()
			if !v.Console.Has("the power button was pressed") {
				t.Error("it ended in another way")
			}
			// The second start keeps user and certificate.
			again := m.Boot(t)
			c = again.Client(c.password)
			c.Answers()
			if again.Console.Has("first login") {
				t.Error("the state did not outlive the power")
			}
			if !again.Console.Has("the random generator has the seed of the last run") {
				t.Error("the random generator has no seed")
			}
		})
	}
}

// In 512 MiB the device says politely what is missing, and the power button ends it.
func TestSmallMemory(t *testing.T) {
	m := Direct(t, "amd64")
	m.MemoryMB = 512
	v := m.Boot(t)
	if err := v.Console.Await(Patience(t), "give it 1 GiB or more\nThe power button"); err != nil {
		t.Fatal(err)
	}
	v.PressPower()
	v.AwaitOff()
}

// A person at the serial line.
type person struct {
	*VM
	password string
	prompts  int
}

func (v *VM) person(password string) *person {
	v.t.Helper()
	p := &person{v, password, v.Console.Count("galvo# ")}
	v.Type("\n")
	if err := v.Console.Await(Patience(v.t), "Password of admin: "); err != nil {
		v.t.Fatal(err)
	}
	v.Type(password + "\n")
	p.prompt()
	return p
}

func (p *person) prompt() {
	p.t.Helper()
	p.prompts++
	if err := p.Console.AwaitCount(Patience(p.t), p.prompts, "galvo# "); err != nil {
		p.t.Fatalf("%v\n%s", err, p.Console.Tail())
	}
}

// run types a command and returns what it said.
func (p *person) run(command string) string {
	p.t.Helper()
	before := len(p.Console.String())
	p.Type(command + "\n")
	p.prompt()
	return p.Console.String()[before:]
}

// pid returns the process of a service.
func (p *person) pid(service string) int {
	p.t.Helper()
	m := regexp.MustCompile(`(?m)^ *(\d+)  galvo ` + service + ` `).FindStringSubmatch(p.run("ps"))
	if m == nil {
		return 0
	}
	pid, _ := strconv.Atoi(m[1])
	return pid
}

// Each service is killed twenty times under traffic. All come back, what the ports received is accounted for to the frame, and init is well.
func TestServicesKilled(t *testing.T) {
	m := Direct(t, "amd64")
	m.Ports = 1
	m.Disks, m.Append = []Disk{m.BlankDisk(t, 256<<20)}, []string{"galvo.data=/dev/vda"}
	const rounds = 20
	v := m.Boot(t)
	c := v.Client(v.Password())
	c.Answers()
	c.PortsUp(1)
	stop, sent := make(chan struct{}), make(chan int)
	go func() {
		n := 0
		for frames := data(rig.Mix(5, 200)); ; n += len(frames) {
			select {
			case <-stop:
				sent <- n
				return
			case <-time.After(250 * time.Millisecond):
			}
			if err := v.Wires[0].Send(frames...); err != nil {
				t.Error(err)
			}
		}
	}()
	p := v.person(c.password)
	for _, s := range []string{"host", "engine", "web"} {
		longest, begin := time.Duration(0), time.Now()
		for i := range rounds {
			before := p.pid(s)
			if before == 0 {
				t.Fatalf("round %d: no process %s", i, s)
			}
			killed, said := time.Now(), len(v.Console.String())
			p.run(fmt.Sprintf("kill -KILL %d", before))
			c.Wait(s+" is back", func() bool { now := p.pid(s); return now != 0 && now != before })
			c.Wait("host answers", func() bool {
				resp, err := c.Do(http.MethodGet, api.GetConfig.Path, "", nil)
				if err == nil {
					resp.Body.Close()
				}
				return err == nil && resp.StatusCode == http.StatusOK
			})
			c.PortsUp(1)
			if took := time.Since(killed); took > longest {
				longest = took
				t.Logf("%s: %s\n%s", s, took, v.Console.String()[said:])
			}
		}
		t.Logf("%s killed %d times in %.0f s: everything answers again after %.1f s at most, with this machine's load at %.1f", s, rounds, time.Since(begin).Seconds(), longest.Seconds(), load())
	}
	close(stop)
	n := <-sent
	c.Well()
	var list []api.Port
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Second) {
		c.Must(http.MethodGet, api.ListPorts.Path, nil, &list)
		if got := list[0].RxPackets + list[0].LostKernel + list[0].LostNic; got == uint64(n) {
			break
		} else if time.Now().After(deadline) {
			t.Errorf("%d frames were sent, and %d are accounted for: %+v", n, got, list[0])
			break
		}
	}
	t.Logf("%d frames: %d received, %d lost", n, list[0].RxPackets, list[0].LostKernel+list[0].LostNic)
	if got := v.Console.Count(initLine); got != 1 {
		t.Errorf("init started %d times", got)
	}
	if said := p.run("log init"); !strings.Contains(said, initLine) {
		t.Errorf("init does not answer: %s", said)
	}
}

// The disk with the state is pulled. The device stays up and says what happened.
func TestDiskPulled(t *testing.T) {
	m := Direct(t, "amd64")
	m.Ports = 1
	d := m.BlankDisk(t, 256<<20)
	d.Removable = true
	m.Disks, m.Append = []Disk{d}, []string{"galvo.data=/dev/vda"}
	v := m.Boot(t)
	c := v.Client(v.Password())
	c.Answers()
	v.PullDisk(0)
	c.Wait("the status says that the disk is gone", func() bool {
		var s api.Status
		return c.Call(http.MethodGet, api.GetStatus.Path, nil, &s) == nil && s.State == "degraded" && strings.Contains(strings.Join(s.Problems, "\n"), "data partition")
	})
	frames := data(rig.Mix(6, 1000))
	same(t, capture(t, c, v.Wires[0], frames), frames)
	// Also services that start anew find something to run with.
	p := v.person(c.password)
	for _, s := range []string{"host", "engine", "web"} {
		p.run(fmt.Sprintf("kill -KILL %d", p.pid(s)))
	}
	c.Answers()
}

// The power is cut at twenty moments of changing the configuration. What is there afterwards is always the old or the new one.
func TestPowerCutDuringChange(t *testing.T) {
	m := Direct(t, "amd64")
	nbd := NewNBD(t, 256<<20)
	m.Disks, m.Append = []Disk{nbd.Disk()}, []string{"galvo.data=/dev/vda"}
	v := m.Boot(t)
	c := v.Client(v.Password())
	c.Answers()
	password := c.password
	answered := c.Answers().Name // the name that a call answered for
	for i := range 20 {
		next := fmt.Sprintf("cut-%d", i)
		done := make(chan error, 1)
		go func() { done <- c.PutConfig(fmt.Sprintf("[device]\nname = %q\n", next)) }()
		time.Sleep(time.Duration(rand.IntN(150)) * time.Millisecond)
		nbd.Drop() // from now on nothing reaches the disk, and what was not flushed is gone
		v.PowerCut()
		old := answered
		if <-done == nil {
			old = next // it was answered, so it must be there
		}
		nbd.Serve()
		v = m.Boot(t)
		c = v.Client(password)
		got := c.Answers().Name
		if got != old && got != next {
			t.Fatalf("cut %d: the name is %q, want %q or %q", i, got, old, next)
		}
		answered = got
		if v.Console.Has("first login") {
			t.Fatalf("cut %d: the users are gone", i)
		}
	}
}

// A kernel that panics, an init that dies, and one that hangs: the machine starts again by itself.
func TestStartsAgain(t *testing.T) {
	for _, c := range []struct {
		name     string
		commands []string
		said     string // what the console shows of it
	}{
		{"the kernel panics", []string{"echo c > /proc/sysrq-trigger"}, "Kernel panic - not syncing: sysrq triggered crash"},
		// Go's runtime ends a program on SIGQUIT, and the kernel panics without its first process.
		{"init dies", []string{"kill -QUIT 1"}, "Kernel panic - not syncing: Attempted to kill init!"},
		// The first process cannot be stopped by a signal.
		{"init hangs", []string{"mkdir /sys/fs/cgroup/ice", "echo 1 > /sys/fs/cgroup/ice/cgroup.procs", "echo 1 > /sys/fs/cgroup/ice/cgroup.freeze"}, "watchdog: i6300ESB timer resets"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := Direct(t, "amd64")
			m.Watchdog = true
			v := m.Boot(t)
			client := v.Client(v.Password())
			client.Answers()
			p := v.person(client.password)
			for _, command := range c.commands {
				p.Type(command + "\n")
			}
			begin := time.Now()
			if err := v.Console.AwaitCount(Patience(t), 2, initLine); err != nil {
				t.Fatalf("%v\n%s", err, v.Console.Tail())
			}
			t.Logf("init starts again after %.0f s", time.Since(begin).Seconds())
			if !v.Console.Has(c.said) {
				t.Errorf("the console does not say %q:\n%s", c.said, v.Console.Tail())
			}
			client.Wait("it answers again", func() bool {
				resp, err := v.Client("").Do(http.MethodGet, "/", "", nil)
				if err == nil {
					resp.Body.Close()
				}
				return err == nil
			})
		})
	}
}

// Frames of both ports come back with the id of their port, and a cable that is pulled is seen.
func TestTwoPorts(t *testing.T) {
	m := Direct(t, "amd64")
	m.Ports = 2
	v := m.Boot(t)
	c := v.Client(v.Password())
	c.Answers()
	c.PortsUp(2)
	frames := data(rig.Mix(7, 200))
	for i := range 2 {
		d := c.Capture(url.Values{"expression": {fmt.Sprintf("interface == %d", i+1)}, "maxPackets": {"200"}})
		for _, w := range v.Wires {
			if err := w.Send(frames...); err != nil {
				t.Fatal(err)
			}
		}
		file, err := d.Wait()
		if err != nil {
			t.Fatal(err)
		}
		same(t, savefile(t, file), frames)
	}
	v.Plug(1, false)
	c.Wait("the port without a cable is down", func() bool {
		var list []api.Port
		return c.Call(http.MethodGet, api.ListPorts.Path, nil, &list) == nil && len(list) == 2 && list[1].State == "down"
	})
	v.Plug(1, true)
	c.PortsUp(2)
}
