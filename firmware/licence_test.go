package firmware

import (
	"runtime/debug"
	"testing"
)

// The licence of everything that this test is linked of is recognised.
func TestGoModules(t *testing.T) {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		t.Fatal("no build information")
	}
	info.Deps = append(info.Deps, &debug.Module{Path: "github.com/BurntSushi/toml", Version: "v1.6.0"})
	for _, m := range goModules(info) {
		if m.text == nil {
			t.Logf("%s %s is not in the module cache", m.path, m.version)
		} else if m.licence == "NOASSERTION" {
			t.Errorf("%s: licence not recognised:\n%.300s", m.path, m.text)
		}
	}
}

func TestEscape(t *testing.T) {
	if got := escape("github.com/BurntSushi/toml"); got != "github.com/!burnt!sushi/toml" {
		t.Error(got)
	}
}

func TestRecognise(t *testing.T) {
	for text, want := range map[string]string{
		"Redistribution and use in source and\nbinary forms ... Neither the name of":                                                     "BSD-3-Clause",
		"Redistribution and use in source and binary forms":                                                                              "BSD-2-Clause",
		"Redistribution and use in source and binary forms ... Neither the name ... ALTERNATIVELY, under the GNU General Public License": "BSD-3-Clause OR GPL-2.0-only",
		"Permission is hereby granted, free of charge. And: Apache License Version 2.0":                                                  "Apache-2.0 AND MIT",
		"All rights reserved": "NOASSERTION",
	} {
		if got := recognise(text); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}
