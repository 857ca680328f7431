package l7

import (
	_ "embed"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/net/publicsuffix"
)

// hostFile is the table of server names that the program carries; its first lines say how it is written.
//
//go:embed hosts.txt
var hostFile string

// Hosts says which application a server belongs to, by its name. It is read-only and may be shared.
type Hosts struct {
	suffixes map[string]ID // "example.com"
	brands   map[string]ID // "example" of "example.*"
	below    map[string]ID // "mail.example" of "mail.example.*"
	firsts   map[string]ID // "video.example.com" of "video.*.example.com"
	forks    map[string]ID // "example.com" of that; which application does not matter
}

// BuiltinHosts returns the table that the program carries.
func BuiltinHosts() *Hosts { return builtinHosts() }

var builtinHosts = sync.OnceValue(func() *Hosts {
	h := newHosts()
	if err := h.read(hostFile); err != nil {
		panic("l7: embedded hosts.txt: " + err.Error())
	}
	return h
})

func newHosts() *Hosts {
	return &Hosts{suffixes: make(map[string]ID), brands: make(map[string]ID), below: make(map[string]ID), firsts: make(map[string]ID), forks: make(map[string]ID)}
}

// ReadHosts returns the program's table with the entries of text before it, written like hosts.txt but without numbers: a user's own server names for
// applications that the table of names has. The error says which line is wrong, and why.
func ReadHosts(text string) (*Hosts, error) {
	base := builtinHosts()
	h := newHosts()
	if err := h.read(text); err != nil {
		return nil, err
	}
	for _, m := range [5][2]map[string]ID{{h.suffixes, base.suffixes}, {h.brands, base.brands}, {h.below, base.below}, {h.firsts, base.firsts}, {h.forks, base.forks}} {
		for name, id := range m[1] {
			if _, own := m[0][name]; !own {
				m[0][name] = id
			}
		}
	}
	return h, nil
}

// hostLine is one line of a file of server names that is not empty: the beginning of an application, or names.
type hostLine struct {
	number int // from 1
	begins bool
	words  []string
}

func hostLines(text string) (lines []hostLine) {
	for i, line := range strings.Split(text, "\n") {
		line, _, _ = strings.Cut(line, "#")
		if words := strings.Fields(line); len(words) > 0 {
			lines = append(lines, hostLine{i + 1, line[0] != ' ' && line[0] != '\t', words})
		}
	}
	return lines
}

// read adds the entries of text.
func (h *Hosts) read(text string) error {
	var app ID
	for _, l := range hostLines(text) {
		if !l.begins {
			if app == 0 {
				return fmt.Errorf("line %d: names of servers, and no application before them: a line that does not begin with a blank names it", l.number)
			}
			for _, name := range l.words {
				if err := h.add(strings.ToLower(name), app); err != nil {
					return fmt.Errorf("line %d: %w", l.number, err)
				}
			}
			continue
		}
		id, ok := Lookup(l.words[0])
		if !ok {
			err := fmt.Errorf("line %d: no application or protocol %q", l.number, l.words[0])
			if near := Nearest(l.words[0], 3); len(near) > 0 {
				err = fmt.Errorf("%w; did you mean %s?", err, strings.Join(near, ", "))
			}
			return err
		}
		if len(l.words) > 1 && text != hostFile {
			return fmt.Errorf("line %d: %q after the application's name: put names of servers on the next line, with a blank before them", l.number, l.words[1])
		}
		app = id
	}
	return nil
}

// add adds one entry. A name that anybody can register names below is refused: it would take them all.
func (h *Hosts) add(name string, app ID) error {
	m, key := h.suffixes, name
	if first, rest, fork := strings.Cut(name, ".*."); fork && !strings.Contains(first, ".") {
		if suffix, icann := publicsuffix.PublicSuffix(rest); suffix == rest && (icann || !strings.Contains(rest, ".")) {
			return fmt.Errorf("%q: %q is a suffix below which everybody has names of their own", name, rest)
		}
		m, key = h.firsts, first+"."+rest
		h.forks[rest] = app
	}
	if brand, wild := strings.CutSuffix(name, ".*"); wild {
		m, key = h.brands, brand
		if strings.Contains(brand, ".") {
			m = h.below
		}
	}
	labels := strings.Split(key, ".")
	for _, label := range labels {
		if label == "" || len(label) > 63 || len(key) > MaxHost || !hostLabel([]byte(label)) || strings.ContainsAny(label, "*/:@") {
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

// find returns the application of a server by its name in lower case, or 0: that of the longest entry which is a suffix of it at a dot.
func (h *Hosts) find(name []byte) ID {
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
		if h.forks[string(name[starts[i]:])] != 0 {
			if id := h.first(name, starts[i]); id != 0 {
				return id
			}
		}
		if id := h.suffixes[string(name[starts[i]:])]; id != 0 {
			return id
		}
		if country == 0 || i < country {
			continue
		}
		brand := name[starts[i] : starts[country-1]-1]
		m := h.below
		if i == country {
			m = h.brands
		}
		if id := m[string(brand)]; id != 0 {
			return id
		}
	}
	return 0
}

// first returns the application of a name's first label together with its end from at on, or 0.
func (h *Hosts) first(name []byte, at int) ID {
	var room [MaxHost + 1]byte
	n := 0
	for n < len(name) && name[n] != '.' {
		n++
	}
	if n+1 >= at || len(name) > MaxHost {
		return 0
	}
	return h.firsts[string(append(append(room[:0], name[:n+1]...), name[at:]...))]
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

// hostProtocols returns the rows that hostFile adds to the table of names.
var hostProtocols = sync.OnceValue(func() (rows []Protocol) {
	for _, l := range hostLines(hostFile) {
		if !l.begins || len(l.words) < 3 {
			continue
		}
		id, err := strconv.ParseUint(l.words[1], 10, 16)
		if err != nil || id < firstSignatureID {
			panic(fmt.Sprintf("l7: embedded hosts.txt, line %d: number %q", l.number, l.words[1]))
		}
		rows = append(rows, Protocol{ID: ID(id), Name: l.words[0], Category: l.words[2], Layer: LayerApplication})
	}
	return rows
})
