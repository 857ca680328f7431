package fat

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// reachable returns which clusters some entry leads to. A file system whose chains cannot be followed is an error: nothing of it is free then.
func (v *Volume) reachable() ([]bool, error) {
	used := make([]bool, v.g.clusters()+2)
	mark := func(first uint32) error {
		clusters, err := v.chain(first)
		for _, c := range clusters {
			used[c] = true
		}
		return err
	}
	var visit func(folder uint32, depth int) error
	visit = func(folder uint32, depth int) error {
		if depth > 16 {
			return errors.New("folders are too deep")
		}
		if err := mark(folder); err != nil {
			return err
		}
		all, err := v.entries(folder)
		if err != nil {
			return err
		}
		for _, e := range all {
			switch {
			case e.Folder:
				err = visit(e.first, depth+1)
			case e.first != 0:
				err = mark(e.first)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", e.Name, err)
			}
		}
		return nil
	}
	return used, visit(v.g.root, 0)
}

// allocate returns n free clusters, one after the other if there is such room.
func (v *Volume) allocate(n int) ([]uint32, error) {
	used, err := v.reachable()
	if err != nil {
		return nil, err
	}
	var free, run []uint32
	for c := uint32(2); v.valid(c); c++ {
		if used[c] {
			run = run[:0]
			continue
		}
		free, run = append(free, c), append(run, c)
		if len(run) == n {
			return run, nil
		}
	}
	if len(free) < n {
		return nil, fmt.Errorf("there is no room: %d bytes are needed and %d are free", int64(n)*int64(v.g.clusterBytes()), int64(len(free))*int64(v.g.clusterBytes()))
	}
	return free[:n], nil
}

// link writes the chain of clusters.
func (v *Volume) link(clusters []uint32) error {
	entries := map[uint32]uint32{}
	for i, c := range clusters {
		entries[c] = endOfChain
		if i+1 < len(clusters) {
			entries[c] = clusters[i+1]
		}
	}
	return v.setTable(entries)
}

// fill writes the content and syncs. Neighbouring clusters are written at once.
func (v *Volume) fill(clusters []uint32, size int64, r io.Reader) error {
	const most = 1 << 20
	cluster := v.g.clusterBytes()
	buffer := make([]byte, most)
	for len(clusters) > 0 {
		run := 1
		for run < len(clusters) && run < most/cluster && clusters[run] == clusters[0]+uint32(run) {
			run++
		}
		b := buffer[:run*cluster]
		n := min(size, int64(len(b)))
		if _, err := io.ReadFull(r, b[:n]); err != nil {
			return fmt.Errorf("read the content: %w", err)
		}
		clear(b[n:])
		if _, err := v.d.WriteAt(b, v.g.offset(clusters[0])); err != nil {
			return err
		}
		size -= n
		clusters = clusters[run:]
	}
	return v.d.Sync()
}

// tidy frees in the tables what no entry leads to, and counts what is free.
func (v *Volume) tidy() error {
	used, err := v.reachable()
	if err != nil {
		return err
	}
	lost := map[uint32]uint32{}
	for c := uint32(2); v.valid(c); c++ {
		if !used[c] && v.next(c) != 0 {
			lost[c] = 0
		}
	}
	if len(lost) > 0 {
		if err := v.setTable(lost); err != nil {
			return err
		}
	}
	if err := v.mirrorTable(); err != nil {
		return err
	}
	return v.writeInfo()
}

// mirrorTable makes the second table like the first, from which a power cut may have kept it.
func (v *Volume) mirrorTable() error {
	second := make([]byte, len(v.table))
	start := int64(v.g.reserved+v.g.fatSectors) * sectorSize
	if _, err := v.d.ReadAt(second, start); err != nil {
		return err
	}
	for i := 0; i < len(second); i += sectorSize {
		end := min(i+sectorSize, len(second))
		if bytes.Equal(v.table[i:end], second[i:end]) {
			continue
		}
		if _, err := v.d.WriteAt(v.table[i:end], start+int64(i)); err != nil {
			return err
		}
	}
	return v.d.Sync()
}
