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
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"galvo/services/api"
	"galvo/services/durable"
)

// FORMAT.md describes the files: finished.json, and one file for each capture that runs or waits, which holds its description and its
// counters. The counters are mapped into memory, so they are those of the last batch however the engine ends.

const (
	finishedName  = "finished.json"
	finishedLimit = 64 << 20
	runningSuffix = ".capture"
	fileMagic     = "GALVOCAP"
	fileVersion   = 1
	fileHead      = 32 // magic, version, cells, length of the description, its CRC
	toldHead      = 8  // length of what was told last, its CRC
	cellSize      = 2 * placeSize
	placeSize     = (cellWords + 2) * 8
	cellWords     = 5
)

// A cell is a few counters in a file, with one writer. Two places take turns, each with its turn and a checksum, so that one of them is
// whole whenever the writer is killed.
type cell struct {
	b    []byte
	turn uint64
}

// store writes the counters. It may be called on nil.
func (c *cell) store(words [cellWords]uint64) {
	if c == nil {
		return
	}
	c.turn++
	b := c.b[c.turn&1*placeSize:][:placeSize]
	sum := mix(0, c.turn)
	le.PutUint64(b, c.turn)
	for i, w := range words {
		le.PutUint64(b[8+8*i:], w)
		sum = mix(sum, w)
	}
	le.PutUint64(b[placeSize-8:], sum)
}

func mix(sum, w uint64) uint64 { return (sum ^ w) * 0x9e3779b97f4a7c15 }

// loadCell returns the counters of a cell as they were last stored whole.
func loadCell(b []byte) (words [cellWords]uint64) {
	var newest uint64
	for _, b := range [][]byte{b[:placeSize], b[placeSize:cellSize]} {
		turn := le.Uint64(b)
		var w [cellWords]uint64
		sum := mix(0, turn)
		for i := range w {
			w[i] = le.Uint64(b[8+8*i:])
			sum = mix(sum, w[i])
		}
		if sum == le.Uint64(b[placeSize-8:]) && turn > newest {
			newest, words = turn, w
		}
	}
	return words
}

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

// When what was written is synced. Nobody waits for it: what a killed engine has written the kernel keeps, and a capture that a power cut takes so soon after it began
// has given nothing to anybody that would have to be accounted for.
const (
	syncAfter = time.Second            // after a capture began
	saveAfter = 250 * time.Millisecond // after one ended
)

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

// saveSoon has the list of finished captures saved. Until then the files of those that ended say how. cs.mu is held.
func (cs *Captures) saveSoon() {
	cs.unsaved = true
	if cs.saver == nil && cs.Directory != "" {
		cs.saver = time.AfterFunc(saveAfter, func() {
			if err := cs.save(); err != nil {
				cs.Report(err)
			}
		})
	}
}

// save saves the list of finished captures, unless it is as it was saved last, and removes the files of those that are in it.
func (cs *Captures) save() error {
	cs.saving.Lock()
	defer cs.saving.Unlock()
	cs.mu.Lock()
	list, ended, unsaved := slices.Clone(cs.finished), cs.ended, cs.unsaved
	cs.ended, cs.unsaved = nil, false
	if cs.saver != nil {
		cs.saver.Stop()
		cs.saver = nil
	}
	cs.mu.Unlock()
	if !unsaved {
		return nil
	}
	if err := cs.saveFinished(list); err != nil {
		cs.mu.Lock()
		cs.ended, cs.unsaved = append(ended, cs.ended...), true // the next one that ends has it tried again
		cs.mu.Unlock()
		return err
	}
	var err error
	for _, f := range ended {
		err = errors.Join(err, f.remove())
	}
	return err
}

// saveFinished writes the list of finished captures.
func (cs *Captures) saveFinished(list []api.Capture) error {
	if cs.Directory == "" {
		return nil
	}
	b, err := json.Marshal(finishedFile{fileVersion, list})
	if err != nil {
		return fmt.Errorf("save the finished captures: %w", err)
	}
	if err := durable.WriteFile(filepath.Join(cs.Directory, finishedName), b); err != nil {
		return fmt.Errorf("save the finished captures: %w", err)
	}
	return nil
}

type finishedFile struct {
	Version  int           `json:"version"`
	Captures []api.Capture `json:"captures"`
}

// recover reads the finished captures, and those that were cut off.
func (cs *Captures) recover() error {
	if cs.Directory == "" {
		return nil
	}
	if err := os.MkdirAll(cs.Directory, 0o700); err != nil {
		return fmt.Errorf("keep captures: %w", err)
	}
	err := cs.readFinished()
	entries, dirErr := os.ReadDir(cs.Directory)
	err = errors.Join(err, dirErr)
	var files []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), runningSuffix) {
			files = append(files, filepath.Join(cs.Directory, e.Name()))
		}
		if ok, _ := filepath.Match(durable.Aside, e.Name()); ok {
			err = errors.Join(err, os.Remove(filepath.Join(cs.Directory, e.Name())))
		}
	}
	if len(files) == 0 {
		return err
	}
	for _, path := range files {
		err = errors.Join(err, cs.readCutOff(path))
	}
	slices.SortStableFunc(cs.finished, func(a, b api.Capture) int { return int(min(max(b.EndTime-a.EndTime, -1), 1)) })
	cs.finished = cs.finished[:min(len(cs.finished), keepFinished)]
	if saveErr := cs.saveFinished(cs.finished); saveErr != nil {
		return errors.Join(err, saveErr)
	}
	for _, path := range files {
		err = errors.Join(err, os.Remove(path))
	}
	return err
}

func (cs *Captures) readFinished() error {
	path := filepath.Join(cs.Directory, finishedName)
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	var f finishedFile
	if err == nil {
		err = json.Unmarshal(b, &f)
	}
	if err == nil && f.Version != fileVersion {
		err = fmt.Errorf("it has version %d, and this program reads %d", f.Version, fileVersion)
	}
	if err != nil {
		return fmt.Errorf("the list of finished captures begins anew, because %s cannot be read: %w", path, err)
	}
	cs.finished = f.Captures
	return nil
}

func (cs *Captures) readCutOff(path string) error {
	b, err := os.ReadFile(path)
	var v api.Capture
	if err == nil {
		v, err = decodeFile(b)
	}
	if err != nil {
		return fmt.Errorf("a capture was cut off, and its counters are lost, because %s cannot be read: %w", path, err)
	}
	if !slices.ContainsFunc(cs.finished, func(o api.Capture) bool { return o.ID == v.ID }) {
		cs.finished = append(cs.finished, v)
	}
	return nil
}
