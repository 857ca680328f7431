package debian

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// AptMirror returns the base of the Debian archive that apt's configuration in dir names, as sources.list(5) describes it. Archives of others, of
// security updates and of other protocols than HTTP are left out.
func AptMirror(dir string) (string, error) {
	files := []string{filepath.Join(dir, "sources.list")}
	for _, pattern := range []string{"*.list", "*.sources"} {
		more, err := filepath.Glob(filepath.Join(dir, "sources.list.d", pattern))
		if err != nil {
			return "", err
		}
		files = append(files, more...)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("read apt's configuration: %w", err)
		}
		read := oneLine
		if strings.HasSuffix(file, ".sources") {
			read = paragraphs
		}
		for _, uri := range read(string(text)) {
			if isArchive(uri) {
				return strings.TrimSuffix(uri, "/"), nil
			}
		}
	}
	return "", fmt.Errorf("apt's configuration in %s names no Debian archive: name one in %s, as http://HOST/debian", dir, MirrorVariable)
}

// isArchive reports whether uri is Debian's main archive, which is at the path /debian everywhere.
func isArchive(uri string) bool {
	return (strings.HasPrefix(uri, "http://") || strings.HasPrefix(uri, "https://")) && strings.HasSuffix(strings.TrimSuffix(uri, "/"), "/debian")
}

// oneLine returns the URIs of the form `deb [options] URI suite component...`.
func oneLine(text string) []string {
	var out []string
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[0] != "deb" {
			continue
		}
		fields = fields[1:]
		if strings.HasPrefix(fields[0], "[") {
			end := slices.IndexFunc(fields, func(f string) bool { return strings.HasSuffix(f, "]") })
			fields = fields[end+1:]
		}
		if len(fields) > 0 {
			out = append(out, fields[0])
		}
	}
	return out
}

// paragraphs returns the URIs of the deb822 form.
func paragraphs(text string) []string {
	var out []string
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.EqualFold(strings.TrimSpace(name), "URIs") {
			out = append(out, strings.Fields(value)...)
		}
	}
	return out
}
