// Package bundle writes and reads update bundles: a manifest, its signature and a unified kernel image in one file. FORMAT.md beside it has every byte.
//
// Open verifies all of it, before anybody sees any of it: the signature over the manifest (minisign, Ed25519), then the digest of the image that the manifest
// has, then that the image says of itself what the manifest says.
package bundle

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"aead.dev/minisign"

	"galvo/firmware/uki"
	"galvo/firmware/version"
)

const (
	magic      = "GALVOUP1"
	headerSize = 16
	// maxText is the largest manifest and signature.
	maxText = 1 << 16
	// MaxBytes is the largest bundle.
	MaxBytes = 192 << 20
	product  = "galvo"
)

// A Manifest says what a bundle is. It is what is signed.
type Manifest struct {
	Format  int    `json:"format"`  // 1
	Product string `json:"product"` // galvo
	Board   string `json:"board"`   // family, the name of the board's file
	Version string `json:"version"`
	Minimum string `json:"minimum"` // once this version was confirmed on a device, it takes none below this any more
	Build   string `json:"build"`   // identifies the content
	Bytes   int64  `json:"bytes"`   // of the image
	SHA256  string `json:"sha256"`  // of the image, in hexadecimal
}

// A Release is what an image says of itself in its os-release.
type Release struct {
	Board, Version, Minimum, Build string
}

// ReleaseOf reads what a unified kernel image says of itself.
func ReleaseOf(image io.ReaderAt) (Release, error) {
	v, err := uki.OSRelease(image)
	if err != nil {
		return Release{}, err
	}
	return ParseRelease(v)
}

// ParseRelease takes it from the values of an os-release file.
func ParseRelease(v map[string]string) (Release, error) {
	r := Release{Board: v["GALVO_BOARD"], Version: v["GALVO_VERSION"], Minimum: v["GALVO_MINIMUM"], Build: v["GALVO_BUILD"]}
	if v["ID"] != product || r.Board == "" || r.Build == "" {
		return r, errors.New("this is not an image of Galvo: its os-release does not say so")
	}
	return r, errors.Join(version.Check(r.Version), version.Check(r.Minimum))
}

// Describe returns the manifest for an image.
func Describe(image io.ReaderAt, size int64) (Manifest, error) {
	r, err := ReleaseOf(image)
	if err != nil {
		return Manifest{}, err
	}
	sum, err := digest(image, size)
	return Manifest{Format: 1, Product: product, Board: r.Board, Version: r.Version, Minimum: r.Minimum, Build: r.Build, Bytes: size, SHA256: sum}, err
}

func digest(r io.ReaderAt, size int64) (string, error) {
	sum := sha256.New()
	if _, err := io.Copy(sum, io.NewSectionReader(r, 0, size)); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// encode returns the manifest as it stands in the file.
func (m Manifest) encode() []byte {
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		panic(err) // of plain values
	}
	return append(text, '\n')
}

// Sign returns the signature of a manifest. It is what `minisign -S` makes, and depends on nothing else.
func Sign(m Manifest, key minisign.PrivateKey) []byte {
	return minisign.SignWithComments(key, m.encode(), fmt.Sprintf("galvo %s %s", m.Board, m.Version), "signature of a Galvo update")
}

// Write writes a bundle. An empty signature makes one that no device takes, for who signs elsewhere.
func Write(w io.Writer, m Manifest, signature []byte, image io.Reader) error {
	text := m.encode()
	h := binary.LittleEndian.AppendUint32([]byte(magic), uint32(len(text)))
	h = binary.LittleEndian.AppendUint32(h, uint32(len(signature)))
	for _, part := range [][]byte{h, text, signature} {
		if _, err := w.Write(part); err != nil {
			return err
		}
	}
	n, err := io.Copy(w, image)
	if err == nil && n != m.Bytes {
		err = fmt.Errorf("the image has %d bytes, its manifest says %d", n, m.Bytes)
	}
	return err
}

// A Bundle is an open file.
type Bundle struct {
	Manifest  Manifest
	Signature []byte
	Image     *io.SectionReader

	text []byte // the manifest, as it stands there
}

// Errors that a program may tell apart.
var (
	ErrUnsigned = errors.New("the update is not signed")
	ErrKey      = errors.New("the update is not signed with a key that is trusted here")
)

