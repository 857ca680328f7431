package live

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket/pcapgo"

	"galvo/ci/need"
	"galvo/ci/rig"
	"galvo/services/api"
)

// loopDisk makes a disk of a file, and returns its path in /dev.
func loopDisk(t *testing.T, size int64) string {
	t.Helper()
	losetup := need.Tool(t, "losetup")
	image := filepath.Join(t.TempDir(), "disk.img")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, size); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(losetup, "--find", "--show", image).CombinedOutput()
	if err != nil {
		need.Missing(t, "loop", fmt.Sprintf("no loop device is to be had: %v: %s", err, out))
	}
	path := strings.TrimSpace(string(out))
	t.Cleanup(func() { exec.Command(losetup, "-d", path).Run() })
	return path
}

// startWithDisks runs a device with so many disks, formatted and active, and returns their ids.
func startWithDisks(t *testing.T, netns *rig.Netns, config string, disks int, size int64, ports ...string) (d *tested, ids []string) {
	t.Helper()
	need.Root(t)
	need.Tool(t, "mkfs.ext4")
	for i := range disks {
		path := loopDisk(t, size)
		config += fmt.Sprintf("[[storage]]\nname = \"disk%d\"\ndisk = %q\n", i+1, path)
		ids = append(ids, filepath.Base(path))
	}
	d = start(t, netns, config, ports...)
	for i, id := range ids {
		d.must("POST", "/api/v1/storage/"+id+"/format", api.FormatRequest{Confirm: fmt.Sprintf("disk%d", i+1)}, nil)
	}
	for _, id := range ids {
		d.wait("the disk is formatted and active", func() bool { return d.call("GET", "/api/v1/storage/"+id+"/files/", nil, nil) == nil })
	}
	return d, ids
}

// realFrames returns n frames of real traffic that a veth pair takes.
func realFrames(t *testing.T, n int) (frames []rig.Frame) {
	t.Helper()
	files, _ := filepath.Glob(filepath.Join(need.Corpus(t), "*", "*.pcap*"))
	for _, name := range files {
		list, err := rig.ReadFile(name)
		if err != nil {
			continue // other link types, compressed ones, damaged ones
		}
		for _, f := range list {
			if len(f.Data) >= 256 && len(f.Data) <= 1514 { // else it takes too many of them to fill a ring
				frames = append(frames, f)
			}
		}
	}
	if len(frames) < n {
		t.Fatalf("the corpus has %d frames only", len(frames))
	}
	for i := range n {
		frames[i] = frames[i*len(frames)/n] // of all files
	}
	return frames[:n]
}

// number writes n to the destination address of a frame, so that it is like no other, and numberOf reads it.
func number(frame []byte, n int) {
	frame[0] = 2
	binary.BigEndian.PutUint32(frame[1:], uint32(n))
	frame[5] = 0
}

func numberOf(frame []byte) int { return int(binary.BigEndian.Uint32(frame[1:])) }

