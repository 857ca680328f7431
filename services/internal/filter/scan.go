package filter

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxSource bounds an expression in bytes: far more than a person or a script writes, little enough that every stage is quick.
const maxSource = 64 << 10

// A span is a place in the source, in bytes.
type span struct{ pos, end int }

// An item is one element of a value list.
type item struct {
	span          // with its quotes
	text   string // without quotes, \" unescaped in double quotes
	quoted bool
	part   bool // of a list in quotes
}

// at returns where byte i of an item's text stands in the source.
func (it *item) at(source string, i int) int {
	raw, at, n := source[it.pos:it.end], 0, 0
	escapes := false
	if it.quoted {
		opening, width := utf8.DecodeRuneInString(raw)
		at, escapes = width, singleQuotes[opening] == 0
	}
	for n < i && at < len(raw) {
		switch {
		case escapes && strings.HasPrefix(raw[at:], `\\`):
			at, n = at+2, n+2
		case escapes && strings.HasPrefix(raw[at:], `\"`):
			at, n = at+2, n+1
		default:
			at, n = at+1, n+1
		}
	}
	return it.pos + min(at, len(raw)) - max(0, n-i)
}

func firstRune(s string) rune {
	r, _ := utf8.DecodeRuneInString(s)
	return r
}

// The quotes. What word processors and web pages make of the two ASCII ones counts too, and any of a family ends what another one began.
var (
	doubleQuotes = map[rune]byte{'“': 1, '”': 1, '„': 1, '‟': 1}
	singleQuotes = map[rune]byte{'\'': 1, '‘': 2, '’': 2, '‚': 2, '‛': 2}
)

func isQuote(r rune) bool { return r == '"' || doubleQuotes[r] != 0 || singleQuotes[r] != 0 }

func closes(opening, r rune) bool {
	switch {
	case opening == '"' || opening == '\'':
		return r == opening
	case doubleQuotes[opening] != 0:
		return doubleQuotes[r] != 0
	default:
		return singleQuotes[r] == singleQuotes[opening]
	}
}

// Quotes follows the quotes of an expression rune by rune, for what carries expressions and has a syntax of its own around them. The zero value is
// at the beginning.
type Quotes struct {
	opening, before rune
	escaped         bool
}

// Next goes on behind r and reports whether r is quoted, or is a quote. As in a value, a quote within a word is none.
func (q *Quotes) Next(r rune) bool {
	before := q.before
	q.before = r
	switch {
	case q.opening == 0:
		if isQuote(r) && (before == 0 || unicode.IsSpace(before) || strings.ContainsRune("=<>,+(", before)) {
			q.opening = r
		}
		return q.opening != 0
	case q.escaped:
		q.escaped = false
	case r == '\\' && singleQuotes[q.opening] == 0:
		q.escaped = true
	case closes(q.opening, r):
		q.opening = 0
	}
	return true
}

// A scanner cuts the source into words, operators and values. What comes next depends on the grammar, so the parser asks for it.
type scanner struct {
	source string
	pos    int
}

func (s *scanner) rest() string { return s.source[s.pos:] }

func (s *scanner) blank() {
	for s.pos < len(s.source) {
		r, width := utf8.DecodeRuneInString(s.rest())
		if !unicode.IsSpace(r) && r != '\u200b' && r != '\ufeff' {
			return
		}
		s.pos += width
	}
}

// take goes on behind the first of the given marks that comes next and returns it, or "".
func (s *scanner) take(marks ...string) string {
	s.blank()
	for _, m := range marks {
		if strings.HasPrefix(s.rest(), m) {
			s.pos += len(m)
			return m
		}
	}
	return ""
}

// peek returns the word that comes next without going on: letters, digits, points, hyphens and underscores.
func (s *scanner) peek() string {
	s.blank()
	end := strings.IndexFunc(s.rest(), func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '.' && r != '_' && r != '-'
	})
	if end < 0 {
		return s.rest()
	}
	return s.rest()[:end]
}

// keyword goes on behind the word that comes next if it is w, whatever the case.
func (s *scanner) keyword(w string) bool {
	word := s.peek()
	if !strings.EqualFold(word, w) {
		return false
	}
	s.pos += len(word)
	return true
}

// junk returns the span of whatever comes next, for an error: up to the next blank or parenthesis.
func (s *scanner) junk() span {
	s.blank()
	end := strings.IndexFunc(s.rest(), func(r rune) bool { return unicode.IsSpace(r) || r == '(' || r == ')' })
	switch {
	case end < 0:
		end = len(s.rest())
	case end == 0:
		end = 1
	}
	return span{s.pos, s.pos + end}
}

// value scans a list of bare and quoted items. A comma in quotes does not separate.
func (s *scanner) value() ([]item, *Error) {
	s.blank()
	var items []item
	for {
		it, err := s.item(len(items) > 0)
		if err != nil {
			return nil, err
		}
		items = append(items, it)
		if !strings.HasPrefix(s.rest(), ",") {
			return items, nil
		}
		s.pos++
	}
}

func (s *scanner) item(more bool) (item, *Error) {
	if r := firstRune(s.rest()); isQuote(r) {
		return s.quoted(r)
	}
	at := s.pos
	if strings.HasPrefix(s.rest(), "(") {
		return item{}, &Error{Pos: at, Len: 1, Message: "a value has no parentheses around it: write it alone, several as a list such as 80,443, and a pattern in quotes", Expected: []string{"a value"}}
	}
	s.pos += bareEnd(s.rest())
	if s.pos == at {
		if more {
			return item{}, &Error{Pos: at - 1, Len: 1, Message: "a list item is missing after the comma; a list has no blanks unless it is quoted", Expected: []string{"a value"}}
		}
		where := s.junk()
		return item{}, &Error{Pos: where.pos, Len: where.end - where.pos, Message: "a value is missing", Expected: []string{"a value"}}
	}
	return item{span: span{at, s.pos}, text: s.source[at:s.pos]}, nil
}

// bareEnd returns the length of the bare value that text begins with: up to a blank, a closing parenthesis, a comma, && or ||.
func bareEnd(text string) int {
	for i, r := range text {
		if r == ')' || r == ',' || unicode.IsSpace(r) || strings.HasPrefix(text[i:], "&&") || strings.HasPrefix(text[i:], "||") {
			return i
		}
	}
	return len(text)
}

// quoted scans a quoted item. In double quotes \" is a quote; every other backslash stays, and a pair of backslashes does not escape what
// follows, so that a pattern may end with one. Single quotes know no escape.
func (s *scanner) quoted(opening rune) (item, *Error) {
	at := s.pos
	s.pos += utf8.RuneLen(opening)
	var text strings.Builder
	for s.pos < len(s.source) {
		r, width := utf8.DecodeRuneInString(s.rest())
		switch {
		case closes(opening, r):
			s.pos += width
			return item{span: span{at, s.pos}, text: text.String(), quoted: true}, nil
		case singleQuotes[opening] == 0 && strings.HasPrefix(s.rest(), `\"`):
			s.pos++
		case singleQuotes[opening] == 0 && strings.HasPrefix(s.rest(), `\\`):
			text.WriteByte('\\')
			s.pos++
		}
		text.WriteString(s.rest()[:width])
		s.pos += width
	}
	return item{}, &Error{Pos: at, Len: len(s.source) - at, Message: "the quoted value does not end", Expected: []string{string(closing(opening))}}
}

func closing(opening rune) rune {
	switch {
	case doubleQuotes[opening] != 0:
		return '”'
	case singleQuotes[opening] == 2:
		return '’'
	}
	return opening
}
