package fat

import (
	"errors"
	"slices"
)

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
