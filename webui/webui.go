// Package webui holds the page: the bundle that `make web` builds from app/ is embedded when the binary is built.
//
// A clone without the bundle builds too; Bundle then has no index.html.
package webui

import (
	"embed"
	"io/fs"
)

//go:embed all:bundle
var files embed.FS

// Bundle returns the files of the page.
func Bundle() fs.FS {
	sub, err := fs.Sub(files, "bundle")
	if err != nil {
		panic(err) // the name is a constant and valid
	}
	return sub
}
