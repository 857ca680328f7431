package bundle

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"aead.dev/minisign"

	"galvo/firmware/uki/ukitest"
)

var update = flag.Bool("update", false, "write the golden file")

// key returns a key that is the same for the same seed.
func key(t testing.TB, seed byte) (minisign.PublicKey, minisign.PrivateKey) {
	t.Helper()
	public, private, err := minisign.GenerateKey(bytes.NewReader(bytes.Repeat([]byte{seed}, 64)))
	if err != nil {
		t.Fatal(err)
	}
	return public, private
}

// made returns a bundle whose manifest was changed before it was signed.
func made(t testing.TB, private minisign.PrivateKey, change func(*Manifest)) []byte {
	t.Helper()
	image := ukitest.Image("generic-amd64", "1.2.3", "1.1.0", "build-3", bytes.Repeat([]byte("initramfs"), 300))
	m, err := Describe(bytes.NewReader(image), int64(len(image)))
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(&m)
	}
	var b bytes.Buffer
	Write(&b, m, Sign(m, private), bytes.NewReader(image))
	return b.Bytes()
}

func open(b []byte, keys ...minisign.PublicKey) (*Bundle, error) {
	return Open(bytes.NewReader(b), int64(len(b)), keys)
}

func TestRoundTrip(t *testing.T) {
	public, private := key(t, 1)
	other, _ := key(t, 2)
	b, err := open(made(t, private, nil), other, public)
	if err != nil {
		t.Fatal(err)
	}
	want := Manifest{Format: 1, Product: "galvo", Board: "generic-amd64", Version: "1.2.3", Minimum: "1.1.0", Build: "build-3", Bytes: b.Image.Size(), SHA256: b.Manifest.SHA256}
	if b.Manifest != want {
		t.Errorf("manifest %+v, want %+v", b.Manifest, want)
	}
	if r, err := ReleaseOf(b.Image); err != nil || r.Version != "1.2.3" {
		t.Errorf("image: %+v, %v", r, err)
	}
}

// Whatever byte of a bundle is another one, it is not opened.
func TestEveryByteCounts(t *testing.T) {
	public, private := key(t, 1)
	good := made(t, private, nil)
	n, s := int(binary.LittleEndian.Uint32(good[8:])), int(binary.LittleEndian.Uint32(good[12:]))
	signature := string(good[headerSize+n:][:s])
	comment := headerSize + n + strings.IndexByte(signature, '\n') // the first line is not signed and says nothing
	for i := range good {
		if i >= headerSize+n && i <= comment {
			continue
		}
		bad := bytes.Clone(good)
		bad[i] ^= 0x04
		if _, err := open(bad, public); err == nil {
			t.Errorf("byte %d of %d was changed, and nobody noticed", i, len(good))
		}
	}
	for _, n := range []int{0, 7, 15, 16, 100, headerSize + n, len(good) - 1} {
		if _, err := open(good[:n], public); err == nil {
			t.Errorf("the bundle was cut at %d, and nobody noticed", n)
		}
	}
	if _, err := open(append(bytes.Clone(good), 0), public); err == nil {
		t.Error("a byte too many, and nobody noticed")
	}
}

func TestRefusals(t *testing.T) {
	public, private := key(t, 1)
	_, wrong := key(t, 2)
	for _, c := range []struct {
		name   string
		key    minisign.PrivateKey
		change func(*Manifest)
		want   string
	}{
		{"wrong key", wrong, nil, "not signed with a key"},
		{"other product", private, func(m *Manifest) { m.Product = "other" }, `for "other"`},
		{"newer format", private, func(m *Manifest) { m.Format = 2 }, "format 2"},
		{"other digest", private, func(m *Manifest) { m.SHA256 = strings.Repeat("0", 64) }, "not the one that was signed"},
		{"no digest", private, func(m *Manifest) { m.SHA256 = "" }, "its digest is none"},
		{"other size", private, func(m *Manifest) { m.Bytes++ }, "bytes, the manifest says"},
		{"no version", private, func(m *Manifest) { m.Version = "new" }, "not a version"},
		{"below its minimum", private, func(m *Manifest) { m.Minimum = "1.3" }, "below its own minimum"},
		{"image of another board", private, func(m *Manifest) { m.Board = "generic-arm64" }, "something else of itself"},
		{"image of another version", private, func(m *Manifest) { m.Version = "1.2.4" }, "something else of itself"},
	} {
		_, err := open(made(t, c.key, c.change), public)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	image := ukitest.Image("b", "1.0", "1.0", "x", nil)
	m, err := Describe(bytes.NewReader(image), int64(len(image)))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := Write(&b, m, nil, bytes.NewReader(image)); err != nil {
		t.Fatal(err)
	}
	if _, err := open(b.Bytes(), public); !errors.Is(err, ErrUnsigned) {
		t.Errorf("no signature: %v", err)
	}
	if _, err := open(made(t, private, nil)); !errors.Is(err, ErrKey) {
		t.Errorf("no keys: %v", err)
	}
}

// The golden file holds the format that FORMAT.md describes: what devices out there take must not change.
func TestGolden(t *testing.T) {
	public, private := key(t, 1)
	b := made(t, private, nil)
	path := filepath.Join("testdata", "bundle-1.galvo")
	if *update {
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	golden, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b, golden) {
		t.Error("a bundle of the same parts has other bytes than the golden file")
	}
	if _, err := open(golden, public); err != nil {
		t.Errorf("the golden file: %v", err)
	}
	// By hand, as FORMAT.md says.
	n, s := binary.LittleEndian.Uint32(golden[8:12]), binary.LittleEndian.Uint32(golden[12:16])
	manifest, signature, image := golden[16:16+n], golden[16+n:16+n+s], golden[16+n+s:]
	sum := sha256.Sum256(image)
	if string(golden[:8]) != "GALVOUP1" || !minisign.Verify(public, manifest, signature) || !bytes.Contains(manifest, []byte(hex.EncodeToString(sum[:]))) {
		t.Error("the golden file is not as FORMAT.md says")
	}
}

func FuzzOpen(f *testing.F) {
	public, private := key(f, 1)
	f.Add(made(f, private, nil)[:2000])
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, b []byte) {
		if opened, err := open(b, public); err == nil && !bytes.Equal(b, made(t, private, nil)) && opened.Manifest.Product != product {
			t.Error("opened something else")
		}
		ReleaseOf(bytes.NewReader(b))
	})
}