// A ring on two disks is overwritten more than twice by real traffic. From its oldest packet on everything comes back byte for byte, in the order of time, and once;
// and the counters add up.
func TestRingWraps(t *testing.T) {
	need.Tool(t, "curl")
	base := realFrames(t, 5000)
	size := int64(0)
	for _, f := range base {
		size += int64(len(f.Data)+32) * (wrapFrames / 5000)
	}
	tx, rx := rig.VethFor(t)
	ring := size / 7 * 2 / (4 << 20) * (4 << 20)
	d, ids := startWithDisks(t, rx.Netns, twoWorkers+"[captures]\nqueueBytes = 64000000\n", 2, ring+96<<20, rx.Name)
	d.portsUp(1)
	d.must("POST", "/api/v1/rings", api.RingRequest{Name: "both", SizeBytes: uint64(ring), Devices: ids}, nil)
	d.recording("both")
	sent := uint64(0)
	for round := range wrapFrames / len(base) {
		for i := range base {
			number(base[i].Data, round*len(base)+i)
		}
		sent += play(t, tx, base, 50_000)
	}
	d.settle(sent)
	var ringLost uint64
	d.wait("everything is recorded, or dropped", func() bool {
		r := d.ring("both")
		ringLost = 0
		for _, n := range r.Dropped {
			ringLost += n
		}
		return r.Packets+ringLost == d.ports()[0].RxPackets
	})
	oldest, since := int64(0), time.Now()
	d.wait("no block waits for the disks, and nothing more is overwritten", func() bool {
		if now := d.ring("both").Oldest; now != oldest {
			oldest, since = now, time.Now()
		}
		return time.Since(since) > 2*time.Second
	})
	port, r := d.ports()[0], d.ring("both")
	lost := port.LostKernel + port.LostNic
	if port.RxPackets+lost != sent || sent != wrapFrames || len(r.Problems) > 0 || r.Discarded != 0 {
		t.Errorf("%d frames were played and %d taken; port %+v, ring %+v", wrapFrames, sent, port, r)
	}
	if r.TotalBytes < 2*r.UsableBytes || r.UsedBytes > r.UsableBytes {
		t.Errorf("the ring has not wrapped twice: %+v", r)
	}
	if lost+ringLost > wrapFrames/100 {
		t.Errorf("%d frames were lost and %d dropped: too many to say much", lost, ringLost)
	}
	for _, query := range []url.Values{{"startTime": {strconv.FormatInt(r.Oldest, 10)}}, {}} {
		d.checkCovered(d.past(query), r, base, lost+ringLost)
	}
	t.Logf("%d frames, %d MB recorded in a ring of %d MB, %d lost, %d dropped; %+v", sent, r.TotalBytes/1e6, r.UsableBytes/1e6, lost, ringLost, d.finished().Captures[0].Scan)
}

// checkCovered compares what a wrapped ring gave with what was played. base is the last round. missing is how many frames may not be there.
func (d *tested) checkCovered(file string, r api.Ring, base []rig.Frame, missing uint64) {
	t := d.t
	t.Helper()
	last := d.finished().Captures[0]
	if last.State != "finished" || last.Dropped+last.Lost+last.Held != 0 || last.Scan == nil || len(last.Scan.Gaps) != 0 {
		t.Errorf("the capture: %+v, scan %+v", last, last.Scan)
	}
	in, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	reader, err := pcapgo.NewNgReader(in, pcapgo.DefaultNgReaderOptions)
	if err != nil {
		t.Fatal(err)
	}
	var numbers []int
	want, before := make([]byte, 0, 2000), time.Time{}
	for {
		data, info, err := reader.ReadPacketData()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("after %d packets: %v", len(numbers), err)
		}
		n := numberOf(data)
		want = append(want[:0], base[n%len(base)].Data...)
		number(want, n)
		if n >= wrapFrames || !bytes.Equal(data, want) || info.Length != len(want) {
			t.Fatalf("packet %d: what comes back is not what was sent as number %d", len(numbers), n)
		}
		if info.Timestamp.Before(before) || info.Timestamp.UnixMicro() < r.Oldest {
			t.Fatalf("packet %d is of %s, before it comes %s, and the oldest is of %s", len(numbers), info.Timestamp, before, time.UnixMicro(r.Oldest))
		}
		before = info.Timestamp
		numbers = append(numbers, n)
	}
	if uint64(len(numbers)) != last.Captured || len(numbers) < wrapFrames/10 {
		t.Errorf("%d packets came back, and the capture says %d", len(numbers), last.Captured)
	}
	slices.Sort(numbers)
	holes := 0
	for i := 1; i < len(numbers); i++ {
		switch step := numbers[i] - numbers[i-1]; {
		case step == 0:
			t.Fatalf("frame %d came back twice", numbers[i])
		case step > 1:
			holes += step - 1
		}
	}
	holes += wrapFrames - 1 - numbers[len(numbers)-1]
	if uint64(holes) > missing {
		t.Errorf("%d frames of the interval are missing, and %d were lost or dropped", holes, missing)
	}
}
