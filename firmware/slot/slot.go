// Package slot installs and confirms firmware on a device's system partition.
//
// A slot is a unified kernel image in EFI/Linux, with systemd-boot's boot counter in its name (systemd, Automatic Boot Assessment):
//
//	galvo-0007-1.2.3+3-0.efi     installed, three tries left
//	galvo-0007-1.2.3+1-2.efi     being tried for the second time
//	galvo-0007-1.2.3.efi         confirmed
//	galvo-0007-1.2.3+0-3.efi     given up: systemd-boot takes the one before
//
// systemd-boot takes the highest number that has tries left or needs none, and counts a try by a rename before it starts it. So there are two images: the one
// that runs, confirmed, and the one that was installed last. Whatever is cut off, the confirmed one stays whole: Install writes beside it, and a new name
// appears with one write of one sector when everything behind it is on the disk.
//
// Nothing here needs EFI variables, which some machines lose.
package slot

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"galvo/firmware/bundle"
	"galvo/firmware/fat"
	"galvo/firmware/version"
)

const (
	folder = "EFI/Linux"
	// floorFile holds the lowest version that the device takes. It lies beside the images, so that it survives a new data partition.
	floorFile = "EFI/galvo/minimum"
	// tries is how often a new image is started before the one before is taken again.
	tries = 3
)

// A Slot is an image on the system partition.
type Slot struct {
	File      string // name in EFI/Linux
	Sequence  int    // rises with each installation
	Counted   bool   // it has a boot counter: it was not confirmed
	TriesLeft int
	TriesDone int
	Bytes     int64
	Release   bundle.Release // what the image says of itself; empty if it cannot be read
}

