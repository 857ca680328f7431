package fat

import (
	"fmt"
	"io"
	"path"
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
