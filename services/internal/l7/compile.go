package l7

import (
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/BurntSushi/toml"
)

// signatureFiles holds the protocols that a signature knows, by area. Each protocol adds a row to the table of names; numbers are for ever, because
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
// A protocol that a number in the header before it names has the key types instead, and one that stands as a tag before others the key tag: see typeTable.
//
//go:embed signatures/*.toml
var signatureFiles embed.FS

// signatures is the compiled table.
type signatures struct {
	protocols []Protocol
	rows      []signature
	dispatch  [2][256][]guard // by layer 4 and first byte
	types     typeTable
}

// A signatureFile is one of signatureFiles as it is written.
type signatureFile struct {
	Protocol []struct {
		ID        ID
		Name      string
		Category  string
		Master    string
		Aliases   []string
		Ports     []string
		Types     []string
		Tag       int
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

// signatureTable is the table that the program carries. A test compiles it, so it has no error.
var signatureTable = sync.OnceValue(func() *signatures {
	var text strings.Builder
	names, err := fs.Glob(signatureFiles, "signatures/*.toml")
	for _, name := range names {
		b, _ := signatureFiles.ReadFile(name)
		text.Write(b)
	}
	if err != nil {
		panic("l7: embedded signatures: " + err.Error())
	}
	t, err := compile(text.String())
	if err != nil {
		panic("l7: embedded signatures: " + err.Error())
	}
	return t
})

// compile reads signatures. The names of protocols in code and of applications are known to it already.
func compile(text string) (*signatures, error) {
	var file signatureFile
	meta, err := toml.Decode(text, &file)
	if err != nil {
		return nil, fmt.Errorf("read signatures: %w", err)
	}
	if unknown := meta.Undecoded(); len(unknown) > 0 {
		return nil, fmt.Errorf("read signatures: no such key: %s", unknown[0])
	}
	t := &signatures{types: newTypeTable()}
	known := make(map[string]ID)
	for _, p := range builtin[1:] {
		known[p.Name] = p.ID
	}
	for _, p := range hostProtocols() {
		known[p.Name] = p.ID
	}
	for _, p := range file.Protocol {
		id := p.ID
		if id == 0 {
			if id = known[p.Name]; id == 0 {
				return nil, fmt.Errorf("protocol %s: neither in the code nor in hosts.txt, so it needs an id", p.Name)
			}
		} else {
			if id < firstSignatureID || known[p.Name] != 0 {
				return nil, fmt.Errorf("protocol %s: id %d or name is taken", p.Name, id)
			}
			known[p.Name] = id
			if p.Master != "" && known[p.Master] == 0 {
				return nil, fmt.Errorf("protocol %s: its master %q must come before it", p.Name, p.Master)
			}
			t.protocols = append(t.protocols, Protocol{id, p.Name, p.Category, layerOf(p.Types), known[p.Master], p.Aliases, p.Ports})
		}
		if err := t.types.add(id, p.Types, p.Tag); err != nil {
			return nil, fmt.Errorf("protocol %s: %w", p.Name, err)
		}
		for i, s := range p.Signature {
			sig := signature{proto: id, ports: s.Ports, min: s.Min, max: s.Max, text: s.Text, both: s.Both, late: s.Late, carries: s.Carries}
			err := errors.Join(sig.setTransport(s.L4), sig.setMatch(s.Match), sig.setFind(s.Find), sig.setFields(s.Fields), sig.setSamples(s.Yes, s.No), sig.check())
			if err != nil {
				return nil, fmt.Errorf("protocol %s, signature %d: %w", p.Name, i+1, err)
			}
			if sig.app = known[s.App]; sig.app == 0 && s.App != "" {
				return nil, fmt.Errorf("protocol %s, signature %d: app %q has no row before this one", p.Name, i+1, s.App)
			}
			t.add(sig)
		}
	}
	return t, nil
}

// add appends a signature and notes by which first bytes it is to be asked.
func (t *signatures) add(s signature) {
	t.rows = append(t.rows, s)
	g := guardOf(&s)
	g.row = uint16(len(t.rows) - 1)
	for l4, is := range []transport{udp, tcp} {
		if s.l4&is == 0 {
			continue
		}
		for b := range 256 {
			if s.mayBegin(byte(b)) {
				t.dispatch[l4][b] = append(t.dispatch[l4][b], g)
			}
		}
	}
}

func (s *signature) mayBegin(b byte) bool {
	for _, p := range s.match {
		if p.at == 0 && !slices.ContainsFunc(p.any, func(w []byte) bool { return p.mask != 0 && b&p.mask == w[0] || p.mask == 0 && b == w[0] }) {
			return false
		}
	}
	if s.text && !printable([]byte{b}) {
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

func (s *signature) setTransport(names []string) error {
	for _, n := range names {
		switch n {
		case "udp":
			s.l4 |= udp
		case "tcp":
			s.l4 |= tcp
		default:
			return fmt.Errorf("l4: %q is neither udp nor tcp", n)
		}
	}
	if s.l4 == 0 {
		return errors.New("l4 is missing")
	}
	return nil
}

func (s *signature) setMatch(list []string) error {
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

func (s *signature) setFind(list []string) error {
	for _, text := range list {
		w, err := parseWords(text)
		if err != nil {
			return fmt.Errorf("find %q: %w", text, err)
		}
		for _, one := range w {
			s.find = append(s.find, lowerName(nil, one))
		}
	}
	return nil
}

var fieldTypes = map[string]field{
	"u8": {width: 1}, "u16be": {width: 2}, "u16le": {width: 2, little: true}, "u24be": {width: 3}, "u24le": {width: 3, little: true}, "u32be": {width: 4}, "u32le": {width: 4, little: true},
}

var comparisons = map[string]comparison{"in": within, "==": isLength, ">=": atLeast, "<=": atMost}

func (s *signature) setFields(list []string) error {
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

func (s *signature) setSamples(texts ...string) error {
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
		s.samples[i] = w[0]
	}
	return nil
}

// check refuses signatures that noise or another protocol would meet too often.
func (s *signature) check() error {
	switch n := s.weight(); {
	case n < 16 && s.ports == nil && !s.both, n < 10:
		return fmt.Errorf("fixes %d bits: too few", n)
	case n < 24 && s.ports == nil && !s.both:
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
