package boot

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// seedBytes is what the kernel's generator takes in at once, and its whole strength (random(4): 256 bits).
	seedBytes = 32
	// seedMark is an attribute of the file: its seed came from a generator that was ready, and was never used. The name is systemd's.
	seedMark = "user.random-seed-creditable"
)

// A seed is a file with randomness from one run of the machine for the next: one without a hardware generator would otherwise wait for its first random numbers, or take bad ones.
//
// It is done as systemd-random-seed does it (systemd-random-seed.service(8), src/random-seed/random-seed.c, and systemd.io/RANDOM_SEEDS): a seed counts as entropy only if it carries the mark, and the mark is
// gone from the disk before it does, so that it never counts twice, whenever the power is cut. The new seed is made of the old one and of fresh randomness, at
// once and again at the end. An image has no seed, so that no two devices share one; of a copied disk with a seed both would count it, once.
type seed struct {
	path string
	add  func(seed []byte, credit bool) error // to the kernel's generator
	take func(b []byte) (ready bool, err error)
}

func kernelSeed(state string) seed {
	return seed{filepath.Join(state, "random-seed"), addEntropy, takeRandom}
}

// stirIn gives the kernel the seed and saves the next one. It reports whether the seed counted.
func (s seed) stirIn() (credited bool, err error) {
	old, err := os.ReadFile(s.path)
	if err == nil && len(old) > 0 {
		credited, err = s.use(old)
	}
	if errors.Is(err, os.ErrNotExist) {
		err = nil // the first run
	}
	return credited, errors.Join(err, s.save())
}

func (s seed) use(old []byte) (credited bool, err error) {
	f, err := os.OpenFile(s.path, os.O_RDWR, 0)
	if err != nil {
		return false, err
	}
	defer f.Close()
	mark := make([]byte, 1)
	if n, err := unix.Fgetxattr(int(f.Fd()), seedMark, mark); err == nil && n == 1 && mark[0] == '1' && len(old) >= seedBytes {
		if err := errors.Join(unix.Fremovexattr(int(f.Fd()), seedMark), f.Sync()); err == nil {
			credited = true
		}
	}
	if err := s.add(old, credited); err != nil {
		return false, fmt.Errorf("give the kernel its seed: %w", err)
	}
	return credited, nil
}

// save replaces the seed by the next one. Of a generator that is not ready it is worth keeping, and does not count.
func (s seed) save() error {
	fresh := make([]byte, seedBytes)
	ready, err := s.take(fresh)
	if err != nil {
		return fmt.Errorf("take randomness for the next start: %w", err)
	}
	old, err := os.ReadFile(s.path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	// The next seed is no worse than the one before, whatever fresh is worth.
	mixed := sha256.New()
	for _, part := range [][]byte{old, fresh} {
		mixed.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(part))))
		mixed.Write(part)
	}
	return s.replace(mixed.Sum(nil), ready)
}

// replace writes a seed so that there is always the old one or the new one, and the mark is on the new one alone.
func (s seed) replace(next []byte, creditable bool) error {
	f, err := os.OpenFile(s.path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(next)
	if creditable && err == nil {
		// A file system without attributes keeps seeds that do not count.
		if e := unix.Fsetxattr(int(f.Fd()), seedMark, []byte("1"), 0); e != nil && !errors.Is(e, unix.ENOTSUP) {
			err = e
		}
	}
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(s.path+".new", s.path)
	}
	if err != nil {
		return fmt.Errorf("save the seed: %w", err)
	}
	dir, err := os.Open(filepath.Dir(s.path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// addEntropy stirs bytes into the kernel's generator; with credit they count with all their bits (random(4), RNDADDENTROPY: struct rand_pool_info).
func addEntropy(b []byte, credit bool) error {
	f, err := os.OpenFile("/dev/urandom", os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if !credit {
		_, err := f.Write(b)
		return err
	}
	b = b[:seedBytes]
	info := binary.NativeEndian.AppendUint32(nil, seedBytes*8)
	info = binary.NativeEndian.AppendUint32(info, seedBytes)
	info = append(info, b...)
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.RNDADDENTROPY, uintptr(unsafe.Pointer(&info[0]))); e != 0 {
		return e
	}
	return nil
}

// takeRandom fills b from the kernel's generator without waiting for it to be ready, and reports whether it is (getrandom(2)).
func takeRandom(b []byte) (ready bool, err error) {
	n, err := unix.Getrandom(b, unix.GRND_NONBLOCK)
	if ready = err == nil && n == len(b); ready {
		return true, nil
	}
	n, err = unix.Getrandom(b, unix.GRND_INSECURE)
	if err == nil && n < len(b) {
		err = errors.New("the kernel gives too little")
	}
	return false, err
}

// stirSeed is the step of the start. Without a disk there is nothing from the last run.
func (m *machine) stirSeed() error {
	if m.mounted == "" {
		return nil
	}
	credited, err := kernelSeed(m.state).stirIn()
	if credited {
		m.say("the random generator has the seed of the last run")
	}
	return err
}

// keepSeed is for the end of the machine.
func (m *machine) keepSeed() {
	if m.mounted == "" {
		return
	}
	if err := kernelSeed(m.state).save(); err != nil {
		m.say("%v", err)
	}
}
