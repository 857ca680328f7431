// Package debian takes packages from a Debian archive: it downloads them, checks their digests, keeps them in a cache and unpacks them.
//
// It needs neither root nor dpkg. Digests come from the lock file; only Update, which makes that file anew, believes an archive, and there the
// archive's signature is checked with gpgv.
package debian

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"galvo/firmware/lock"
)

// The settings of the environment.
const (
	MirrorVariable   = "GALVO_DEBIAN_MIRROR"   // base of an archive, without /pool; else apt's configuration says it
	SnapshotVariable = "GALVO_DEBIAN_SNAPSHOT" // base of a snapshot archive, without the time; empty is none
	CacheVariable    = "GALVO_CACHE"           // folder of downloads; else galvo in the user's cache folder
)

// A Source is where packages come from: the cache, then the mirror, then the snapshot archive.
type Source struct {
	Cache    string // folder
	Mirror   string // URL; empty is none
	Snapshot string // URL, with the time of the lock; empty is none
	Client   *http.Client

	why   error         // there is no mirror
	pause time.Duration // before a download is tried again, and twice as long each time after that
}

// tries are how often a download is begun that the network breaks.
const tries = 4

// A broken download may succeed when it is tried again.
type broken struct{ error }

func (b broken) Unwrap() error { return b.error }

// FromEnvironment returns the source that this machine's settings say. The time is the lock's.
func FromEnvironment(snapshot string) (*Source, error) {
	s := &Source{Cache: os.Getenv(CacheVariable), Mirror: os.Getenv(MirrorVariable), Client: &http.Client{Timeout: time.Hour}, pause: time.Second}
	if s.Cache == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			return nil, fmt.Errorf("find a folder for downloads: %w; name one in %s", err, CacheVariable)
		}
		s.Cache = filepath.Join(dir, "galvo")
	}
	if s.Mirror == "" {
		s.Mirror, s.why = AptMirror("/etc/apt")
	}
	if base := os.Getenv(SnapshotVariable); base != "" {
		s.Snapshot = strings.TrimSuffix(base, "/") + "/" + snapshot
	}
	return s, nil
}

// Fetch returns the path of a package's file in the cache, which it downloads if it is not there. The file has the locked digest.
func (s *Source) Fetch(ctx context.Context, p lock.Package) (string, error) {
	path := filepath.Join(s.Cache, "deb", p.SHA256+".deb")
	if sum, err := digest(path); err == nil && sum == p.SHA256 {
		return path, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", fmt.Errorf("make the cache: %w", err)
	}
	var failed []error
	for _, base := range []string{s.Mirror, s.Snapshot} {
		if base == "" {
			continue
		}
		slog.Info("download", "package", p.Name, "architecture", p.Architecture, "version", p.Version, "bytes", p.Size)
		err := s.download(ctx, strings.TrimSuffix(base, "/")+"/"+p.Path, path, p)
		if err == nil {
			return path, nil
		}
		failed = append(failed, err)
	}
	if len(failed) == 0 {
		failed = append(failed, s.why)
	}
	return "", fmt.Errorf("get %s %s for %s: %w; if the archive has a newer one, `make kernel-update` locks that, and %s can name a snapshot archive that keeps old ones",
		p.Name, p.Version, p.Architecture, errors.Join(failed...), SnapshotVariable)
}

// download writes what url answers with to path, if it is the locked package.
func (s *Source) download(ctx context.Context, url, path string, p lock.Package) (err error) {
	for try := 1; ; try++ {
		var b broken
		if err = s.downloadOnce(ctx, url, path, p); !errors.As(err, &b) || try == tries {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(s.pause << (try - 1)):
		}
	}
}

func (s *Source) downloadOnce(ctx context.Context, url, path string, p lock.Package) error {
	body, err := s.get(ctx, url)
	if err != nil {
		return err
	}
	defer body.Close()
	f, err := os.CreateTemp(filepath.Dir(path), ".download-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, sum), io.LimitReader(body, p.Size+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return broken{fmt.Errorf("download %s: %w", url, err)}
	}
	if got := hex.EncodeToString(sum.Sum(nil)); n != p.Size || got != p.SHA256 {
		return fmt.Errorf("%s is not the locked package: it has %d bytes and the digest %s, the lock file says %d and %s", url, n, got, p.Size, p.SHA256)
	}
	return os.Rename(f.Name(), path)
}

// get returns the body of a GET.
func (s *Source) get(ctx context.Context, url string) (io.ReadCloser, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	reply, err := s.Client.Do(r)
	if err != nil {
		return nil, broken{err}
	}
	if reply.StatusCode != http.StatusOK {
		reply.Body.Close()
		err := fmt.Errorf("GET %s: %s", url, reply.Status)
		if reply.StatusCode >= 500 || reply.StatusCode == http.StatusTooManyRequests {
			return nil, broken{err}
		}
		return nil, err
	}
	return reply.Body, nil
}

// digest returns the SHA-256 of a file in hexadecimal.
func digest(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}
