package signature

import (
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"
)

// files holds the protocols that a signature knows, by area. Each protocol adds its name to those that the caller has; numbers are for ever, because
// rings keep them on disk.
//
// A signature holds if all its parts do:
//
//	l4      udp, tcp
//	match   "offset:bytes", bytes as hex or 'text', "|" between alternatives; "offset&mask:bytes" looks at some bits only. A negative offset counts from
//	        the payload's end
//	find    one of these is within the first 128 bytes, whatever the case
//	fields  "offset:type in a..b", "offset:type == @offset" (the same as there), or "offset:type == len-n", where >= means a message that goes on in the next
//	        segment and <= several messages, and "type*k" a length in units of k bytes; types u8, u16be, u16le, u24be, u24le, u32be, u32le
//	text    the first 128 bytes are printable ASCII
//	min max length of the payload
//	ports   one of the two ports is among these
//	both    does not decide alone: the other direction must have a signature of this protocol too
//	late    also behind the first two packets with payload of a TCP connection's direction
//	app     what the protocol carries here
//	carries later packets are looked at for TLS, and that is then what the protocol carries
//	yes no  samples, in the notation of match, which the tests try
//
// A signature that fixes fewer than 24 bits needs ports or both, one below 16 needs ports.
//
// A protocol that a number in the header before it names has the key types instead: what they say is the caller's to read.
//
//go:embed table/*.toml
var files embed.FS

// A Table is what the files say.
type Table struct {
	Protocols []Protocol // in the files' order; one that is in several parts comes several times
	Rows      []Row
	dispatch  [2][256][]Guard // by layer 4 and first byte
}

// A Protocol is what the files say about a name.
type Protocol struct {
	ID       uint16
	New      bool // it is not among the names that were known: the fields from Category to Ports are its own
	Name     string
	Category string
	Master   uint16 // the family that it belongs to; 0 is none
	Aliases  []string
	Ports    []string // "udp:53"
	Types    []string // "ethertype:88cc": the numbers that name it
}

// Asked returns the guards of the rows that a payload may fulfil by its first byte.
func (t *Table) Asked(stream bool, first byte) []Guard {
	if stream {
		return t.dispatch[1][first]
	}
	return t.dispatch[0][first]
}

// A written is a file as it is written.
type written struct {
	Protocol []struct {
		ID        uint16
		Name      string
		Category  string
		Master    string
		Aliases   []string
		Ports     []string
		Types     []string
		Signature []struct {
			L4      []string
			Match   []string
			Find    []string
			Fields  []string
			Text    bool
			App     string
			Min     int
			Max     int
			Ports   []uint16
			Both    bool
			Late    bool
			Carries bool
			Yes     string
			No      string
		}
	}
}

// New compiles the files that the program carries. known are the names that there are already, and their numbers; those of the files begin with first.
func New(known map[string]uint16, first uint16) (*Table, error) {
	var text strings.Builder
	names, err := fs.Glob(files, "table/*.toml")
	for _, name := range names {
		b, _ := files.ReadFile(name)
		text.Write(b)
	}
	if err != nil {
		return nil, err
	}
	return compile(text.String(), known, first)
}

