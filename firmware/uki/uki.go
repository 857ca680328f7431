// Package uki makes and reads unified kernel images: one EFI program of the systemd stub, kernel, initramfs, command line and os-release, so that
// one signature covers all of it (UAPI.5, Unified Kernel Image; Microsoft, PE Format).
//
// The stub is taken as it is and sections are appended to it.
package uki

import (
	"bytes"
	"debug/pe"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Parts are what an image is made of.
type Parts struct {
	Stub      []byte // linuxx64.efi.stub, linuxaa64.efi.stub
	OSRelease []byte // os-release(5)
	CmdLine   string
	Uname     string // the kernel's release
	Initrd    []byte
	Kernel    []byte
}

const (
	sectionHeaderSize = 40
	fileHeaderSize    = 20
	initialisedData   = 0x00000040
	readable          = 0x40000000
)

// Build returns the image.
func Build(p Parts) ([]byte, error) {
	h, err := parseHeaders(p.Stub)
	if err != nil {
		return nil, fmt.Errorf("read the stub: %w", err)
	}
	sections := []struct {
		name    string
		content []byte
	}{
		{".osrel", p.OSRelease}, {".cmdline", append([]byte(p.CmdLine), 0)}, {".uname", append([]byte(p.Uname), 0)}, {".initrd", p.Initrd}, {".linux", p.Kernel},
	}
	if h.tableEnd()+len(sections)*sectionHeaderSize > h.headersSize() {
		return nil, errors.New("the stub has no room for more sections")
	}
	// Behind the last section stubs carry symbols, which would be a gap that signers count differently.
	out := bytes.NewBuffer(bytes.Clone(p.Stub[:h.end]))
	pad(out, h.fileAlignment())
	address := align(h.imageEnd, h.sectionAlignment())
	for _, s := range sections {
		raw := out.Len()
		out.Write(s.content)
		pad(out, h.fileAlignment())
		size := out.Len() - raw
		header := make([]byte, sectionHeaderSize)
		copy(header, s.name)
		le := binary.LittleEndian
		le.PutUint32(header[8:], uint32(len(s.content)))
		le.PutUint32(header[12:], uint32(address))
		le.PutUint32(header[16:], uint32(size))
		le.PutUint32(header[20:], uint32(raw))
		le.PutUint32(header[36:], initialisedData|readable)
		copy(out.Bytes()[h.tableEnd():], header)
		h.addSection(out.Bytes(), size)
		address = align(address+len(s.content), h.sectionAlignment())
	}
	if address > 1<<31 {
		return nil, errors.New("the image is larger than 2 GiB")
	}
	h.finish(out.Bytes(), address)
	return out.Bytes(), nil
}

func align(n, to int) int { return (n + to - 1) / to * to }

func pad(b *bytes.Buffer, to int) {
	b.Write(make([]byte, align(b.Len(), to)-b.Len()))
}

// headers is where things are in the stub.
type headers struct {
	b        []byte
	file     int // of the file header
	optional int
	sections int // how many
	end      int // of the last section's content
	imageEnd int // of the last section in memory
}

func parseHeaders(b []byte) (*headers, error) {
	f, err := pe.NewFile(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	if _, ok := f.OptionalHeader.(*pe.OptionalHeader64); !ok {
		return nil, errors.New("it is not a PE32+ program")
	}
	h := &headers{b: b, file: int(binary.LittleEndian.Uint32(b[0x3c:])) + 4, sections: int(f.NumberOfSections)}
	h.optional = h.file + fileHeaderSize
	if h.sectionAlignment() <= 0 || h.fileAlignment() <= 0 {
		return nil, errors.New("its alignments are zero")
	}
	for _, s := range f.Sections {
		h.end = max(h.end, int(s.Offset+s.Size))
		h.imageEnd = max(h.imageEnd, int(s.VirtualAddress+max(s.VirtualSize, s.Size)))
	}
	if h.end > len(b) || h.end < h.tableEnd() {
		return nil, errors.New("its sections lie outside of it")
	}
	return h, nil
}

// Offsets in the optional header of PE32+.
const (
	offInitialised      = 8
	offSectionAlignment = 32
	offFileAlignment    = 36
	offImageSize        = 56
	offHeadersSize      = 60
	offCheckSum         = 64
	offCertificates     = 112 + 4*8
)

func (h *headers) field(off int) int     { return int(binary.LittleEndian.Uint32(h.b[h.optional+off:])) }
func (h *headers) sectionAlignment() int { return h.field(offSectionAlignment) }
func (h *headers) fileAlignment() int    { return h.field(offFileAlignment) }
func (h *headers) headersSize() int      { return h.field(offHeadersSize) }

// tableEnd is where the next section's header goes.
func (h *headers) tableEnd() int {
	size := int(binary.LittleEndian.Uint16(h.b[h.file+16:]))
	return h.optional + size + h.sections*sectionHeaderSize
}

// addSection counts a section whose header was written.
func (h *headers) addSection(b []byte, size int) {
	le := binary.LittleEndian
	h.sections++
	le.PutUint16(b[h.file+2:], uint16(h.sections))
	at := b[h.optional+offInitialised:]
	le.PutUint32(at, le.Uint32(at)+uint32(size))
}

// finish makes the headers fit the image, without symbols, check sum and signature.
func (h *headers) finish(b []byte, imageSize int) {
	clear(b[h.file+8 : h.file+16]) // symbols
	le := binary.LittleEndian
	le.PutUint32(b[h.optional+offImageSize:], uint32(imageSize))
	le.PutUint32(b[h.optional+offCheckSum:], 0)
	clear(b[h.optional+offCertificates:][:8])
}

// Section returns the content of a section of an image, as .osrel, without reading the rest. Content of more than most bytes is an error.
func Section(r io.ReaderAt, name string, most uint32) ([]byte, error) {
	f, err := pe.NewFile(r)
	if err != nil {
		return nil, fmt.Errorf("this is not an EFI program: %w", err)
	}
	s := f.Section(name)
	if s == nil {
		return nil, fmt.Errorf("the EFI program has no section %s", name)
	}
	size := min(s.Size, s.VirtualSize)
	if size > most {
		return nil, fmt.Errorf("section %s has %d bytes, at most %d are read", name, size, most)
	}
	b := make([]byte, size)
	if _, err := s.ReadAt(b, 0); err != nil && err != io.EOF {
		return nil, fmt.Errorf("read section %s: %w", name, err)
	}
	return b, nil
}

// OSRelease returns the values of the os-release of an image (os-release(5)), without quotes.
func OSRelease(r io.ReaderAt) (map[string]string, error) {
	text, err := Section(r, ".osrel", 1<<16)
	if err != nil {
		return nil, err
	}
	return ParseOSRelease(text), nil
}

// ParseOSRelease returns the values of an os-release file, without quotes.
func ParseOSRelease(text []byte) map[string]string {
	values := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			values[key] = strings.Trim(value, `"'`)
		}
	}
	return values
}
