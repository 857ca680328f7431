package board

import (
	"fmt"
	"path"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"

	"galvo/services/tomltext"
)

// An Error says what is wrong with a board's file, and where.
type Error = tomltext.Error

// Parse reads a board's file. An unknown key and an impossible value are errors; every error is an *Error.
func Parse(name string, text []byte) (*Board, error) {
	b := &Board{Name: name}
	meta, err := toml.Decode(string(text), b)
	if err != nil {
		return nil, tomltext.Syntax(err)
	}
	for _, k := range meta.Keys() {
		if !known(k) {
			return nil, unknownKey(text, k)
		}
	}
	for i := range b.Lamps {
		b.Lamps[i].Line = tomltext.LineOf(text, fmt.Sprintf("led.%d.name", i+1))
	}
	if e := b.validate(); e != nil {
		e.Line = tomltext.LineOf(text, e.Key)
		return nil, e
	}
	return b, nil
}

// keys returns the keys of a struct type.
func keys(t reflect.Type) []string {
	var out []string
	for i := range t.NumField() {
		if k := t.Field(i).Tag.Get("toml"); k != "-" {
			out = append(out, k)
		}
	}
	return out
}

// tables returns the keys of the file's tables, the outermost under "".
func tables() map[string][]string {
	return map[string][]string{
		"":         keys(reflect.TypeFor[Board]()),
		"port":     keys(reflect.TypeFor[Port]()),
		"watchdog": keys(reflect.TypeFor[Watchdog]()),
		"led":      keys(reflect.TypeFor[Lamp]()),
	}
}

// known reports whether the file may have the key. The decoder takes keys in any case: two spellings of one key would hide each other.
func known(k toml.Key) bool {
	return slices.Contains(tables()[strings.Join(k[:len(k)-1], ".")], k[len(k)-1])
}

func unknownKey(text []byte, k toml.Key) *Error {
	e := &Error{Line: tomltext.LineOf(text, k.String()), Key: k.String(), Text: "there is no such key"}
	if there, ok := tables()[strings.Join(k[:len(k)-1], ".")]; ok {
		e.Text += "; there are " + strings.Join(there, ", ")
	}
	return e
}

var (
	nameForm     = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)
	moduleForm   = regexp.MustCompile(`^[a-zA-Z0-9_-]+$`)
	consoleForm  = regexp.MustCompile(`^tty[A-Za-z0-9]+(,[0-9a-z]+)?$`)
	argumentForm = regexp.MustCompile(`^[!-~]+$`)
)

// Limits of the values.
const (
	minMemory, maxMemory     = 256 << 20, 1 << 40
	minSystem, maxSystem     = 64 << 20, 8 << 30
	minWatchdog, maxWatchdog = 4, 600
	maxLinks                 = 64
)