// Read reads a bundle of size bytes and verifies nothing but its form.
func Read(r io.ReaderAt, size int64) (*Bundle, error) {
	h := make([]byte, headerSize)
	if _, err := r.ReadAt(h, 0); err != nil || string(h[:8]) != magic {
		return nil, errors.New("this is not an update of Galvo: it does not begin with " + magic)
	}
	n, s := int64(binary.LittleEndian.Uint32(h[8:])), int64(binary.LittleEndian.Uint32(h[12:]))
	if n > maxText || s > maxText || headerSize+n+s > size || size > MaxBytes {
		return nil, errors.New("the update is damaged: its lengths contradict each other")
	}
	text := make([]byte, n+s)
	if _, err := r.ReadAt(text, headerSize); err != nil && err != io.EOF {
		return nil, fmt.Errorf("read the update: %w", err)
	}
	b := &Bundle{text: text[:n], Signature: text[n:], Image: io.NewSectionReader(r, headerSize+n+s, size-headerSize-n-s)}
	d := json.NewDecoder(bytes.NewReader(b.text))
	d.DisallowUnknownFields()
	if err := d.Decode(&b.Manifest); err != nil {
		return nil, fmt.Errorf("the update is damaged: its manifest cannot be read: %w", err)
	}
	return b, nil
}

// Open reads a bundle of size bytes and verifies all of it. The keys are those that are trusted; one suffices.
func Open(r io.ReaderAt, size int64, keys []minisign.PublicKey) (*Bundle, error) {
	b, err := Read(r, size)
	if err != nil {
		return nil, err
	}
	if err := b.Verify(keys); err != nil {
		return nil, err
	}
	return b, nil
}

var digestForm = regexp.MustCompile(`^[0-9a-f]{64}$`)

// Verify checks signature, digest and content.
func (b *Bundle) Verify(keys []minisign.PublicKey) error {
	m := b.Manifest
	if len(b.Signature) == 0 {
		return ErrUnsigned
	}
	if !canonical(b.Signature) {
		return errors.New("the update is damaged: its signature is not written as minisign writes it")
	}
	if !slices.ContainsFunc(keys, func(k minisign.PublicKey) bool { return minisign.Verify(k, b.text, b.Signature) }) {
		return ErrKey
	}
	switch {
	case m.Format != 1:
		return fmt.Errorf("the update has format %d, which this version does not know", m.Format)
	case m.Product != product:
		return fmt.Errorf("the update is for %q, not for %s", m.Product, product)
	case m.Bytes != b.Image.Size():
		return fmt.Errorf("the update is damaged: its image has %d bytes, the manifest says %d", b.Image.Size(), m.Bytes)
	case !digestForm.MatchString(m.SHA256):
		return errors.New("the update is damaged: its digest is none")
	}
	if err := errors.Join(version.Check(m.Version), version.Check(m.Minimum)); err != nil {
		return err
	}
	if version.Compare(m.Version, m.Minimum) < 0 {
		return fmt.Errorf("the update's version %s is below its own minimum %s", m.Version, m.Minimum)
	}
	sum, err := digest(b.Image, m.Bytes)
	if err != nil {
		return fmt.Errorf("read the update: %w", err)
	}
	if sum != m.SHA256 {
		return errors.New("the update is damaged: its image is not the one that was signed")
	}
	r, err := ReleaseOf(b.Image)
	if err != nil {
		return err
	}
	if r != (Release{Board: m.Board, Version: m.Version, Minimum: m.Minimum, Build: m.Build}) {
		return errors.New("the update's image says something else of itself than its manifest")
	}
	return nil
}

// canonical reports whether a signature is written in the one way that minisign does. Base64 has several spellings of the same bytes.
func canonical(signature []byte) bool {
	var s minisign.Signature
	if s.UnmarshalText(signature) != nil {
		return false
	}
	text, err := s.MarshalText()
	return err == nil && bytes.Equal(text, signature)
}

// ParseKey reads a public key of minisign, with or without its comment.
func ParseKey(text []byte) (minisign.PublicKey, error) {
	var k minisign.PublicKey
	if err := k.UnmarshalText(bytes.TrimSpace(text)); err != nil {
		return k, fmt.Errorf("this is not a public key of minisign: %w", err)
	}
	return k, nil
}

// ParsePrivateKey reads a private key of minisign; an encrypted one needs its password.
func ParsePrivateKey(text []byte, password func() (string, error)) (minisign.PrivateKey, error) {
	if !minisign.IsEncrypted(text) {
		var k minisign.PrivateKey
		if err := k.UnmarshalText(text); err != nil {
			return k, fmt.Errorf("this is not a private key of minisign: %w", err)
		}
		return k, nil
	}
	p, err := password()
	if err != nil {
		return minisign.PrivateKey{}, err
	}
	k, err := minisign.DecryptKey(strings.TrimRight(p, "\r\n"), text)
	if err != nil {
		return k, fmt.Errorf("decrypt the private key: %w", err)
	}
	return k, nil
}
