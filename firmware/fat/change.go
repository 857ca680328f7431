package fat

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
)

// folder returns the first cluster of the folder at a path, "" or "/" being the root.
func (v *Volume) folder(name string) (uint32, error) {
	at := v.g.root
	for _, part := range split(name) {
		e, err := v.find(at, part)
		if err != nil {
			return 0, err
		}
		if !e.Folder || !v.valid(e.first) {
			return 0, fmt.Errorf("%s is not a folder", part)
		}
		at = e.first
	}
	return at, nil
}

func split(name string) []string {
	name = strings.Trim(path.Clean("/"+name), "/")
	if name == "" {
		return nil
	}
	return strings.Split(name, "/")
}

// List returns what is in the folder at a path, in the order of the folder.
func (v *Volume) List(name string) ([]Entry, error) {
	at, err := v.folder(name)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", name, err)
	}
	return v.entries(at)
}

// Open returns the content of the file at a path.
func (v *Volume) Open(name string) (*io.SectionReader, error) {
	at, err := v.folder(path.Dir(name))
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	e, err := v.find(at, path.Base(name))
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	return v.content(e)
}

func (v *Volume) content(e *Entry) (*io.SectionReader, error) {
	if e.Size == 0 {
		return io.NewSectionReader(strings.NewReader(""), 0, 0), nil
	}
	clusters, err := v.chain(e.first)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", e.Name, err)
	}
	if int64(len(clusters))*int64(v.g.clusterBytes()) < e.Size {
		return nil, fmt.Errorf("%s is longer than its clusters", e.Name)
	}
	return io.NewSectionReader(&content{v, clusters}, 0, e.Size), nil
}

type content struct {
	v        *Volume
	clusters []uint32
}

func (c *content) ReadAt(p []byte, off int64) (int, error) {
	size, n := int64(c.v.g.clusterBytes()), 0
	for n < len(p) {
		i := int((off + int64(n)) / size)
		if i >= len(c.clusters) {
			return n, io.EOF
		}
		// Clusters that lie one after the other are read at once.
		run := 1
		for i+run < len(c.clusters) && c.clusters[i+run] == c.clusters[i]+uint32(run) {
			run++
		}
		in := (off + int64(n)) % size
		part := p[n:min(len(p), n+int(int64(run)*size-in))]
		m, err := c.v.d.ReadAt(part, c.v.g.offset(c.clusters[i])+in)
		n += m
		if err != nil && m < len(part) {
			return n, err
		}
	}
	return n, nil
}

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

// MakeFolder makes the folder at a path, and those that it is in, unless they are there.
func (v *Volume) MakeFolder(name string) error {
	at, made := v.g.root, ""
	for _, part := range split(name) {
		made += "/" + part
		e, err := v.find(at, part)
		switch {
		case errors.Is(err, ErrNotFound):
			if e, err = v.makeFolder(at, part); err != nil {
				return fmt.Errorf("make folder %s: %w", made, err)
			}
		case err != nil:
			return fmt.Errorf("make folder %s: %w", made, err)
		case !e.Folder:
			return fmt.Errorf("make folder %s: a file has that name", made)
		}
		at = e.first
	}
	return nil
}

func (v *Volume) makeFolder(parent uint32, name string) (*Entry, error) {
	clusters, err := v.allocate(1)
	if err != nil {
		return nil, err
	}
	e := &Entry{Name: name, Folder: true, first: clusters[0]}
	b := make([]byte, v.g.clusterBytes())
	up := Entry{Folder: true, short: [11]byte([]byte("..         "))}
	if parent != v.g.root {
		up.first = parent // 0 stands for the root
	}
	copy(b, (&Entry{Folder: true, first: e.first, short: [11]byte([]byte(".          "))}).shortEntry())
	copy(b[entrySize:], up.shortEntry())
	if _, err := v.d.WriteAt(b, v.g.offset(e.first)); err != nil {
		return nil, err
	}
	if err := v.d.Sync(); err != nil {
		return nil, err
	}
	if err := v.link(clusters); err != nil {
		return nil, err
	}
	if err := v.publish(parent, e); err != nil {
		return nil, err
	}
	return e, v.writeInfo()
}