// validate returns what is wrong with a board, or nil.
func (b *Board) validate() *Error {
	for _, check := range []struct {
		key  string
		ok   bool
		text string
	}{
		{"", nameForm.MatchString(b.Name), fmt.Sprintf("the name %q is not of small letters, digits and dashes", b.Name)},
		{"summary", b.Summary != "" && !strings.Contains(b.Summary, "\n"), "say in one line what machine it is"},
		{"architecture", b.Architecture == "amd64" || b.Architecture == "arm64", fmt.Sprintf("%q is not amd64 or arm64", b.Architecture)},
		{"kernel", strings.HasPrefix(b.Kernel, "linux-image-"), fmt.Sprintf("%q is not the name of a kernel package, as linux-image-amd64", b.Kernel)},
		{"consoles", len(b.Consoles) > 0, "name at least one console, as ttyS0,115200"},
		{"ports", len(b.Ports) > 0, "give at least one [[port]]"},
		{"memory_floor_bytes", b.MemoryFloorBytes >= minMemory && b.MemoryFloorBytes <= maxMemory, fmt.Sprintf("%d is not between %d and %d", b.MemoryFloorBytes, minMemory, maxMemory)},
		{"system_bytes", b.SystemBytes >= minSystem && b.SystemBytes <= maxSystem, fmt.Sprintf("%d is not between %d and %d", b.SystemBytes, minSystem, maxSystem)},
		{"image_budget_bytes", b.ImageBudgetBytes >= 0, "it cannot be negative"},
		{"management_fallback", slices.Contains([]string{"", "first", "none"}, b.ManagementFallback), fmt.Sprintf("%q is not first or none", b.ManagementFallback)},
		{"watchdog.seconds", b.Watchdog.Seconds == 0 && len(b.Watchdog.Modules) == 0 || b.Watchdog.Seconds >= minWatchdog && b.Watchdog.Seconds <= maxWatchdog,
			fmt.Sprintf("%d is not between %d and %d", b.Watchdog.Seconds, minWatchdog, maxWatchdog)},
	} {
		if !check.ok {
			return &Error{Key: check.key, Text: check.text}
		}
	}
	for _, list := range []struct {
		key    string
		values []string
		ok     func(string) bool
		text   string
	}{
		{"consoles", b.Consoles, consoleForm.MatchString, "is not a tty as ttyS0 or ttyS0,115200"},
		{"arguments", b.Arguments, argument, "is not one kernel argument, or names a console, which belongs into consoles"},
		{"modules", b.Modules, moduleForm.MatchString, "is not the name of a kernel module"},
		{"load", b.Load, moduleForm.MatchString, "is not the name of a kernel module"},
		{"watchdog.modules", b.Watchdog.Modules, moduleForm.MatchString, "is not the name of a kernel module"},
		{"firmware", b.Firmware, pattern, "is not a path below /lib/firmware"},
	} {
		for i, v := range list.values {
			if !list.ok(v) {
				return &Error{Key: list.key, Text: fmt.Sprintf("%q %s", v, list.text)}
			}
			if slices.Contains(list.values[:i], v) {
				return &Error{Key: list.key, Text: fmt.Sprintf("%q is there twice", v)}
			}
		}
	}
	for i, l := range b.Lamps {
		if l.Name == "" || l.Name == "." || l.Name == ".." || strings.Contains(l.Name, "/") {
			return &Error{Key: fmt.Sprintf("led.%d.name", i+1), Text: fmt.Sprintf("%q is not the name of an LED below /sys/class/leds", l.Name)}
		}
		if !slices.Contains(LampStates(), l.Shows) {
			return &Error{Key: fmt.Sprintf("led.%d.shows", i+1), Text: fmt.Sprintf("%q is none of %q", l.Shows, LampStates())}
		}
		if slices.ContainsFunc(b.Lamps[:i], func(other Lamp) bool { return other.Name == l.Name }) {
			return &Error{Key: fmt.Sprintf("led.%d.name", i+1), Text: fmt.Sprintf("the LED %q shows something already", l.Name)}
		}
	}
	return b.validatePorts()
}

func (b *Board) validatePorts() *Error {
	members := map[int]int{}
	for i, p := range b.Ports {
		key := func(name string) string { return fmt.Sprintf("port.%d.%s", i+1, name) }
		switch {
		case p.Role != Management && p.Role != Capture:
			return &Error{Key: key("role"), Text: fmt.Sprintf("%q is not management or capture", p.Role)}
		case p.Order < 0:
			return &Error{Key: key("order"), Text: "counts from 1; 0 is all"}
		case p.Link < 0 || p.Link > maxLinks:
			return &Error{Key: key("link"), Text: fmt.Sprintf("%d is not between 0 and %d", p.Link, maxLinks)}
		case p.Role == Management && (p.Link != 0 || p.Pairs):
			return &Error{Key: key("role"), Text: "a management port is in no link"}
		case p.Pairs && (p.Link != 0 || p.Order != 0):
			return &Error{Key: key("pairs"), Text: "is for rules with several NICs, which have neither link nor order"}
		case p.Link != 0 && p.Order == 0 && p.Path == "":
			return &Error{Key: key("link"), Text: "a rule with a link names one NIC, by order or path"}
		case p.Path != "" && !pattern(p.Path):
			return &Error{Key: key("path"), Text: fmt.Sprintf("%q is not a place as 0000:03:00.0, or a pattern for some", p.Path)}
		}
		for j, q := range b.Ports[:i] {
			if q == p {
				return &Error{Key: fmt.Sprintf("port.%d", i+1), Text: fmt.Sprintf("is the same as the %d. one", j+1)}
			}
		}
		if members[p.Link]++; p.Link != 0 && members[p.Link] > 2 {
			return &Error{Key: key("link"), Text: fmt.Sprintf("link %d has two ports already", p.Link)}
		}
	}
	for i, p := range b.Ports {
		if p.Link != 0 && members[p.Link] != 2 {
			return &Error{Key: fmt.Sprintf("port.%d.link", i+1), Text: fmt.Sprintf("link %d has only this port: a link has two", p.Link)}
		}
	}
	return nil
}

func argument(s string) bool {
	return argumentForm.MatchString(s) && !strings.HasPrefix(s, "console=")
}

// pattern reports whether s is a relative path or a pattern for some.
func pattern(s string) bool {
	_, err := path.Match(s, "")
	return err == nil && s != "" && !strings.HasPrefix(s, "/") && path.Clean(s) == s && !strings.HasPrefix(s, "..")
}
