package debian

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"galvo/firmware/lock"
)

// deb returns a package with the files, and some links.
func deb(t testing.TB, files map[string]string, links map[string]string) []byte {
	t.Helper()
	var data bytes.Buffer
	z := gzip.NewWriter(&data)
	w := tar.NewWriter(z)
	for name, content := range files {
		w.WriteHeader(&tar.Header{Name: "./" + name, Mode: 0o644, Size: int64(len(content)), Typeflag: tar.TypeReg})
		io.WriteString(w, content)
	}
	for name, target := range links {
		w.WriteHeader(&tar.Header{Name: "./" + name, Linkname: target, Typeflag: tar.TypeSymlink})
	}
	w.Close()
	z.Close()
	out := bytes.NewBufferString("!<arch>\n")
	for _, m := range []struct {
		name    string
		content []byte
	}{{"debian-binary", []byte("2.0\n")}, {"control.tar.gz", []byte("odd")}, {"data.tar.gz", data.Bytes()}} {
		fmt.Fprintf(out, "%-16s%-12d%-6d%-6d%-8s%-10d`\n", m.name, 0, 0, 0, "100644", len(m.content))
		out.Write(m.content)
		if len(m.content)%2 == 1 {
			out.WriteByte('\n')
		}
	}
	return out.Bytes()
}

// locked returns the lock of a package.
func locked(content []byte) lock.Package {
	sum := sha256.Sum256(content)
	return lock.Package{Want: "p", Name: "p", Architecture: "amd64", Version: "1.0-1", Path: "pool/main/p/p.deb", Size: int64(len(content)), SHA256: hex.EncodeToString(sum[:]), License: "MIT"}
}

// archive serves content at the package's path, and counts the requests.
func archive(t *testing.T, content []byte, requests *int) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*requests++
		if content == nil || !strings.HasSuffix(r.URL.Path, "/pool/main/p/p.deb") {
			http.NotFound(w, r)
			return
		}
		w.Write(content)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func TestFetch(t *testing.T) {
	content := deb(t, map[string]string{"a": "b"}, nil)
	other := bytes.Clone(content)
	other[len(other)-1] ^= 1
	for _, c := range []struct {
		name             string
		mirror, snapshot []byte // what they have
		want             string // part of the error
		asked            int    // of the snapshot archive
	}{
		{"the mirror has it", content, nil, "", 0},
		{"the mirror has no such version any more", nil, content, "", 1},
		{"the mirror has something else", other, content, "", 1},
		{"nobody has it", nil, nil, "make kernel-update", 1},
		{"nobody has the right one", other, content[:len(content)-1], "is not the locked package", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			var mirror, snapshot int
			s := &Source{Cache: t.TempDir(), Mirror: archive(t, c.mirror, &mirror), Snapshot: archive(t, c.snapshot, &snapshot), Client: http.DefaultClient}
			path, err := s.Fetch(t.Context(), locked(content))
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "1.0-1") {
					t.Errorf("%v, want %q and the version", err, c.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, content) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
			if snapshot != c.asked {
				t.Errorf("the snapshot archive was asked %d times, want %d", snapshot, c.asked)
			}
			// From now on it comes from the cache, unless that is damaged.
			before := mirror
			if _, err := s.Fetch(t.Context(), locked(content)); err != nil || mirror != before {
				t.Errorf("fetched again: %v", err)
			}
			if err := os.WriteFile(path, []byte("damaged"), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Fetch(t.Context(), locked(content)); err != nil || mirror == before {
				t.Errorf("a damaged cache was believed: %v", err)
			}
		})
	}
	none := &Source{Cache: t.TempDir(), why: fmt.Errorf("name one in %s", MirrorVariable)}
	if _, err := none.Fetch(t.Context(), locked(content)); err == nil || !strings.Contains(err.Error(), MirrorVariable) {
		t.Errorf("no archive: %v", err)
	}
}

// A download that the network breaks is begun again, a few times.
func TestBrokenDownload(t *testing.T) {
	content := deb(t, map[string]string{"a": "b"}, nil)
	ways := map[string]func(http.ResponseWriter){
		"busy":      func(w http.ResponseWriter) { w.WriteHeader(http.StatusServiceUnavailable) },
		"cut off":   func(w http.ResponseWriter) { w.Write(content[:10]); panic(http.ErrAbortHandler) },
		"no answer": func(http.ResponseWriter) { panic(http.ErrAbortHandler) },
	}
	for name, breaks := range ways {
		for times, want := range map[int]bool{2: true, tries: false} {
			asked := 0
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if asked++; asked <= times {
					breaks(w)
				}
				w.Write(content)
			}))
			s := &Source{Cache: t.TempDir(), Mirror: server.URL, Client: http.DefaultClient}
			if _, err := s.Fetch(t.Context(), locked(content)); (err == nil) != want || want && asked != times+1 || !want && asked != tries {
				t.Errorf("%s %d times: asked %d times, %v", name, times, asked, err)
			}
			server.Close()
		}
	}
}

