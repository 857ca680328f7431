package sink

import (
	"mime"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/ncruces/go-strftime"
)

// DefaultName is the pattern of a savefile's name where none was given. The filter is put behind it.
const DefaultName = "galvo_%Y-%m-%d_%H-%M-%S"

// maxName is the longest file name, in bytes: what ext4 takes, less room for an index and an extension that others append.
const maxName = 200

// FileName returns the name of a savefile in the format ("pcapng", "pcap", "pcap-ns"): pattern with its strftime fields filled in from the
// start of the capture, or the default name with the filter if pattern is empty, and an extension if it has not got that yet. Whatever the
// pattern holds, the result is one name that every file system takes.
func FileName(pattern, filter string, start time.Time, format string) string {
	extension := ".pcapng"
	if strings.HasPrefix(format, "pcap") && format != "pcapng" {
		extension = ".pcap"
	}
	name := strftime.Format(pattern, start)
	if pattern == "" {
		name = strftime.Format(DefaultName, start)
		if filter = strings.Trim(ascii(safe(filter)), "_"); filter != "" {
			name += "_" + filter
		}
	}
	// Fields such as %D bring slashes, so the name is made safe after it was expanded.
	name = strings.TrimSuffix(safe(name), extension)
	for len(name)+len(extension) > maxName {
		_, size := utf8.DecodeLastRuneInString(name)
		name = name[:len(name)-size]
	}
	// Windows drops blanks and dots at the end; a leading dot hides the file, and a leading hyphen looks like an option.
	name = strings.TrimLeft(strings.TrimRight(name, " ."), " .-")
	if stem, _, _ := strings.Cut(name, "."); name == "" || devices[strings.ToUpper(strings.TrimSpace(stem))] {
		name = "galvo_" + name
	}
	return name + extension
}

// Disposition returns the Content-Disposition of a download with this name.
func Disposition(name string) string {
	return mime.FormatMediaType("attachment", map[string]string{"filename": name})
}

// safe replaces what some file system or shell refuses in a name, and blanks.
func safe(s string) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune(`/\:*?"<>|&;$'`+"`", r) || r == utf8.RuneError || unicode.IsSpace(r) || !unicode.IsPrint(r) {
			return '_'
		}
		return r
	}, s)
}

// ascii keeps letters, digits and what reads well in a name made by us: curl -J ignores the form that other characters need.
func ascii(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r > unicode.MaxASCII:
			return '_'
		case unicode.IsLetter(r), unicode.IsDigit(r), strings.ContainsRune("._-,+()[]=!", r):
			return r
		}
		return '_'
	}, s)
	if len(s) > 80 {
		s = s[:80]
	}
	return s
}

// devices are the names that Windows keeps for devices, with any extension.
var devices = map[string]bool{
	"CON": true, "PRN": true, "AUX": true, "NUL": true,
	"COM1": true, "COM2": true, "COM3": true, "COM4": true, "COM5": true, "COM6": true, "COM7": true, "COM8": true, "COM9": true,
	"LPT1": true, "LPT2": true, "LPT3": true, "LPT4": true, "LPT5": true, "LPT6": true, "LPT7": true, "LPT8": true, "LPT9": true,
}
