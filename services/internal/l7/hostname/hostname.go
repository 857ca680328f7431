// Package hostname says which application a server belongs to, by the server's name. Applications are numbers here, whose names the caller knows.
//
// A Table is made once and only read from then on; a look-up allocates nothing, and costs a handful of look-ups in hash tables whatever the name. Names of servers
// come from the network: any bytes will do.
package hostname

import (
	_ "embed"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/net/publicsuffix"
)

// file is the table of names of servers that the program carries; its first lines say how it is written.
//
//go:embed hosts.txt
var file string

// Max is the longest name of a server: that of the DNS (RFC 1035 section 2.3.4).
const Max = 255

// A Table says which application a server belongs to. It is read-only and may be shared.
type Table struct {
	suffixes map[string]uint16 // "example.com"
	brands   map[string]uint16 // "example" of "example.*"
	below    map[string]uint16 // "mail.example" of "mail.example.*"
	firsts   map[string]uint16 // "video.example.com" of "video.*.example.com"
	forks    map[string]uint16 // "example.com" of that; which application does not matter
}

// A Lookup returns the number of an application by its name, or an error that says what else it might be.
type Lookup func(name string) (uint16, error)

// New returns the table that the program carries.
func New(number Lookup) (*Table, error) {
	t := newTable()
	if err := t.read(file, number); err != nil {
		return nil, fmt.Errorf("embedded hosts.txt: %w", err)
	}
	return t, nil
}

func newTable() *Table {
	t := new(Table)
	for _, m := range t.parts() {
		*m = make(map[string]uint16)
	}
	return t
}

func (t *Table) parts() [5]*map[string]uint16 {
	return [...]*map[string]uint16{&t.suffixes, &t.brands, &t.below, &t.firsts, &t.forks}
}

// With returns a table with the entries of text before those of t, written like hosts.txt but without numbers: a user's own names of servers. The error says which
// line is wrong, and why.
func (t *Table) With(text string, number Lookup) (*Table, error) {
	own := newTable()
	if err := own.read(text, number); err != nil {
		return nil, err
	}
	of := own.parts()
	for i, m := range t.parts() {
		for name, id := range *m {
			if _, known := (*of[i])[name]; !known {
				(*of[i])[name] = id
			}
		}
	}
	return own, nil
}

// Applications returns the numbers that the table may answer, some of them several times.
func (t *Table) Applications() iter.Seq[uint16] {
	return func(yield func(uint16) bool) {
		for _, m := range []map[string]uint16{t.suffixes, t.brands, t.below, t.firsts} {
			for _, id := range m {
				if !yield(id) {
					return
				}
			}
		}
	}
}

// An App is an application that hosts.txt adds to the table of names.
type App struct {
	Name, Category string
	Number         uint16
	Family         string // that it belongs to; "" is none
	Carrier        string // what carries it, where its name does not say so; "" is none
}

// Apps returns the applications that hosts.txt adds, in its order. It must not be changed.
func Apps() []App { return apps() }

var apps = sync.OnceValue(func() (list []App) {
	for _, l := range lines(file) {
		if !l.begins || len(l.words) < 3 {
			continue
		}
		n, err := strconv.ParseUint(l.words[1], 10, 16)
		if err != nil {
			panic(fmt.Sprintf("hostname: embedded hosts.txt, line %d: number %q", l.number, l.words[1]))
		}
		l.words = append(l.words, "", "")
		list = append(list, App{Name: l.words[0], Category: l.words[2], Number: uint16(n), Family: l.words[3], Carrier: l.words[4]})
	}
	return list
})

// A line of a file of names of servers that is not empty is the beginning of an application, or names.
type line struct {
	number int // from 1
	begins bool
	words  []string
}

func lines(text string) (list []line) {
	for i, t := range strings.Split(text, "\n") {
		t, _, _ = strings.Cut(t, "#")
		if words := strings.Fields(t); len(words) > 0 {
			list = append(list, line{i + 1, t[0] != ' ' && t[0] != '\t', words})
		}
	}
	return list
}