func TestAptMirror(t *testing.T) {
	for _, c := range []struct{ file, text, want string }{
		{"sources.list", "# deb http://commented.example/debian stable main\ndeb http://security.example/debian-security stable main\ndeb [arch=amd64 signed-by=/x] http://a.example/debian/ stable main\n", "http://a.example/debian"},
		{"sources.list.d/x.list", "deb-src http://src.example/debian stable main\ndeb https://b.example/debian stable main", "https://b.example/debian"},
		{"sources.list.d/debian.sources", "Types: deb\n# http://commented.example/debian\nURIs: http://other.example/x http://c.example/debian\nSuites: bookworm\n", "http://c.example/debian"},
		{"sources.list", "deb http://a.example/ubuntu noble main", ""},
	} {
		dir := t.TempDir()
		if err := os.MkdirAll(filepath.Join(dir, "sources.list.d"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, c.file), []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := AptMirror(dir)
		if got != c.want || (c.want == "") != (err != nil) {
			t.Errorf("%q: %q, %v, want %q", c.text, got, err, c.want)
		}
		if err != nil && !strings.Contains(err.Error(), MirrorVariable) {
			t.Errorf("%v does not say what to do", err)
		}
	}
}

func TestReadFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "p.deb")
	content := deb(t, map[string]string{"lib/x/libx.so.1.2": "library", "sbin/tool": "tool", "etc/passwd": "no"},
		map[string]string{"lib/x/libx.so.1": "libx.so.1.2", "lib/x/libx.so": "/lib/x/libx.so.1", "sbin/other": "../lib/x/libx.so", "sbin/loop": "loop", "sbin/out": "../../../etc/shadow"})
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := ReadFiles(path, func(p string) bool { return !strings.HasPrefix(p, "etc/") })
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"lib/x/libx.so.1.2": "library", "lib/x/libx.so.1": "library", "lib/x/libx.so": "library", "sbin/tool": "tool", "sbin/other": "library"}
	for name, content := range want {
		if string(got[name]) != content {
			t.Errorf("%s: %q, want %q", name, got[name], content)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d files, want %d: %q", len(got), len(want), got)
	}
}

func TestUnpackOnce(t *testing.T) {
	content := deb(t, map[string]string{"boot/vmlinuz": "kernel", "usr/x": "no"}, nil)
	path := filepath.Join(t.TempDir(), "p.deb")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	s := &Source{Cache: t.TempDir()}
	want := func(p string) bool { return strings.HasPrefix(p, "boot/") }
	dir, err := s.Unpack(path, locked(content), "kernel", want)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "boot/vmlinuz")); err != nil || string(got) != "kernel" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "usr/x")); err == nil {
		t.Error("unpacked what nobody wanted")
	}
	if again, err := s.Unpack("/nonexistent", locked(content), "kernel", want); err != nil || again != dir {
		t.Errorf("%q, %v", again, err)
	}
}

func TestParseRelease(t *testing.T) {
	text := "Suite: stable\nDate: Sat, 11 Jul 2026 10:16:37 UTC\nMD5Sum:\n 0ed6d4c8891eb86358b94bb35d9e4da4 10 main/binary-amd64/Packages.xz\nSHA256:\n " + strings.Repeat("ab", 32) + "    10 main/binary-amd64/Packages.xz\n"
	r, err := parseRelease("stable", []byte(text))
	if err != nil || r.digests["main/binary-amd64/Packages.xz"] != strings.Repeat("ab", 32) || r.date.Format("20060102T150405Z") != "20260711T101637Z" {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := parseRelease("stable", []byte("Date: today\n")); err == nil {
		t.Error("a release without digests was taken")
	}
}

func FuzzFiles(f *testing.F) {
	f.Add(deb(f, map[string]string{"a": "b"}, map[string]string{"c": "a"}))
	f.Add([]byte("!<arch>\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		files(bytes.NewReader(b), func(_ *tar.Header, content io.Reader) error {
			io.CopyN(io.Discard, content, 1<<20)
			return nil
		})
	})
}
