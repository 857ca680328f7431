package engine

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"galvo/services/api"
	"galvo/services/durable"
)

// Sizes of a journal: a header, a row of counts for each port, and a slot of 16 bytes for each worker of each port.
const (
	journalMagic   = "galvo ports 1\n\x00\x00"
	journalHeader  = 64
	journalRow     = 64
	journalSlot    = 16
	journalPorts   = 64
	journalWorkers = 64
	journalSlots   = journalHeader + journalPorts*journalRow
	journalSize    = journalSlots + journalPorts*journalWorkers*journalSlot
)

// A journal keeps the ports' counts in a mapped file, so that an engine that is killed leaves them behind as they were: the next one knows how
// many frames were lost in between. It is not meant to outlive the machine, nor the host service, whose counts of the NICs it is compared to.
//
// Numbers are little-endian uint64. Header: magic (16 bytes), host instance. Row: Base, Frames, Bytes, Kernel, Engine, NIC, Seen, Device.
// Slot: frames and bytes that the worker processed since this file was made. A row belongs to the control side, a slot to its worker.
type journal struct{ mem []byte }

// openJournal begins a journal in dir and returns the counts that the last one left for the same instance of the host service.
func openJournal(dir string, instance uint64) (*journal, [journalPorts]counts, error) {
	path := filepath.Join(dir, "ports.journal")
	left := readJournal(path, instance)

	f, err := os.OpenFile(path+".new", os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, left, fmt.Errorf("make the journal of the ports: %w", err)
	}
	defer f.Close()
	if err := f.Truncate(journalSize); err != nil {
		return nil, left, fmt.Errorf("make the journal of the ports: %w", err)
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, journalSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, left, fmt.Errorf("map the journal of the ports: %w", err)
	}
	j := &journal{mem}
	copy(mem, journalMagic)
	binary.LittleEndian.PutUint64(mem[len(journalMagic):], instance)
	for i := range left {
		j.put(i, &left[i])
	}
	if err := os.Rename(path+".new", path); err != nil {
		j.close()
		return nil, left, fmt.Errorf("put the journal of the ports in place: %w", err)
	}
	return j, left, nil
}

// readJournal returns what a journal says; a missing, damaged or foreign one says nothing.
func readJournal(path string, instance uint64) (left [journalPorts]counts) {
	b, err := os.ReadFile(path)
	if err != nil || len(b) != journalSize || string(b[:len(journalMagic)]) != journalMagic ||
		binary.LittleEndian.Uint64(b[len(journalMagic):]) != instance {
		return left
	}
	for i := range left {
		var v [journalRow / 8]uint64
		for k := range v {
			v[k] = binary.LittleEndian.Uint64(b[journalHeader+i*journalRow+8*k:])
		}
		c := counts{Base: v[0], Frames: v[1], Bytes: v[2], Kernel: v[3], Engine: v[4], NIC: v[5], Seen: int64(v[6]), Device: device(v[7])}
		for w := range journalWorkers {
			slot := b[slotAt(i, w):]
			c.Frames += binary.LittleEndian.Uint64(slot)
			c.Bytes += binary.LittleEndian.Uint64(slot[8:])
		}
		left[i] = c
	}
	return left
}

func slotAt(port, worker int) int { return journalSlots + (port*journalWorkers+worker)*journalSlot }

// put writes the row of a port: its counts without what the workers processed since the journal was opened.
func (j *journal) put(port int, c *counts) {
	for k, v := range [...]uint64{c.Base, c.Frames, c.Bytes, c.Kernel, c.Engine, c.NIC, uint64(c.Seen), uint64(c.Device)} {
		binary.LittleEndian.PutUint64(j.mem[journalHeader+port*journalRow+8*k:], v)
	}
}

// count writes the slot of a worker.
func (j *journal) count(port, worker int, frames, bytes uint64) {
	slot := j.mem[slotAt(port, worker):]
	binary.LittleEndian.PutUint64(slot, frames)
	binary.LittleEndian.PutUint64(slot[8:], bytes)
}

func (j *journal) close() { unix.Munmap(j.mem) }

// savedGaps is the file gaps.json: the intervals of loss of each port, for the same instance of the host service.
type savedGaps struct {
	Instance uint64
	Gaps     map[int][]api.Gap // by port id
}

// readGaps returns the intervals that the last engine left; what cannot be read is none.
func readGaps(dir string, instance uint64) map[int][]api.Gap {
	var s savedGaps
	b, err := os.ReadFile(filepath.Join(dir, "gaps.json"))
	if err != nil || json.Unmarshal(b, &s) != nil || s.Instance != instance {
		return nil
	}
	return s.Gaps
}

// writeGaps puts the file in place.
func writeGaps(dir string, s savedGaps) error {
	b, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("encode the ports' gaps: %w", err)
	}
	return durable.WriteFile(filepath.Join(dir, "gaps.json"), b)
}
