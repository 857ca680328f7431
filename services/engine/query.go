package engine

import (
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"galvo/services/api"
	"galvo/services/internal/filter"
)

// A captureQuery is the query of a capture URL.
type captureQuery struct {
	api.CaptureRequest
	FormExpression    string // the expression with its unencoded + read as blanks, as form encoding has it
	FromCaptureBuffer bool
	CaptureToMedia    bool
	Device            string
}

// captureParameters are the parameters of the capture URL, by lower-case name.
var captureParameters = map[string]func(q *captureQuery, value string, now int64) error{
	"starttime": func(q *captureQuery, v string, now int64) (err error) {
		q.StartTime, err = microseconds(v, now)
		return err
	},
	"endtime": func(q *captureQuery, v string, now int64) (err error) {
		q.EndTime, err = microseconds(v, now)
		return err
	},
	"expression": func(q *captureQuery, v string, _ int64) error {
		q.Expression = v
		return nil
	},
	"snappacketlength": func(q *captureQuery, v string, _ int64) error {
		n, err := strconv.ParseUint(v, 10, 32)
		if err != nil || n < 1 || n > 65535 {
			return fmt.Errorf("%q is not a number from 1 to 65535", v)
		}
		q.SnapLength = uint32(n)
		return nil
	},
	"fromcapturebuffer":  func(q *captureQuery, v string, _ int64) error { return truth(v, &q.FromCaptureBuffer) },
	"capturetomedia":     func(q *captureQuery, v string, _ int64) error { return truth(v, &q.CaptureToMedia) },
	"usesingleinterface": func(q *captureQuery, v string, _ int64) error { return truth(v, &q.UseSingleInterface) },
	"format": func(q *captureQuery, v string, _ int64) error {
		return oneOf(v, &q.Format, "pcapng", "pcap", "pcap-ns")
	},
	"undecided":  func(q *captureQuery, v string, _ int64) error { return oneOf(v, &q.Undecided, "skip", "hold") },
	"maxbytes":   func(q *captureQuery, v string, _ int64) error { return count(v, &q.MaxBytes) },
	"maxpackets": func(q *captureQuery, v string, _ int64) error { return count(v, &q.MaxPackets) },
	"maxseconds": func(q *captureQuery, v string, _ int64) error { return seconds(v, &q.MaxSeconds) },
	"comment":    func(q *captureQuery, v string, _ int64) error { return text(v, &q.Comment, 65535) },
	"deviceinfo": func(q *captureQuery, v string, _ int64) error { return truth(v, &q.DeviceInfo) },
	"filename":   func(q *captureQuery, v string, _ int64) error { return text(v, &q.FileName, 255) },
	"directory":  func(q *captureQuery, v string, _ int64) error { return text(v, &q.Sink.Directory, 4096) },
	"splitbytes": func(q *captureQuery, v string, _ int64) error {
		q.Sink.SplitBytes = new(uint64)
		return count(v, q.Sink.SplitBytes)
	},
	"splitseconds": func(q *captureQuery, v string, _ int64) error {
		q.Sink.SplitSeconds = new(uint64)
		return seconds(v, q.Sink.SplitSeconds)
	},
	"device": func(q *captureQuery, v string, _ int64) error {
		q.Device = v
		return nil
	},
	"ring": func(q *captureQuery, v string, _ int64) error {
		if v == "" || v[0] == ':' || v == "live" {
			return fmt.Errorf("%q is not the name of a ring", v)
		}
		q.Source = v
		return nil
	},
	"mm-id": func(q *captureQuery, v string, _ int64) error {
		if !strings.HasPrefix(v, ":") {
			return fmt.Errorf("%q is not a slot such as :1", v)
		}
		q.Source = v
		return nil
	},
}

// captureParameterNames are the names as the manual spells them, for messages.
var captureParameterNames = []string{"startTime", "endTime", "expression", "snapPacketLength", "fromCaptureBuffer", "captureToMedia",
	"useSingleInterface", "format", "undecided", "maxBytes", "maxPackets", "maxSeconds", "comment", "deviceInfo", "fileName", "device", "directory",
	"splitBytes", "splitSeconds", "ring", "mm-id"}

// parseCaptureQuery reads the raw query of a capture URL. It is not form encoding: inside the expression an unencoded && is no
// separator, nor is a single & between quotes of any kind; a semicolon is data, and a plus stays a plus. now is in microseconds.
func parseCaptureQuery(raw string, now int64) (*captureQuery, *api.Error) {
	q := new(captureQuery)
	var seen []string
	for raw != "" {
		name, encoded, rest := cutParameter(raw)
		raw = rest
		if name == "" && encoded == "" {
			continue
		}
		value, err := url.PathUnescape(encoded)
		if err != nil {
			return nil, api.Errorf(api.BadRequest, "%s: %v", name, err)
		}
		key := strings.ToLower(name)
		set, ok := captureParameters[key]
		if !ok {
			text := fmt.Sprintf("unknown parameter %q", name)
			if strings.HasPrefix(encoded, "=") || strings.ContainsAny(name, "!<>") {
				text += "; if it belongs to the expression, write && before it"
			}
			return nil, &api.Error{Kind: api.BadRequest, Text: text, Expected: captureParameterNames}
		}
		if slices.Contains(seen, key) {
			return nil, api.Errorf(api.BadRequest, "the parameter %s is given twice", name)
		}
		seen = append(seen, key)
		if err := set(q, value, now); err != nil {
			return nil, api.Errorf(api.BadRequest, "%s: %v", name, err)
		}
		if key == "expression" {
			q.FormExpression, _ = url.QueryUnescape(encoded)
		}
	}
	if q.StartTime != 0 && q.EndTime != 0 && q.EndTime <= q.StartTime {
		return nil, api.Errorf(api.BadRequest, "endTime is not after startTime: the capture would be empty")
	}
	if slices.Contains(seen, "ring") && slices.Contains(seen, "mm-id") {
		return nil, api.Errorf(api.BadRequest, "ring and mm-id do not go together: a capture is from a ring or from a slot")
	}
	named := slices.Contains(seen, "device") && !slices.Contains(seen, "capturetomedia") // to a device
	for _, name := range []string{"device", "directory", "splitBytes", "splitSeconds"} {
		if slices.Contains(seen, strings.ToLower(name)) && !q.CaptureToMedia && !named {
			return nil, api.Errorf(api.BadRequest, "%s goes with captureToMedia=true", name)
		}
	}
	return q, nil
}

