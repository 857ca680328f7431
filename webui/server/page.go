package server

import (
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"
)

// noPage is shown by a binary that was built without the bundle.
const noPage = `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Galvo</title></head>
<body><h1>Galvo runs</h1>
<p>This binary was built without the page. Build the page with <code>make web</code>, and the binary again.
The API works without it: see <a href="/api/v1/openapi.json">its description</a>.</p></body></html>
`

// servePage serves the files of the bundle. Their names do not change with their content, so browsers ask each time whether they have the latest, by
// its digest.
func servePage(files fs.FS) http.Handler {
	type file struct {
		content []byte
		tag     string
	}
	all := map[string]file{}
	add := func(name string, b []byte) {
		sum := sha256.Sum256(b)
		all[name] = file{b, `"` + hex.EncodeToString(sum[:12]) + `"`}
	}
	add("index.html", []byte(noPage))
	if files != nil {
		fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || strings.HasPrefix(path.Base(name), ".") {
				return err
			}
			b, err := fs.ReadFile(files, name)
			if err == nil {
				add(name, b)
			}
			return err
		})
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "the page takes GET", http.StatusMethodNotAllowed)
			return
		}
		name := strings.TrimPrefix(r.URL.Path, "/")
		if name == "" {
			name = "index.html"
		}
		f, ok := all[name]
		if !ok {
			http.Error(w, "there is no such page; the first one is at /", http.StatusNotFound)
			return
		}
		w.Header().Set("Cache-Control", "no-cache")
		w.Header().Set("ETag", f.tag)
		if kind := mime.TypeByExtension(path.Ext(name)); kind != "" {
			w.Header().Set("Content-Type", kind)
		}
		if r.Header.Get("If-None-Match") == f.tag {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		if r.Method == http.MethodGet {
			w.Write(f.content)
		}
	})
}
