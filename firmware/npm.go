package firmware

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// An NPMPackage is a part of the page, which the binary holds, with its licence.
type NPMPackage struct {
	Name, Version string
	Licence       string // SPDX expression
	Text          []byte // of the licence; nil if the package has none
	dir           string
}

// fontSuffixes are what files of fonts are called.
var fontSuffixes = []string{".woff", ".woff2", ".ttf", ".otf", ".eot"}

// ReadNPM returns the packages that the page is made of, by name: those of the lock file (package-lock.json, version 3) of the project in dir that are not for development only. They must be installed, since their
// licences go into the image. Every font in the bundle must come from one of them: nobody would know its licence otherwise.
func ReadNPM(dir string, bundle fs.FS) ([]NPMPackage, error) {
	text, err := os.ReadFile(filepath.Join(dir, "package-lock.json"))
	if err != nil {
		return nil, fmt.Errorf("read what the page is made of: %w", err)
	}
	var lock struct {
		Version  int `json:"lockfileVersion"`
		Packages map[string]struct {
			Version  string `json:"version"`
			License  string `json:"license"`
			Dev      bool   `json:"dev"`
			Optional bool   `json:"optional"`
			Link     bool   `json:"link"`
		} `json:"packages"`
	}
	if err := json.Unmarshal(text, &lock); err != nil {
		return nil, fmt.Errorf("read what the page is made of: package-lock.json: %w", err)
	}
	if lock.Version != 3 {
		return nil, fmt.Errorf("read what the page is made of: package-lock.json has version %d of its format, and 3 is understood", lock.Version)
	}
	var out []NPMPackage
	for _, at := range slices.Sorted(maps.Keys(lock.Packages)) {
		row := lock.Packages[at]
		if at == "" || row.Dev || row.Link {
			continue
		}
		p := NPMPackage{Name: at[strings.LastIndex(at, "node_modules/")+len("node_modules/"):], Version: row.Version, Licence: row.License, dir: filepath.Join(dir, at)}
		if _, err := os.Stat(p.dir); os.IsNotExist(err) && row.Optional {
			continue // not for this machine, so it is not in the page
		}
		if err := p.look(); err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, checkFonts(bundle, out)
}

// look reads the licence of an installed package.
func (p *NPMPackage) look() error {
	text, err := os.ReadFile(filepath.Join(p.dir, "package.json"))
	if err != nil {
		return fmt.Errorf("the page's package %s is not installed: `make web` does it: %w", p.Name, err)
	}
	var about struct {
		Version string `json:"version"`
		License any    `json:"license"`
	}
	if err := json.Unmarshal(text, &about); err != nil {
		return fmt.Errorf("the page's package %s: package.json: %w", p.Name, err)
	}
	if about.Version != p.Version {
		return fmt.Errorf("the page's package %s is installed in version %q, and the lock file has %s: `npm ci` puts that right", p.Name, about.Version, p.Version)
	}
	own, _ := about.License.(string)
	p.Text = licenceText(p.dir)
	if p.Licence = cmp.Or(p.Licence, own); p.Licence == "" || strings.HasPrefix(p.Licence, "SEE LICENSE") {
		p.Licence = recognise(string(p.Text))
	}
	return nil
}

// checkFonts returns an error for a font in the bundle that is in no package.
func checkFonts(bundle fs.FS, packages []NPMPackage) error {
	return fs.WalkDir(bundle, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !slices.Contains(fontSuffixes, strings.ToLower(path.Ext(name))) {
			return err
		}
		font, err := fs.ReadFile(bundle, name)
		if err != nil {
			return err
		}
		for _, p := range packages {
			if p.has(font) {
				return nil
			}
		}
		return fmt.Errorf("the page has the font %s, which is in none of its packages, so that its licence is not known", name)
	})
}

// has reports whether a file of the package is a font with that content.
func (p *NPMPackage) has(font []byte) (found bool) {
	filepath.WalkDir(p.dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && slices.Contains(fontSuffixes, strings.ToLower(filepath.Ext(path))) {
			text, _ := os.ReadFile(path)
			found = found || bytes.Equal(text, font)
		}
		return nil
	})
	return found
}
