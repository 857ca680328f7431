package slot

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"aead.dev/minisign"

	"galvo/firmware/bundle"
	"galvo/firmware/fat"
	"galvo/firmware/uki/ukitest"
)

const deviceBytes = 68 << 20

// flash is a system partition in memory that loses its power after some operations: of the sectors that were written since the last Sync it keeps any.
type flash struct {
	b       []byte
	left    int // operations until the power is cut; negative is never
	pending map[int64][]byte
	rnd     *rand.Rand
}

var errCut = errors.New("power cut")

func (f *flash) ReadAt(p []byte, off int64) (int, error) {
	n := copy(p, f.b[min(off, int64(len(f.b))):])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *flash) spend() error {
	if f.left == 0 {
		return errCut
	}
	f.left--
	return nil
}

func (f *flash) WriteAt(p []byte, off int64) (int, error) {
	if err := f.spend(); err != nil {
		return 0, err
	}
	if f.rnd != nil {
		for i := 0; i < len(p); i += 512 {
			if at := off + int64(i); f.pending[at] == nil {
				f.pending[at] = slices.Clone(f.b[at:][:min(512, len(p)-i)])
			}
		}
	}
	return copy(f.b[off:], p), nil
}

func (f *flash) Sync() error {
	if err := f.spend(); err != nil {
		return err
	}
	clear(f.pending)
	return nil
}

func (f *flash) cut() {
	for at, old := range f.pending {
		if f.rnd.IntN(2) == 0 {
			copy(f.b[at:], old)
		}
	}
	clear(f.pending)
	f.left = -1
}

// image returns an image of a version; its build is named after it.
func image(v, minimum string) []byte {
	return ukitest.Image("generic-amd64", v, minimum, "build "+v, bytes.Repeat([]byte(v), 10000))
}

func release(v, minimum string) bundle.Release {
	return bundle.Release{Board: "generic-amd64", Version: v, Minimum: minimum, Build: "build " + v}
}