// read adds the entries of text.
func (t *Table) read(text string, number Lookup) error {
	var app uint16
	for _, l := range lines(text) {
		if !l.begins {
			if app == 0 {
				return fmt.Errorf("line %d: names of servers, and no application before them: a line that does not begin with a blank names it", l.number)
			}
			for _, name := range l.words {
				if err := t.add(strings.ToLower(name), app); err != nil {
					return fmt.Errorf("line %d: %w", l.number, err)
				}
			}
			continue
		}
		id, err := number(l.words[0])
		if err != nil {
			return fmt.Errorf("line %d: %w", l.number, err)
		}
		if len(l.words) > 1 && text != file {
			return fmt.Errorf("line %d: %q after the application's name: put names of servers on the next line, with a blank before them", l.number, l.words[1])
		}
		app = id
	}
	return nil
}

// add adds one entry. A name that anybody can register names below is refused: it would take them all.
func (t *Table) add(name string, app uint16) error {
	m, key := t.suffixes, name
	if first, rest, fork := strings.Cut(name, ".*."); fork && !strings.Contains(first, ".") {
		if suffix, icann := publicsuffix.PublicSuffix(rest); suffix == rest && (icann || !strings.Contains(rest, ".")) {
			return fmt.Errorf("%q: %q is a suffix below which everybody has names of their own", name, rest)
		}
		m, key = t.firsts, first+"."+rest
		t.forks[rest] = app
	}
	if brand, wild := strings.CutSuffix(name, ".*"); wild {
		m, key = t.brands, brand
		if strings.Contains(brand, ".") {
			m = t.below
		}
	}
	labels := strings.Split(key, ".")
	for _, label := range labels {
		if label == "" || len(label) > 63 || len(key) > Max || !printable(label) || strings.ContainsAny(label, "*/:@") {
			return fmt.Errorf("%q is not the name of a server: want example.com, example.* for all its countries, or video.*.example.com by the first label", name)
		}
	}
	if suffix, icann := publicsuffix.PublicSuffix(key); key == name && suffix == key && (icann || len(labels) == 1) {
		return fmt.Errorf("%q is a suffix below which everybody has names of their own", name)
	}
	if len(labels) > maxLabels {
		return fmt.Errorf("%q has more than %d labels", name, maxLabels)
	}
	m[key] = app
	return nil
}

// maxLabels is how many labels of a name, counted from its end, are looked up.
const maxLabels = 6

// Find returns the application of a server by its name in lower case, or 0: that of the longest entry which is a suffix of it at a dot.
func (t *Table) Find(name []byte) uint16 {
	if len(name) > 0 && name[len(name)-1] == '.' {
		name = name[:len(name)-1]
	}
	var starts [maxLabels]int // of the labels, the last one first
	n := 0
	for i := len(name) - 1; i >= 0 && n < maxLabels; i-- {
		if i == 0 || name[i-1] == '.' {
			starts[n] = i
			n++
		}
	}
	country := countryLabels(name, starts[:n])
	for i := n - 1; i >= 1; i-- {
		if t.forks[string(name[starts[i]:])] != 0 {
			if id := t.first(name, starts[i]); id != 0 {
				return id
			}
		}
		if id := t.suffixes[string(name[starts[i]:])]; id != 0 {
			return id
		}
		if country == 0 || i < country {
			continue
		}
		brand := name[starts[i] : starts[country-1]-1]
		m := t.below
		if i == country {
			m = t.brands
		}
		if id := m[string(brand)]; id != 0 {
			return id
		}
	}
	return 0
}

// first returns the application of a name's first label together with its end from at on, or 0.
func (t *Table) first(name []byte, at int) uint16 {
	var room [Max + 1]byte
	n := 0
	for n < len(name) && name[n] != '.' {
		n++
	}
	if n+1 >= at || len(name) > Max {
		return 0
	}
	return t.firsts[string(append(append(room[:0], name[:n+1]...), name[at:]...))]
}

// countryLabels returns how many labels at the end of a name are a country or the like, below which companies have their names: "de", "com", "co.uk", "com.br".
// 0 if there is no label before them.
func countryLabels(name []byte, starts []int) int {
	if len(starts) < 2 {
		return 0
	}
	last := name[starts[0]:]
	if len(last) > 3 && string(last) != "info" {
		return 0
	}
	if len(starts) > 2 && len(last) == 2 {
		switch string(name[starts[1] : starts[0]-1]) {
		case "co", "com", "net", "org", "or", "ne", "ac", "gov", "edu":
			return 2
		}
	}
	return 1
}

// printable reports whether a label has only characters that can be seen.
func printable(label string) bool {
	return !strings.ContainsFunc(label, func(c rune) bool { return c <= ' ' || c >= 0x7f })
}
