package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"

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

func (s *Store) generation(i int) string { return fmt.Sprintf("%s.%d", s.path, i) }