// readPlus takes the expression with its unencoded + read as blanks if it compiles only so. If it does not compile either way, the reading that the grammar
// allows is what was meant, or else the one that is right for longer, and what is wrong with that is to be said.
func (q *captureQuery) readPlus(env *filter.Env) {
	var plus, blank *filter.Error
	if _, err := filter.Compile(q.Expression, env); !errors.As(err, &plus) {
		return
	}
	if _, err := filter.Compile(q.FormExpression, env); errors.As(err, &blank) && (blank.Syntax && !plus.Syntax || blank.Syntax == plus.Syntax && blank.Pos <= plus.Pos) {
		return
	}
	q.Expression = q.FormExpression
}

// cutParameter cuts the first parameter, still encoded, off a raw query.
func cutParameter(raw string) (name, value, rest string) {
	name, after, ok := strings.Cut(raw, "=")
	if strings.Contains(name, "&") || !ok {
		name, rest, _ = strings.Cut(raw, "&")
		return name, "", rest
	}
	end := strings.IndexByte(after, '&')
	if strings.EqualFold(name, "expression") {
		end = expressionEnd(after)
	}
	if end < 0 {
		return name, after, ""
	}
	return name, after[:end], after[end+1:]
}

// expressionEnd returns the index of the & that ends the expression at the start of raw, or -1. Only one that is neither encoded, nor quoted, nor one of
// two does.
func expressionEnd(raw string) int {
	var quotes filter.Quotes
	for at := 0; at < len(raw); {
		r, width, encoded := nextRune(raw[at:])
		quoted := quotes.Next(r)
		switch {
		case r != '&' || quoted || encoded:
		case strings.HasPrefix(raw[at:], "&&"):
			width = 2
		default:
			return at
		}
		at += width
	}
	return -1
}

// nextRune returns the rune that s begins with, which may be URL encoded, and how many bytes of s it takes.
func nextRune(s string) (r rune, width int, encoded bool) {
	var b [utf8.UTFMax]byte
	n, ends := 0, [utf8.UTFMax]int{}
	for at := 0; at < len(s) && n < len(b) && !utf8.FullRune(b[:n]); n++ {
		b[n] = s[at]
		if c, err := hex.DecodeString(s[min(at+1, len(s)):min(at+3, len(s))]); s[at] == '%' && err == nil && len(c) == 1 {
			b[n], encoded = c[0], true
			at += 2
		}
		at++
		ends[n] = at
	}
	r, used := utf8.DecodeRune(b[:n])
	return r, ends[used-1], encoded
}

func microseconds(v string, now int64) (int64, error) {
	if strings.EqualFold(v, "now") {
		return now, nil
	}
	t, err := strconv.ParseInt(v, 10, 64)
	if err != nil || t < 0 || t > 1<<62/1000 {
		return 0, fmt.Errorf("%q is not a time in microseconds since 1970, before the year 2116, nor now", v)
	}
	return t, nil
}

func truth(v string, b *bool) error {
	switch strings.ToLower(v) {
	case "true", "1":
		*b = true
	case "false", "0":
		*b = false
	default:
		return fmt.Errorf("%q is neither true nor false", v)
	}
	return nil
}

func oneOf(v string, s *string, values ...string) error {
	i := slices.IndexFunc(values, func(x string) bool { return strings.EqualFold(x, v) })
	if i < 0 {
		return fmt.Errorf("%q is not one of %s", v, strings.Join(values, ", "))
	}
	*s = values[i]
	return nil
}

// seconds takes what a capture's fields of seconds take.
func seconds(v string, n *uint64) error {
	if err := count(v, n); err != nil || *n > 1_000_000_000 {
		return fmt.Errorf("%q is not a number of seconds up to 1000000000", v)
	}
	return nil
}

// text takes so many bytes at most.
func text(v string, to *string, most int) error {
	if len(v) > most {
		return fmt.Errorf("it has %d bytes, and %d is the most", len(v), most)
	}
	*to = v
	return nil
}

func count(v string, n *uint64) (err error) {
	if *n, err = strconv.ParseUint(v, 10, 64); err != nil {
		return fmt.Errorf("%q is not a whole number from 0 to %d", v, uint64(math.MaxUint64))
	}
	return nil
}