func compile(text string, known map[string]uint16, first uint16) (*Table, error) {
	var file written
	meta, err := toml.Decode(text, &file)
	if err != nil {
		return nil, fmt.Errorf("read signatures: %w", err)
	}
	if unknown := meta.Undecoded(); len(unknown) > 0 {
		return nil, fmt.Errorf("read signatures: no such key: %s", unknown[0])
	}
	t, known := new(Table), maps.Clone(known)
	for _, p := range file.Protocol {
		of := Protocol{p.ID, p.ID != 0, p.Name, p.Category, 0, p.Aliases, p.Ports, p.Types}
		if !of.New {
			if of.ID = known[p.Name]; of.ID == 0 {
				return nil, fmt.Errorf("protocol %s: neither in the code nor in hosts.txt, so it needs an id", p.Name)
			}
		} else {
			if p.ID < first || known[p.Name] != 0 {
				return nil, fmt.Errorf("protocol %s: id %d or name is taken", p.Name, p.ID)
			}
			known[p.Name] = p.ID
			if of.Master = known[p.Master]; p.Master != "" && of.Master == 0 {
				return nil, fmt.Errorf("protocol %s: its master %q must come before it", p.Name, p.Master)
			}
		}
		t.Protocols = append(t.Protocols, of)
		for i, s := range p.Signature {
			row := Row{Proto: of.ID, App: known[s.App], Ports: s.Ports, Both: s.Both, Late: s.Late, Carries: s.Carries, min: s.Min, max: s.Max, text: s.Text}
			err := errors.Join(row.setTransport(s.L4), row.setMatch(s.Match), row.setFind(s.Find), row.setFields(s.Fields), row.setSamples(s.Yes, s.No), row.check())
			if err != nil {
				return nil, fmt.Errorf("protocol %s, signature %d: %w", p.Name, i+1, err)
			}
			if row.App == 0 && s.App != "" {
				return nil, fmt.Errorf("protocol %s, signature %d: app %q has no row before this one", p.Name, i+1, s.App)
			}
			t.add(row)
		}
	}
	return t, nil
}

// add appends a row and notes by which first bytes it is to be asked.
func (t *Table) add(s Row) {
	t.Rows = append(t.Rows, s)
	g := guardOf(&s)
	g.Row = uint16(len(t.Rows) - 1)
	for l4, is := range []Transport{UDP, TCP} {
		if s.L4&is == 0 {
			continue
		}
		for b := range 256 {
			if s.mayBegin(byte(b)) {
				t.dispatch[l4][b] = append(t.dispatch[l4][b], g)
			}
		}
	}
}

func (s *Row) mayBegin(b byte) bool {
	for _, p := range s.match {
		if p.at == 0 && !slices.ContainsFunc(p.any, func(w []byte) bool { return p.mask != 0 && b&p.mask == w[0] || p.mask == 0 && b == w[0] }) {
			return false
		}
	}
	if s.text && !Printable([]byte{b}) {
		return false
	}
	return !slices.ContainsFunc(s.fields, func(f field) bool { return !f.mayBegin(b) })
}

// mayBegin reports whether a payload of at most 65,535 bytes that begins with b can fulfil f.
func (f *field) mayBegin(b byte) bool {
	if f.at != 0 || f.op == same || f.op == atLeast || f.little && f.width > 1 {
		return true
	}
	hi := f.hi
	if f.op != within {
		hi = 65535
	}
	shift := 8 * (f.width - 1)
	return uint64(b) <= hi>>shift && (f.op != within || uint64(b) >= f.lo>>shift)
}

func (s *Row) setTransport(names []string) error {
	for _, n := range names {
		switch n {
		case "udp":
			s.L4 |= UDP
		case "tcp":
			s.L4 |= TCP
		default:
			return fmt.Errorf("l4: %q is neither udp nor tcp", n)
		}
	}
	if s.L4 == 0 {
		return errors.New("l4 is missing")
	}
	return nil
}

func (s *Row) setMatch(list []string) error {
	for _, text := range list {
		place, words, ok := strings.Cut(text, ":")
		if !ok {
			return fmt.Errorf("match %q: want offset:bytes", text)
		}
		var p pattern
		place, mask, masked := strings.Cut(place, "&")
		at, err := strconv.Atoi(place)
		if err != nil {
			return fmt.Errorf("match %q: offset %q", text, place)
		}
		p.at = at
		if p.any, err = parseWords(words); err != nil {
			return fmt.Errorf("match %q: %w", text, err)
		}
		if masked {
			m, err := strconv.ParseUint(mask, 16, 8)
			if err != nil || slices.ContainsFunc(p.any, func(w []byte) bool { return len(w) != 1 }) {
				return fmt.Errorf("match %q: a mask is one byte, and so is what it is for", text)
			}
			p.mask = byte(m)
		}
		s.match = append(s.match, p)
	}
	return nil
}

func (s *Row) setFind(list []string) error {
	for _, text := range list {
		w, err := parseWords(text)
		if err != nil {
			return fmt.Errorf("find %q: %w", text, err)
		}
		for _, one := range w {
			s.find = append(s.find, appendLower(nil, one))
		}
	}
	return nil
}