func update(t testing.TB, image []byte) *bundle.Bundle {
	t.Helper()
	public, private, err := minisign.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	m, err := bundle.Describe(bytes.NewReader(image), int64(len(image)))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := bundle.Write(&b, m, bundle.Sign(m, private), bytes.NewReader(image)); err != nil {
		t.Fatal(err)
	}
	out, err := bundle.Open(bytes.NewReader(b.Bytes()), int64(b.Len()), []minisign.PublicKey{public})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// flashed returns a device with an image of version 1.0.0, as it comes out of the factory.
func flashed(t testing.TB) *flash {
	t.Helper()
	f := &flash{b: make([]byte, deviceBytes), left: -1, pending: map[int64][]byte{}}
	if err := fat.Format(f, fat.Options{Bytes: deviceBytes, ClusterBytes: 1024, Label: "GALVO"}); err != nil {
		t.Fatal(err)
	}
	p := partition(t, f)
	if err := p.v.MakeFolder(folder); err != nil {
		t.Fatal(err)
	}
	put(t, p, First("1.0.0"), image("1.0.0", "0.9"))
	return f
}

func put(t testing.TB, p *Partition, name string, content []byte) {
	t.Helper()
	if err := p.v.WriteFile(name, int64(len(content)), bytes.NewReader(content)); err != nil {
		t.Fatal(err)
	}
}

func partition(t testing.TB, f *flash) *Partition {
	t.Helper()
	p, err := Open(f)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// boot does what systemd-boot does: it chooses an image by name, counts the try, and starts it.
func boot(t testing.TB, f *flash) (Slot, bundle.Release) {
	t.Helper()
	p := partition(t, f)
	slots, err := p.Slots()
	if err != nil {
		t.Fatal(err)
	}
	s, ok := Next(slots)
	if !ok {
		t.Fatal("there is nothing to boot")
	}
	if s.Counted && s.TriesLeft > 0 {
		stem, _, _ := strings.Cut(s.File, "+")
		to := fmt.Sprintf("%s+%d-%d.efi", stem, s.TriesLeft-1, s.TriesDone+1)
		if err := p.v.Rename(folder+"/"+s.File, to); err != nil {
			t.Fatal(err)
		}
	}
	r, err := p.v.Open(folder + "/" + strings.Replace(s.File, fmt.Sprintf("+%d-%d", s.TriesLeft, s.TriesDone), fmt.Sprintf("+%d-%d", s.TriesLeft-1, s.TriesDone+1), 1))
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	// What starts is whole.
	if !bytes.Equal(content, image(s.Release.Version, s.Release.Minimum)) {
		t.Fatalf("%s is not whole", s.File)
	}
	return s, s.Release
}

func install(t testing.TB, f *flash, now bundle.Release, v, minimum string) {
	t.Helper()
	if _, err := partition(t, f).Install(now, update(t, image(v, minimum))); err != nil {
		t.Fatalf("install %s: %v", v, err)
	}
}

func TestGoodUpdate(t *testing.T) {
	f := flashed(t)
	_, now := boot(t, f)
	for _, v := range []string{"1.1.0", "1.2.0", "1.1.5"} { // the last one is older, and above the minimum
		install(t, f, now, v, "1.1")
		s, tried := boot(t, f)
		if tried.Version != v || !s.Counted {
			t.Fatalf("booted %+v, want %s on trial", s, v)
		}
		if changed, err := partition(t, f).Confirm(tried); err != nil || !changed {
			t.Fatalf("confirm: %v, %v", changed, err)
		}
		if s, again := boot(t, f); again != tried || s.Counted {
			t.Fatalf("after the confirmation %+v is booted", s)
		}
		now = tried
	}
	if slots, err := partition(t, f).Slots(); err != nil || len(slots) != 2 {
		t.Errorf("there are %d images, want 2: %+v, %v", len(slots), slots, err)
	}
	if changed, err := partition(t, f).Confirm(now); err != nil || changed {
		t.Errorf("confirmed again: %v, %v", changed, err)
	}
}

func TestBadUpdateFallsBack(t *testing.T) {
	f := flashed(t)
	_, now := boot(t, f)
	install(t, f, now, "1.1.0", "1.1")
	for try := range 3 {
		if _, tried := boot(t, f); tried.Version != "1.1.0" {
			t.Fatalf("try %d is of %s", try+1, tried.Version)
		}
	}
	if _, back := boot(t, f); back != now {
		t.Fatalf("after three tries %+v is booted", back)
	}
	// What was never confirmed raises no minimum, and makes place for the next one.
	install(t, f, now, "1.0.5", "1.0")
	if _, tried := boot(t, f); tried.Version != "1.0.5" {
		t.Errorf("booted %s", tried.Version)
	}
}

func TestInstallRefuses(t *testing.T) {
	f := flashed(t)
	_, now := boot(t, f)
	p := partition(t, f)
	before := bytes.Clone(f.b)
	other := update(t, ukitest.Image("generic-arm64", "2.0.0", "1.0", "other", nil))
	for _, c := range []struct {
		name string
		now  bundle.Release
		b    *bundle.Bundle
		want string
	}{
		{"other board", now, other, "for generic-arm64"},
		{"below the minimum", now, update(t, image("0.8.9", "0.1")), "none below 0.9"},
		{"the same", now, update(t, image("1.0.0", "0.9")), ErrSame.Error()},
		{"booted from elsewhere", release("7.7", "0.1"), update(t, image("8.0", "0.1")), ErrElsewhere.Error()},
	} {
		_, err := p.Install(c.now, c.b)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	if !bytes.Equal(before, f.b) {
		t.Error("a refused update wrote something")
	}
	install(t, f, now, "1.1.0", "1.1")
	_, tried := boot(t, f)
	if _, err := partition(t, f).Install(tried, update(t, image("1.2.0", "1.1"))); !errors.Is(err, ErrUnconfirmed) {
		t.Errorf("an update of what is on trial: %v", err)
	}
	if _, err := partition(t, f).Confirm(tried); err != nil {
		t.Fatal(err)
	}
	// The confirmed one's minimum stays, even if the one before runs again.
	_, err := partition(t, f).Install(now, update(t, image("1.0.9", "0.9")))
	var refusal *Refusal
	if !errors.As(err, &refusal) || !strings.Contains(refusal.Text, "none below 1.1") {
		t.Errorf("below a confirmed minimum: %v", err)
	}
}

// At whatever operation of an installation or a confirmation the power is cut: the device boots the old firmware or the new one, whole, and can be updated
// again.
func TestPowerCut(t *testing.T) {
	base := flashed(t)
	_, now := boot(t, base)
	install(t, base, now, "1.1.0", "1.1")
	trial := &flash{b: bytes.Clone(base.b), left: -1, pending: map[int64][]byte{}}
	_, tried := boot(t, trial)
	next := update(t, image("1.3.0", "1.0"))
	for _, c := range []struct {
		name  string
		start []byte
		do    func(p *Partition) error
		may   []string // versions
	}{
		{"install", base.b, func(p *Partition) error { _, err := p.Install(now, next); return err }, []string{"1.0.0", "1.1.0", "1.3.0"}},
		{"confirm", trial.b, func(p *Partition) error { _, err := p.Confirm(tried); return err }, []string{"1.1.0"}},
	} {
		work := make([]byte, deviceBytes)
		n := 0
		for done := false; !done; n++ {
			copy(work, c.start)
			f := &flash{b: work, left: n, pending: map[int64][]byte{}, rnd: rand.New(rand.NewPCG(uint64(n), 7))}
			err := c.do(partition(t, f))
			if err != nil && !errors.Is(err, errCut) {
				t.Fatalf("%s, cut after %d: %v", c.name, n, err)
			}
			done = err == nil
			f.cut()
			_, booted := boot(t, f)
			if !slices.Contains(c.may, booted.Version) {
				t.Fatalf("%s, cut after %d: %s is booted", c.name, n, booted.Version)
			}
			// In the end there is always the confirmed one.
			p := partition(t, f)
			if _, err := p.Confirm(booted); err != nil {
				t.Fatalf("%s, cut after %d: confirm: %v", c.name, n, err)
			}
			if _, again := boot(t, f); again != booted {
				t.Fatalf("%s, cut after %d: %s was confirmed, %s is booted", c.name, n, booted.Version, again.Version)
			}
			install(t, f, booted, "1.9.0", "1.0")
			if _, tried := boot(t, f); tried.Version != "1.9.0" {
				t.Fatalf("%s, cut after %d: a later update does not boot", c.name, n)
			}
		}
		if n < 4 {
			t.Errorf("%s has only %d operations", c.name, n)
		}
		t.Logf("%s: cut at each of %d operations", c.name, n)
	}
}