var form = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?i)^galvo-([0-9]{1,8})-([0-9][0-9a-z.-]*?)(\+([0-9]{1,4})(-([0-9]{1,4}))?)?\.efi$`)
})

// parse reads a file's name.
func parse(name string) (Slot, bool) {
	m := form().FindStringSubmatch(name)
	if m == nil {
		return Slot{}, false
	}
	number := func(s string) int { n, _ := strconv.Atoi(s); return n }
	return Slot{File: name, Sequence: number(m[1]), Counted: m[3] != "", TriesLeft: number(m[4]), TriesDone: number(m[6])}, true
}

// name returns the file's name without a counter.
func name(sequence int, version string) string {
	return fmt.Sprintf("galvo-%04d-%s.efi", sequence, version)
}

// First returns the name of the image on a disk that was just flashed: confirmed, as there is nothing to fall back to.
func First(version string) string { return path.Join(folder, name(1, version)) }

// counted returns a file's name with a counter of tries left and none done.
func counted(name string) string {
	return strings.TrimSuffix(name, ".efi") + fmt.Sprintf("+%d-0.efi", tries)
}

// A Partition is an open system partition. It may be used by one goroutine at a time.
type Partition struct{ v *fat.Volume }

// Open opens the system partition on a device.
func Open(d fat.Device) (*Partition, error) {
	v, err := fat.Open(d)
	if err != nil {
		return nil, fmt.Errorf("open the system partition: %w", err)
	}
	return &Partition{v}, nil
}

// Slots returns the images, newest first.
func (p *Partition) Slots() ([]Slot, error) {
	entries, err := p.v.List(folder)
	if err != nil {
		return nil, err
	}
	var out []Slot
	for _, e := range entries {
		s, ok := parse(e.Name)
		if !ok || e.Folder {
			continue
		}
		s.Bytes = e.Size
		if image, err := p.v.Open(path.Join(folder, e.Name)); err == nil {
			// What cannot be read does not start either, and is replaced by the next installation.
			s.Release, _ = bundle.ReleaseOf(image)
		}
		out = append(out, s)
	}
	slices.SortStableFunc(out, func(a, b Slot) int { return cmp.Compare(b.Sequence, a.Sequence) })
	return out, nil
}

// Next returns the image that systemd-boot would start, as far as it decides that by name.
func Next(slots []Slot) (Slot, bool) {
	usable := func(s Slot) bool { return !s.Counted || s.TriesLeft > 0 }
	for _, ok := range []func(Slot) bool{usable, func(Slot) bool { return true }} {
		if i := slices.IndexFunc(slots, ok); i >= 0 {
			return slots[i], true
		}
	}
	return Slot{}, false
}

// running returns the image with the build that runs.
func running(slots []Slot, build string) (Slot, bool) {
	i := slices.IndexFunc(slots, func(s Slot) bool { return s.Release.Build == build && build != "" })
	if i < 0 {
		return Slot{}, false
	}
	return slots[i], true
}

// Running returns the image with the build that runs.
func (p *Partition) Running(build string) (Slot, error) {
	slots, err := p.Slots()
	if err != nil {
		return Slot{}, err
	}
	s, ok := running(slots, build)
	if !ok {
		return s, ErrElsewhere
	}
	return s, nil
}

// Reasons for which an installation is refused; each says what to do.
var (
	ErrElsewhere   = errors.New("the firmware that runs was started from no disk of this machine: boot it from the disk that it is to be on")
	ErrUnconfirmed = errors.New("the firmware that runs is itself new and not confirmed yet: wait until the device is ready, or restart it to go back")
	ErrSame        = errors.New("this firmware runs already")
)

// A Refusal is a bundle that is not for this device.
type Refusal struct{ Text string }

// Error returns Text.
func (r *Refusal) Error() string { return r.Text }

// Floor returns the lowest version that may be installed over what runs.
func (p *Partition) Floor(now bundle.Release) (string, error) {
	floor := now.Minimum
	r, err := p.v.Open(floorFile)
	switch {
	case errors.Is(err, fat.ErrNotFound):
		return floor, nil
	case err != nil:
		return "", err
	}
	text, err := io.ReadAll(io.LimitReader(r, 256))
	if err != nil {
		return "", err
	}
	if v := strings.TrimSpace(string(text)); version.Check(v) == nil && version.Compare(v, floor) > 0 {
		floor = v
	}
	return floor, nil
}

// Check says whether a bundle, whose signature was verified, is for this device.
func (p *Partition) Check(now bundle.Release, m bundle.Manifest) error {
	if m.Board != now.Board {
		return &Refusal{fmt.Sprintf("the update is for %s, this device is a %s", m.Board, now.Board)}
	}
	floor, err := p.Floor(now)
	if err != nil {
		return err
	}
	if version.Compare(m.Version, floor) < 0 {
		return &Refusal{fmt.Sprintf("the update is version %s, this device takes none below %s: what was mended since must not come back", m.Version, floor)}
	}
	return nil
}

// Install writes the image of a verified bundle as the one to start next. It removes every other image but the one that runs.
func (p *Partition) Install(now bundle.Release, b *bundle.Bundle) (Slot, error) {
	if err := p.Check(now, b.Manifest); err != nil {
		return Slot{}, err
	}
	slots, err := p.Slots()
	if err != nil {
		return Slot{}, err
	}
	own, ok := running(slots, now.Build)
	switch {
	case !ok:
		return Slot{}, ErrElsewhere
	case own.Counted:
		return Slot{}, ErrUnconfirmed
	case b.Manifest.Build == now.Build:
		return Slot{}, ErrSame
	}
	sequence := 0
	for _, s := range slots {
		sequence = max(sequence, s.Sequence)
		if s.File != own.File {
			if err := p.v.Remove(path.Join(folder, s.File)); err != nil {
				return Slot{}, err
			}
		}
	}
	file := counted(name(sequence+1, b.Manifest.Version))
	if _, err := b.Image.Seek(0, io.SeekStart); err != nil {
		return Slot{}, err
	}
	if err := p.v.WriteFile(path.Join(folder, file), b.Manifest.Bytes, b.Image); err != nil {
		return Slot{}, err
	}
	if err := p.readBack(file, b.Manifest.SHA256); err != nil {
		return Slot{}, errors.Join(err, p.v.Remove(path.Join(folder, file)))
	}
	s, _ := parse(file)
	s.Bytes = b.Manifest.Bytes
	s.Release = bundle.Release{Board: b.Manifest.Board, Version: b.Manifest.Version, Minimum: b.Manifest.Minimum, Build: b.Manifest.Build}
	return s, nil
}

func (p *Partition) readBack(file, want string) error {
	r, err := p.v.Open(path.Join(folder, file))
	if err != nil {
		return err
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, r); err != nil {
		return fmt.Errorf("read the new image back: %w", err)
	}
	if hex.EncodeToString(sum.Sum(nil)) != want {
		return errors.New("the new image reads back differently than it was written: the disk is failing")
	}
	return nil
}

// Confirm makes the image that runs the one that stays, and raises the lowest version that the device takes. It reports whether there was something to
// confirm.
func (p *Partition) Confirm(now bundle.Release) (bool, error) {
	slots, err := p.Slots()
	if err != nil {
		return false, err
	}
	changed := false
	for _, s := range slots {
		if s.Release.Build != now.Build || !s.Counted {
			continue
		}
		file, plain := path.Join(folder, s.File), name(s.Sequence, s.Release.Version)
		if slices.ContainsFunc(slots, func(o Slot) bool { return o.File == plain }) {
			// A power cut in a rename left both names of one image.
			err = p.v.Remove(file)
		} else {
			err = p.v.Rename(file, plain)
		}
		if err != nil {
			return changed, fmt.Errorf("confirm the firmware: %w", err)
		}
		changed = true
	}
	return changed, p.raiseFloor(now)
}

func (p *Partition) raiseFloor(now bundle.Release) error {
	stored, err := p.Floor(bundle.Release{Minimum: "0.0"})
	if err != nil || version.Compare(now.Minimum, stored) <= 0 {
		return err
	}
	if err := p.v.MakeFolder(path.Dir(floorFile)); err != nil {
		return err
	}
	text := now.Minimum + "\n"
	return p.v.WriteFile(floorFile, int64(len(text)), strings.NewReader(text))
}