var fieldTypes = map[string]field{
	"u8": {width: 1}, "u16be": {width: 2}, "u16le": {width: 2, little: true}, "u24be": {width: 3}, "u24le": {width: 3, little: true}, "u32be": {width: 4}, "u32le": {width: 4, little: true},
}

var comparisons = map[string]comparison{"in": within, "==": isLength, ">=": atLeast, "<=": atMost}

func (s *Row) setFields(list []string) error {
	for _, text := range list {
		f, err := parseField(text)
		if err != nil {
			return fmt.Errorf("field %q: %w", text, err)
		}
		s.fields = append(s.fields, f)
	}
	return nil
}

func parseField(text string) (field, error) {
	var at int
	var kind, op, rest string
	if _, err := fmt.Sscanf(strings.Replace(text, ":", " ", 1), "%d %s %s %s", &at, &kind, &op, &rest); err != nil {
		return field{}, err
	}
	kind, times, scaled := strings.Cut(kind, "*")
	f, ok := fieldTypes[kind]
	if !ok || at < 0 {
		return f, fmt.Errorf("no type %q", kind)
	}
	f.at, f.times = at, 1
	if f.op, ok = comparisons[op]; !ok {
		return f, fmt.Errorf("%q is none of in, ==, >=, <=", op)
	}
	if scaled {
		if _, err := fmt.Sscan(times, &f.times); err != nil {
			return f, err
		}
	}
	var err error
	switch {
	case f.op == within:
		_, err = fmt.Sscanf(rest, "%d..%d", &f.lo, &f.hi)
	case f.op == isLength && rest[0] == '@':
		f.op = same
		_, err = fmt.Sscanf(rest, "@%d", &f.lo)
	default:
		_, err = fmt.Sscanf(rest, "len-%d", &f.lo)
	}
	return f, err
}

func (s *Row) setSamples(texts ...string) error {
	for i, text := range texts {
		text, size, padded := strings.Cut(text, "*")
		if strings.Count(text, "'")%2 == 1 {
			text, padded = texts[i], false // the star is within a text
		}
		w, err := parseWords(text)
		if err != nil || len(w) != 1 {
			return fmt.Errorf("sample %q: %w", text, err)
		}
		if padded {
			n, err := strconv.Atoi(size)
			if err != nil || n < len(w[0]) {
				return fmt.Errorf("sample %q: length %q", text, size)
			}
			w[0] = append(w[0], make([]byte, n-len(w[0]))...)
		}
		s.Samples[i] = w[0]
	}
	return nil
}

// check refuses signatures that noise or another protocol would meet too often.
func (s *Row) check() error {
	switch n := s.weight(); {
	case n < 16 && s.Ports == nil && !s.Both, n < 10:
		return fmt.Errorf("fixes %d bits: too few", n)
	case n < 24 && s.Ports == nil && !s.Both:
		return fmt.Errorf("fixes %d bits: needs ports, or both directions", n)
	}
	return nil
}

// parseWords reads alternatives, each of hex digits and 'texts' in any order.
func parseWords(text string) (words [][]byte, err error) {
	word := []byte{}
	for text != "" {
		switch {
		case text[0] == '\'':
			end := strings.IndexByte(text[1:], '\'')
			if end < 0 {
				return nil, errors.New("text without end")
			}
			word, text = append(word, text[1:1+end]...), text[2+end:]
		case text[0] == '|':
			words, word, text = append(words, word), []byte{}, text[1:]
		case text[0] == ' ':
			text = text[1:]
		default:
			if len(text) < 2 {
				return nil, fmt.Errorf("half a byte: %q", text)
			}
			b, err := hex.DecodeString(text[:2])
			if err != nil {
				return nil, err
			}
			word, text = append(word, b...), text[2:]
		}
	}
	words = append(words, word)
	if slices.ContainsFunc(words, func(w []byte) bool { return len(w) == 0 }) {
		return nil, errors.New("an alternative is empty")
	}
	return words, nil
}
