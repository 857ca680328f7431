package fat

import (
	"errors"
	"fmt"
	"io"
	"path"
)

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
