package debian

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"galvo/firmware/lock"
)

// keyring has the keys that sign the archive; every Debian machine has it.
const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

// Update makes a lock of what the mirror has now. The archive's signature is checked with gpgv.
func (s *Source) Update(ctx context.Context, wanted []lock.Want) (*lock.Lock, error) {
	if s.Mirror == "" {
		return nil, s.why
	}
	releases := map[string]*release{}
	indexes := map[string]lock.Index{}
	var newest time.Time
	load := func(w lock.Want, arch string) (lock.Index, error) {
		key := w.Suite + " " + w.Component + " " + arch
		if x, ok := indexes[key]; ok {
			return x, nil
		}
		r, ok := releases[w.Suite]
		if !ok {
			var err error
			if r, err = s.release(ctx, w.Suite); err != nil {
				return nil, err
			}
			releases[w.Suite] = r
		}
		if r.date.After(newest) {
			newest = r.date
		}
		x, err := s.index(ctx, r, w.Component, arch)
		if err != nil {
			return nil, err
		}
		indexes[key] = x
		return x, nil
	}
	l, err := lock.Resolve(wanted, "", load)
	if err != nil {
		return nil, err
	}
	l.Snapshot = newest.UTC().Format("20060102T150405Z")
	return l, nil
}

// A release is what a suite's InRelease file says.
type release struct {
	suite   string
	date    time.Time
	digests map[string]string // of the files below dists/SUITE
}

func (s *Source) release(ctx context.Context, suite string) (*release, error) {
	slog.Info("read what the archive has", "suite", suite)
	body, err := s.get(ctx, s.Mirror+"/dists/"+suite+"/InRelease")
	if err != nil {
		return nil, err
	}
	defer body.Close()
	signed, err := io.ReadAll(io.LimitReader(body, 16<<20))
	if err != nil {
		return nil, fmt.Errorf("download %s/InRelease: %w", suite, err)
	}
	text, err := verify(ctx, signed)
	if err != nil {
		return nil, fmt.Errorf("check the archive's signature of %s: %w", suite, err)
	}
	return parseRelease(suite, text)
}

// verify returns the text that the archive's keys signed.
func verify(ctx context.Context, signed []byte) ([]byte, error) {
	dir, err := os.MkdirTemp("", "galvo-release-*")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	in, out := filepath.Join(dir, "InRelease"), filepath.Join(dir, "Release")
	if err := os.WriteFile(in, signed, 0o600); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "gpgv", "--quiet", "--keyring", keyring, "--output", out, in)
	if message, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("gpgv: %w: %s", err, bytes.TrimSpace(message))
	}
	return os.ReadFile(out)
}

var digestLine = regexp.MustCompile(`(?m)^ ([0-9a-f]{64}) +[0-9]+ (\S+)$`)

func parseRelease(suite string, text []byte) (*release, error) {
	r := &release{suite: suite, digests: map[string]string{}}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "Date:"); ok {
			date, err := time.Parse("Mon, 2 Jan 2006 15:04:05 MST", strings.TrimSpace(value))
			if err != nil {
				return nil, fmt.Errorf("date of %s: %w", suite, err)
			}
			r.date = date
		}
	}
	for _, m := range digestLine.FindAllSubmatch(text, -1) {
		r.digests[string(m[2])] = string(m[1])
	}
	if r.date.IsZero() || len(r.digests) == 0 {
		return nil, fmt.Errorf("InRelease of %s has no date or no SHA-256", suite)
	}
	return r, nil
}

func (s *Source) index(ctx context.Context, r *release, component, arch string) (lock.Index, error) {
	name := component + "/binary-" + arch + "/Packages.xz"
	want, ok := r.digests[name]
	if !ok {
		return nil, fmt.Errorf("%s has no %s", r.suite, name)
	}
	body, err := s.get(ctx, s.Mirror+"/dists/"+r.suite+"/"+name)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	compressed, err := io.ReadAll(io.LimitReader(body, 256<<20))
	if err != nil {
		return nil, fmt.Errorf("download %s: %w", name, err)
	}
	if sum := sha256.Sum256(compressed); hex.EncodeToString(sum[:]) != want {
		return nil, errors.New(r.suite + "/" + name + " does not have the digest that the archive signed: the mirror is being updated; try again in some minutes")
	}
	text, err := decompress(name, bytes.NewReader(compressed))
	if err != nil {
		return nil, err
	}
	return lock.ReadIndex(text)
}
