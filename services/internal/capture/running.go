package capture

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"galvo/services/api"
	"galvo/services/durable"
)

const (
	runningSuffix = ".capture"
	fileMagic     = "GALVOCAP"
	fileHead      = 32 // magic, version, cells, length of the description, its CRC
	toldHead      = 8  // length of what was told last, its CRC
)

// A file is that of one capture that runs or waits: its description, and a cell for the sink and for each lane.
type file struct {
	path  string
	bytes []byte // mapped
	cells []cell
	sync  *time.Timer
}

// createFile makes the file of a capture.
func createFile(path string, v *api.Capture, lanes int) (*file, error) {
	b, err := encodeFile(v, lanes)
	if err != nil {
		return nil, err
	}
	// Written, not only sized: a page that finds no room on the disk when it is touched would kill the engine.
	if err := durable.PlaceFile(path, b); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	m, err := unix.Mmap(int(f.Fd()), 0, len(b), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map %s: %w", path, err)
	}
	out := &file{path: path, bytes: m, cells: make([]cell, lanes+1)}
	for i := range out.cells {
		out.cells[i].b = m[fileHead+i*cellSize:][:cellSize]
	}
	return out, nil
}

// cell returns cell i: 0 is the sink's, 1 and so on are the lanes'. It may be called on nil.
func (f *file) cell(i int) *cell {
	if f == nil {
		return nil
	}
	return &f.cells[i]
}

// remove unmaps and removes the file: nobody stores to its cells any more. It may be called on nil.
func (f *file) remove() error {
	if f == nil {
		return nil
	}
	return errors.Join(unix.Munmap(f.bytes), os.Remove(f.path))
}

// tell puts behind the counters, in the place of what was told before, how the capture is now: what it writes to, or how it ended, for the time until the list of
// finished captures is on the disk.
func (f *file) tell(v *api.Capture) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	b := le.AppendUint32(make([]byte, 0, toldHead+len(text)), uint32(len(text)))
	b = append(le.AppendUint32(b, crc32.ChecksumIEEE(text)), text...)
	out, err := os.OpenFile(f.path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	at := int64(len(f.bytes))
	if err = out.Truncate(at); err == nil {
		_, err = out.WriteAt(b, at)
	}
	return errors.Join(err, out.Close())
}

// decodeTold reads what tell wrote; false if it was cut off, or never written.
func decodeTold(b []byte) (v api.Capture, ok bool) {
	if len(b) < toldHead || uint64(le.Uint32(b)) != uint64(len(b)-toldHead) || crc32.ChecksumIEEE(b[toldHead:]) != le.Uint32(b[4:]) {
		return v, false
	}
	err := json.Unmarshal(b[toldHead:], &v)
	return v, err == nil
}

func encodeFile(v *api.Capture, lanes int) ([]byte, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("describe capture %s: %w", v.ID, err)
	}
	b := make([]byte, 0, fileHead+(lanes+1)*cellSize+len(text))
	b = append(b, fileMagic...)
	b = le.AppendUint32(b, fileVersion)
	b = le.AppendUint32(b, uint32(lanes+1))
	b = le.AppendUint32(b, uint32(len(text)))
	b = le.AppendUint32(b, crc32.ChecksumIEEE(text))
	b = append(b, make([]byte, fileHead-len(b)+(lanes+1)*cellSize)...)
	return append(b, text...), nil
}

// decodeFile returns a capture as it ended; one that was cut off with the counters that it had.
func decodeFile(b []byte) (v api.Capture, err error) {
	if len(b) < fileHead || string(b[:8]) != fileMagic {
		return v, errors.New("it is not the file of a capture")
	}
	if n := le.Uint32(b[8:]); n != fileVersion {
		return v, fmt.Errorf("it has version %d, and this program reads %d", n, fileVersion)
	}
	cells, length := int(le.Uint32(b[12:])), int(le.Uint32(b[16:]))
	if cells < 1 || cells > len(b)/cellSize || fileHead+cells*cellSize+length > len(b) {
		return v, errors.New("it is not as long as its head says")
	}
	text := b[fileHead+cells*cellSize:][:length]
	if crc32.ChecksumIEEE(text) != binary.LittleEndian.Uint32(b[20:]) {
		return v, errors.New("the checksum of its description is wrong")
	}
	told, ok := decodeTold(b[fileHead+cells*cellSize+length:])
	switch {
	case ok && slices.Contains([]string{Finished, Interrupted, Failed}, told.State):
		return told, nil
	case ok:
		v = told
		v.Counters, v.Bytes = api.Counters{}, 0 // those of the cells are younger
	default:
		if err := json.Unmarshal(text, &v); err != nil {
			return v, fmt.Errorf("read its description: %w", err)
		}
	}
	out := loadCell(b[fileHead:]) // delivered, bytes, lost, started, last sign of life
	v.Captured, v.Bytes, v.Lost = out[0], out[1], out[2]
	var looked uint64
	for i := 1; i < cells; i++ {
		in := loadCell(b[fileHead+i*cellSize:]) // looked at, queued, dropped, held, bytes
		looked += in[0]
		v.Dropped += in[1] + in[2]
		v.Held += in[3]
	}
	v.Captured = min(v.Captured, v.Dropped)
	v.Dropped -= v.Captured
	v.Ignored = looked - min(looked, v.Captured+v.Dropped+v.Held)
	if out[3] != 0 {
		v.StartTime = max(v.StartTime, int64(out[3]))
		v.EndTime = int64(out[4])
	}
	finishView(&v, Interrupted, "the engine ended without notice")
	return v, nil
}

// remember makes the file of a capture, if captures are kept.
func (cs *Captures) remember(c *Capture) {
	if cs.Directory == "" {
		return
	}
	v := c.describe()
	f, err := createFile(filepath.Join(cs.Directory, c.id+runningSuffix), &v, len(c.lanes))
	if err != nil {
		cs.Report(fmt.Errorf("keep the counters of capture %s: %w", c.id, err))
		return
	}
	f.sync = time.AfterFunc(syncAfter, func() {
		if err := durable.Sync(f.path); err != nil && !errors.Is(err, os.ErrNotExist) {
			cs.Report(fmt.Errorf("keep the counters of capture %s: %w", c.id, err))
		}
	})
	c.file = f
	for i, l := range c.lanes {
		l.saved = f.cell(i + 1)
	}
}

// tell keeps what has changed in the description of a capture: the file that it writes to.
func (c *Capture) tell() {
	c.mu.Lock()
	v := c.describe()
	c.mu.Unlock()
	v.State = Running
	c.saving.Lock()
	defer c.saving.Unlock()
	if c.file == nil {
		return
	}
	if err := c.file.tell(&v); err != nil {
		c.of.Report(fmt.Errorf("keep what capture %s writes to: %w", c.id, err))
	}
}
