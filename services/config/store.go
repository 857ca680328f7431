package config

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"

	"galvo/services/durable"
)

// generations is how many former configurations are kept, as FILE.1 (the latest) to FILE.10.
const generations = 10

// A Store is the file that holds the configuration. It has one writer.
type Store struct {
	path string

	mu      sync.Mutex
	current *Config // never changed, only replaced
}

// Open reads the configuration at path. Where there is none it writes the defaults. A file that cannot be understood is an error with its line,
// and is left as it is.
func Open(path string) (*Store, error) {
	s := &Store{path: path}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		s.current = Default()
		return s, durable.WriteFile(s.path, s.current.Encode())
	}
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	if s.current, err = Parse(text); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

// Lost says that the configuration at path is gone although there was one, and is empty otherwise: a missing or blank file stands for the defaults.
func Lost(path string) string {
	former := path + ".1"
	if _, err := os.Stat(former); err != nil {
		return ""
	}
	text, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Sprintf("%s is missing, and the one before it is there as %s", path, former)
	case err == nil && len(bytes.TrimSpace(text)) == 0:
		return fmt.Sprintf("%s is empty, and the one before it is there as %s", path, former)
	}
	return ""
}

// Recover is Open for a machine that must come up with whatever it has: a file that cannot be understood is kept as FILE.damaged, and the newest of the former
// configurations that can be takes its place, or else the defaults. Why says what was done, and is empty where nothing was.
func Recover(path string) (s *Store, why string, err error) {
	var damage error
	if lost := Lost(path); lost != "" {
		damage = errors.New(lost)
	} else if s, damage = Open(path); damage == nil {
		return s, "", nil
	}
	s = &Store{path: path, current: Default()}
	instead := "the defaults"
	for i := 1; i <= generations; i++ {
		text, err := os.ReadFile(s.generation(i))
		if err != nil {
			continue
		}
		if c, err := Parse(text); err == nil {
			s.current, instead = c, s.generation(i)
			break
		}
	}
	err = os.Rename(path, path+".damaged")
	kept := err == nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, "", fmt.Errorf("%w; and it cannot be replaced: %w", damage, err)
	}
	if err := durable.WriteFile(path, s.current.Encode()); err != nil {
		return nil, "", err
	}
	why = fmt.Sprintf("%v; %s is used in its place", damage, instead)
	if kept {
		why += fmt.Sprintf(", and the file is kept as %s.damaged", path)
	}
	return s, why, nil
}

// Current returns the configuration, which must not be changed.
func (s *Store) Current() *Config {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current
}

// Replace makes c, which must be valid, the configuration. When it returns nil, c is on disk and the former file is kept as FILE.1.
func (s *Store) Replace(c *Config) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.replace(c)
}

// ChangeStorage makes what change returns for the storage devices part of the configuration. change must not keep or change what it is given.
func (s *Store) ChangeStorage(change func([]Storage) []Storage) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := *s.current
	c.Storage = change(slices.Clone(c.Storage))
	return s.replace(&c)
}

// CheckStorage says what would be wrong with a ChangeStorage.
func (s *Store) CheckStorage(change func([]Storage) []Storage) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := *s.current
	c.Storage = change(slices.Clone(c.Storage))
	return c.Validate()
}

// replace is Replace. s.mu is held.
func (s *Store) replace(c *Config) error {
	if err := c.Validate(); err != nil {
		return err
	}
	if err := s.rotate(); err != nil {
		return fmt.Errorf("keep the former configuration: %w", err)
	}
	if err := durable.WriteFile(s.path, c.Encode()); err != nil {
		return err
	}
	s.current = c
	return nil
}

// rotate makes FILE.1 of FILE, FILE.2 of FILE.1, and so on. FILE stays in its place until the new one replaces it.
func (s *Store) rotate() error {
	for i := generations - 1; i >= 1; i-- {
		err := os.Rename(s.generation(i), s.generation(i+1))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := os.Link(s.path, s.generation(1)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// A Generation is a former configuration.
type Generation struct {
	Number int       // 1 is the latest
	Time   time.Time // when it came into effect
	Config *Config   // nil if it cannot be read
	Err    error     // why
}

// Generations returns the former configurations that are kept, latest first.
func (s *Store) Generations() []Generation {
	var list []Generation
	for i := range generations {
		if g, err := s.Generation(i + 1); err == nil {
			list = append(list, g)
		}
	}
	return list
}

// Generation returns a former configuration, or fs.ErrNotExist.
func (s *Store) Generation(number int) (Generation, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if number < 1 || number > generations {
		return Generation{}, fs.ErrNotExist
	}
	g := Generation{Number: number}
	info, err := os.Stat(s.generation(number))
	if err != nil {
		return g, err
	}
	g.Time = info.ModTime()
	text, err := os.ReadFile(s.generation(number))
	if err != nil {
		return g, err
	}
	g.Config, g.Err = Parse(text)
	return g, nil
}

func (s *Store) generation(i int) string { return fmt.Sprintf("%s.%d", s.path, i) }
