package debian

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strconv"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/therootcompany/xz"
)

// Files calls each with every regular file and symbolic link of a package (deb(5)), in the package's order. Paths have no leading slash. The content is
// valid until each returns.
func Files(deb string, each func(h *tar.Header, content io.Reader) error) error {
	f, err := os.Open(deb)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := files(bufio.NewReaderSize(f, 1<<20), each); err != nil {
		return fmt.Errorf("read package %s: %w", deb, err)
	}
	return nil
}

func files(r io.Reader, each func(h *tar.Header, content io.Reader) error) error {
	magic := make([]byte, 8)
	if _, err := io.ReadFull(r, magic); err != nil || string(magic) != "!<arch>\n" {
		return errors.New("it is not a Debian package")
	}
	for {
		name, size, err := member(r)
		if err != nil {
			return fmt.Errorf("find data.tar: %w", err)
		}
		body := io.LimitReader(r, size)
		if strings.HasPrefix(name, "data.tar") {
			data, err := decompress(name, body)
			if err != nil {
				return err
			}
			return untar(data, each)
		}
		if _, err := io.CopyN(io.Discard, r, size+size%2); err != nil {
			return err
		}
	}
}

// member reads the header of an ar member (ar(5)).
func member(r io.Reader) (name string, size int64, err error) {
	var h [60]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return "", 0, err
	}
	if h[58] != '`' || h[59] != '\n' {
		return "", 0, errors.New("bad ar header")
	}
	size, err = strconv.ParseInt(strings.TrimSpace(string(h[48:58])), 10, 64)
	if err != nil || size < 0 {
		return "", 0, errors.New("bad size in ar header")
	}
	return strings.TrimSuffix(strings.TrimSpace(string(h[:16])), "/"), size, nil
}

func decompress(name string, r io.Reader) (io.Reader, error) {
	switch path.Ext(name) {
	case ".tar":
		return r, nil
	case ".gz":
		return gzip.NewReader(r)
	case ".xz":
		return xz.NewReader(r, 0)
	case ".zst":
		return zstd.NewReader(r)
	}
	return nil, fmt.Errorf("%s has a compression that is not known here", name)
}

func untar(r io.Reader, each func(h *tar.Header, content io.Reader) error) error {
	for t := tar.NewReader(r); ; {
		h, err := t.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		h.Name = strings.TrimPrefix(path.Clean("/"+h.Name), "/")
		if h.Typeflag != tar.TypeReg && h.Typeflag != tar.TypeSymlink && h.Typeflag != tar.TypeLink {
			continue
		}
		if err := each(h, t); err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
	}
}

// ReadFiles returns the content of the package's files that want says, by their path without a leading slash. Links are resolved within the package
// where the file that they point to is wanted too, and else left out.
func ReadFiles(deb string, want func(path string) bool) (map[string][]byte, error) {
	out := map[string][]byte{}
	links := map[string]string{}
	err := Files(deb, func(h *tar.Header, content io.Reader) error {
		if !want(h.Name) {
			return nil
		}
		switch h.Typeflag {
		case tar.TypeSymlink:
			target := h.Linkname
			if !path.IsAbs(target) {
				target = path.Join("/", path.Dir(h.Name), target)
			}
			links[h.Name] = strings.TrimPrefix(path.Clean(target), "/")
		case tar.TypeLink:
			links[h.Name] = strings.TrimPrefix(path.Clean("/"+h.Linkname), "/")
		default:
			var b bytes.Buffer
			if _, err := io.Copy(&b, content); err != nil {
				return err
			}
			out[h.Name] = b.Bytes()
		}
		return nil
	})
	for name, target := range links {
		for range len(links) {
			if next, ok := links[target]; ok {
				target = next
			}
		}
		if content, ok := out[target]; ok {
			out[name] = content
		}
	}
	return out, err
}
