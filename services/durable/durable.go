// Package durable replaces small files so that a crash or a power cut leaves the old one or the new one, whole.
package durable

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Aside matches the names of files that are being written, for who cleans up after a crash; it is a pattern of os.CreateTemp and of
// filepath.Match.
const Aside = ".new-*"

// WriteFile replaces the file at path, readable for this process's user only. The content is written aside, synced and renamed, and the folder is synced.
func WriteFile(path string, content []byte) error {
	err := replace(path, content, (*os.File).Sync)
	if err == nil {
		err = syncFolder(filepath.Dir(path))
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// PlaceFile replaces the file at path as WriteFile does, but waits for no disk: when this process is killed the file is there, the old one or the new one, whole;
// after a power cut it may be neither. Sync makes it durable.
func PlaceFile(path string, content []byte) error {
	if err := replace(path, content, func(*os.File) error { return nil }); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// Sync makes durable what is in the file at path, and that it is there.
func Sync(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close(), syncFolder(filepath.Dir(path)))
}

func replace(path string, content []byte, sync func(*os.File) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), Aside) // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, sync(f), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

// damagedSuffix is what SetAside puts behind the name of a file.
const damagedSuffix = ".damaged"

// SetAside gives a file that cannot be understood another name, in place of one that had it before, so that a new one can be begun and nothing is lost.
// It returns the name.
func SetAside(path string) (string, error) {
	aside := path + damagedSuffix
	if err := os.Rename(path, aside); err != nil {
		return "", err
	}
	return aside, syncFolder(filepath.Dir(path))
}

func syncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
