package stats

import (
	"sync/atomic"
	"unsafe"
)

// A table counts packets and bytes by a small key: an EtherType, an IP protocol, a protocol's id. One worker adds, anybody reads.
// Counts of a batch are collected apart and shown at its end, so that a packet costs no atomic operation.
type table struct {
	index   []uint16 // by key: row + 1
	rows    []row
	used    atomic.Int32 // rows in use
	touched []uint16     // rows with counts that are not shown yet
}

type row struct {
	key            uint32 // fixed once the row is in use
	packets, bytes atomic.Uint64

	newPackets, newBytes uint64 // of the batch
}

// newTable returns a table for keys below n. When rows keys were seen the others share the last row.
func newTable(n, rows int) *table {
	return &table{index: make([]uint16, n), rows: make([]row, rows), touched: make([]uint16, 0, rows)}
}

// bytes returns the memory that the table takes.
func (t *table) bytes() uint64 {
	return uint64(unsafe.Sizeof(*t)) + uint64(len(t.rows))*uint64(unsafe.Sizeof(row{})) + 2*uint64(len(t.index)+len(t.rows))
}

// overflow is the key of the row for keys that found no row of their own.
const overflow = 1<<32 - 1

func (t *table) add(key uint32, c count) {
	i := t.index[key]
	if i == 0 {
		i = t.open(key)
	}
	r := &t.rows[i-1]
	if r.newPackets == 0 {
		t.touched = append(t.touched, i-1)
	}
	r.newPackets += c.packets
	r.newBytes += c.bytes
}

func (t *table) open(key uint32) uint16 {
	used := int(t.used.Load())
	if used < len(t.rows) {
		if used == len(t.rows)-1 {
			key = overflow
		}
		t.rows[used].key = key
		used++
		t.used.Store(int32(used))
	}
	if key != overflow {
		t.index[key] = uint16(used)
	}
	return uint16(used)
}

// show adds the counts of the batch to those that others read.
func (t *table) show() {
	for _, i := range t.touched {
		r := &t.rows[i]
		r.packets.Store(r.packets.Load() + r.newPackets)
		r.bytes.Store(r.bytes.Load() + r.newBytes)
		r.newPackets, r.newBytes = 0, 0
	}
	t.touched = t.touched[:0]
}

// sum adds the table to m.
func (t *table) sum(m map[uint32]count) {
	for i := range t.used.Load() {
		r := &t.rows[i]
		c := m[r.key]
		c.packets += r.packets.Load()
		c.bytes += r.bytes.Load()
		m[r.key] = c
	}
}

type count struct{ packets, bytes uint64 }