// WriteFile makes or replaces the file at a path with size bytes of r. After a power cut at any moment the file is the old one or the new one.
func (v *Volume) WriteFile(name string, size int64, r io.Reader) error {
	if err := v.writeFile(name, size, r); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

func (v *Volume) writeFile(name string, size int64, r io.Reader) error {
	if size < 0 || size > 0xffffffff {
		return fmt.Errorf("%d bytes do not fit into a file", size)
	}
	folder, err := v.folder(path.Dir(name))
	if err != nil {
		return err
	}
	old, err := v.find(folder, path.Base(name))
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	if old != nil && old.Folder {
		return errors.New("it is a folder")
	}
	e := &Entry{Name: path.Base(name), Size: size}
	if size > 0 {
		cluster := int64(v.g.clusterBytes())
		clusters, err := v.allocate(int((size + cluster - 1) / cluster))
		if err != nil {
			return err
		}
		if err := v.fill(clusters, size, r); err != nil {
			return err
		}
		if err := v.link(clusters); err != nil {
			return err
		}
		e.first = clusters[0]
	}
	if old == nil {
		err = v.publish(folder, e)
	} else {
		err = v.replace(old, e)
	}
	if err != nil {
		return err
	}
	return v.tidy()
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

// publish puts an entry into a folder, by one write of one sector.
func (v *Volume) publish(folder uint32, e *Entry) error {
	if err := checkName(e.Name); err != nil {
		return err
	}
	all, err := v.entries(folder)
	if err != nil {
		return err
	}
	e.short = shortOf(e.Name, 0)
	for n := 1; !isShort(e.Name) && n == 1 || slices.ContainsFunc(all, func(o Entry) bool { return o.short == e.short }); n++ {
		e.short = shortOf(e.Name, n)
	}
	encoded := e.encode()
	at, err := v.room(folder, len(encoded)/entrySize)
	if err != nil {
		return err
	}
	e.places = nil
	for i := range len(encoded) / entrySize {
		e.places = append(e.places, at+int64(i*entrySize))
	}
	return v.patch(at, encoded)
}

// patch changes bytes within one sector and syncs.
func (v *Volume) patch(at int64, b []byte) error {
	start := at / sectorSize * sectorSize
	sector := make([]byte, sectorSize)
	if _, err := v.d.ReadAt(sector, start); err != nil {
		return err
	}
	if copy(sector[at-start:], b) != len(b) {
		return errors.New("a change reaches over the end of a sector")
	}
	if _, err := v.d.WriteAt(sector, start); err != nil {
		return err
	}
	return v.d.Sync()
}

// room returns where n entries fit into one sector of a folder. Between the last entry and there it leaves deleted ones, since a zero ends the folder.
func (v *Volume) room(folder uint32, n int) (int64, error) {
	if n > sectorSize/entrySize {
		return 0, errors.New("the name is too long")
	}
	for {
		all, err := v.slots(folder)
		if err != nil {
			return 0, err
		}
		end := slices.IndexFunc(all, func(s slot) bool { return s.b[0] == 0 })
		if err := v.blank(all, end); err != nil {
			return 0, err
		}
		free := 0
		for i, s := range all {
			if s.at%sectorSize == 0 {
				free = 0
			}
			if s.b[0] != deleted && (end < 0 || i < end) {
				free = 0
				continue
			}
			if free++; free == n {
				at := s.at - int64((n-1)*entrySize)
				return at, v.skip(all, end, at)
			}
		}
		if err := v.extend(folder, all); err != nil {
			return 0, err
		}
	}
}

// blank makes everything behind the end of a folder zero, which the end hides: some writers leave what was there.
func (v *Volume) blank(all []slot, end int) error {
	if end < 0 {
		return nil
	}
	for _, s := range all[end:] {
		if s.b[0] != 0 {
			if err := v.patch(s.at, []byte{0}); err != nil {
				return err
			}
		}
	}
	return nil
}

// skip marks what lies between the end of a folder and the place at as deleted, sector by sector. Each such write leaves a folder that is whole: what
// follows the last sector's mark is zero.
func (v *Volume) skip(all []slot, end int, at int64) error {
	if end < 0 {
		return nil
	}
	for _, s := range all[end:] {
		if s.at == at {
			return nil
		}
		if err := v.patch(s.at, []byte{deleted}); err != nil {
			return err
		}
	}
	return nil
}

// extend adds an empty cluster to a folder.
func (v *Volume) extend(folder uint32, all []slot) error {
	chain, err := v.chain(folder)
	if err != nil {
		return err
	}
	clusters, err := v.allocate(1)
	if err != nil {
		return err
	}
	if _, err := v.d.WriteAt(make([]byte, v.g.clusterBytes()), v.g.offset(clusters[0])); err != nil {
		return err
	}
	if err := v.d.Sync(); err != nil {
		return err
	}
	if err := v.link(clusters); err != nil {
		return err
	}
	return v.link([]uint32{chain[len(chain)-1], clusters[0]})
}

// replace points an entry to other content, by one write of one sector.
func (v *Volume) replace(old, e *Entry) error {
	at := old.places[len(old.places)-1]
	b := make([]byte, entrySize)
	if _, err := v.d.ReadAt(b, at); err != nil {
		return err
	}
	e.putPlace(b)
	return v.patch(at, b)
}

// Remove removes the file at a path.
func (v *Volume) Remove(name string) error {
	folder, err := v.folder(path.Dir(name))
	if err == nil {
		var e *Entry
		if e, err = v.find(folder, path.Base(name)); err == nil && e.Folder {
			err = errors.New("it is a folder")
		}
		if err == nil {
			if err = v.unpublish(e); err == nil {
				err = v.tidy()
			}
		}
	}
	if err != nil {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	return nil
}

// unpublish takes an entry out of its folder. The sector with the short entry goes first: a long name without it is nothing.
func (v *Volume) unpublish(e *Entry) error {
	bySector := map[int64][]int64{}
	var order []int64
	for _, at := range slices.Backward(e.places) {
		s := at / sectorSize
		if bySector[s] == nil {
			order = append(order, s)
		}
		bySector[s] = append(bySector[s], at)
	}
	for _, s := range order {
		sector := make([]byte, sectorSize)
		if _, err := v.d.ReadAt(sector, s*sectorSize); err != nil {
			return err
		}
		for _, at := range bySector[s] {
			sector[at-s*sectorSize] = deleted
		}
		if _, err := v.d.WriteAt(sector, s*sectorSize); err != nil {
			return err
		}
		if err := v.d.Sync(); err != nil {
			return err
		}
	}
	return nil
}

// Rename gives the file at a path another name in the same folder, which must be free. After a power cut the file has the old name, the new one, or both.
func (v *Volume) Rename(name, to string) error {
	if err := v.rename(name, to); err != nil {
		return fmt.Errorf("rename %s to %s: %w", name, to, err)
	}
	return nil
}

func (v *Volume) rename(name, to string) error {
	folder, err := v.folder(path.Dir(name))
	if err != nil {
		return err
	}
	old, err := v.find(folder, path.Base(name))
	if err != nil {
		return err
	}
	if _, err := v.find(folder, to); err == nil {
		return errors.New("that name is taken")
	} else if !errors.Is(err, ErrNotFound) {
		return err
	}
	renamed := *old
	renamed.Name = to
	if done, err := v.renameInPlace(old, &renamed); done || err != nil {
		return err
	}
	if err := v.publish(folder, &renamed); err != nil {
		return err
	}
	if err := v.unpublish(old); err != nil {
		return err
	}
	return v.writeInfo()
}

// renameInPlace writes the new name over the old one by one write of one sector, if there it fits.
func (v *Volume) renameInPlace(old, renamed *Entry) (bool, error) {
	first, last := old.places[0], old.places[len(old.places)-1]
	n := int64(len(old.places)) * entrySize
	if first/sectorSize != last/sectorSize || last-first != n-entrySize || isShort(renamed.Name) || isShort(old.Name) {
		return false, nil
	}
	b := renamed.encode()
	if int64(len(b)) > n {
		return false, nil
	}
	spare := make([]byte, n-int64(len(b)))
	for i := 0; i < len(spare); i += entrySize {
		spare[i] = deleted
	}
	return true, v.patch(first, append(spare, b...))
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
