package firmware

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"galvo/ci/need"
	"galvo/webui"
)

func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// What is for development only is not in the page; a package without a known licence, one that is not installed, and a font of nobody are found.
func TestReadNPM(t *testing.T) {
	dir := t.TempDir()
	lock := `{"lockfileVersion": 3, "packages": {"": {"license": "Apache-2.0"},
		"node_modules/@a/one": {"version": "1.0.0", "license": "MIT"},
		"node_modules/tool": {"version": "9.0.0", "license": "MIT", "dev": true},
		"node_modules/@a/one/node_modules/two": {"version": "2.0.0"},
		"node_modules/elsewhere": {"version": "3.0.0", "optional": true}}}`
	write(t, dir, map[string]string{
		"package-lock.json":                                 lock,
		"node_modules/@a/one/LICENSE":                       "Permission is hereby granted, free of charge",
		"node_modules/@a/one/package.json":                  `{"version": "1.0.0"}`,
		"node_modules/@a/one/node_modules/two/package.json": `{"version": "2.0.0", "license": "SEE LICENSE IN COPYING"}`,
		"node_modules/@a/one/node_modules/two/COPYING":      "Permission to use, copy, modify, and distribute this software",
		"node_modules/@a/one/node_modules/two/f/sans.woff2": "font",
	})
	bundle := fstest.MapFS{"sans-1.woff2": {Data: []byte("font")}, "app.js": {}}
	list, err := ReadNPM(dir, bundle)
	if err != nil || len(list) != 2 || list[0].Name != "@a/one" || list[0].Licence != "MIT" || len(list[0].Text) == 0 || list[1].Name != "two" || list[1].Licence != "ISC" || list[1].Version != "2.0.0" {
		t.Errorf("%+v, %v", list, err)
	}
	bundle["other.ttf"] = &fstest.MapFile{Data: []byte("of nobody")}
	if _, err := ReadNPM(dir, bundle); err == nil || !strings.Contains(err.Error(), "other.ttf") {
		t.Errorf("a font of nobody: %v", err)
	}
	write(t, dir, map[string]string{"package-lock.json": strings.Replace(lock, `"1.0.0"`, `"1.0.1"`, 1)})
	if _, err := ReadNPM(dir, fstest.MapFS{}); err == nil || !strings.Contains(err.Error(), "@a/one") {
		t.Errorf("another version: %v", err)
	}
	if _, err := ReadNPM(t.TempDir(), fstest.MapFS{}); err == nil {
		t.Error("no lock file is no error")
	}
}

// Every package of our page has a licence that SPDX knows, and its text.
func TestPagePackages(t *testing.T) {
	if _, err := os.Stat("../webui/app/node_modules"); err != nil {
		need.Missing(t, "npm", "the page's packages are not installed: `make web` does it")
	}
	list, err := ReadNPM("../webui/app", webui.Bundle())
	if err != nil || len(list) == 0 {
		t.Fatalf("%d packages, %v", len(list), err)
	}
	for _, p := range list {
		if p.Licence == "" || p.Licence == "NOASSERTION" || p.Text == nil {
			t.Errorf("%s %s: licence %q with %d bytes of text", p.Name, p.Version, p.Licence, len(p.Text))
		}
	}
}
