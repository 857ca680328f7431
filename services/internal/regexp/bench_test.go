package regexp

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// payloads is seeded traffic of 400 to 1400 bytes each: headers of HTTP, SIP and mail, records of TLS with random contents, DNS-like
// binaries with many zeros, text and markup.
func payloads() (texts [][]byte, total int64) {
	r := rand.New(rand.NewPCG(11, 12))
	words := []string{"GET /images/logo.png ", "Host: www.example.org\r\n", "User-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\n", "Accept-Encoding: gzip, deflate\r\n",
		"Content-Type: text/html; charset=utf-8\r\n", "Content-Length: 12345\r\n", "Via: SIP/2.0/UDP 10.1.2.3:5060;branch=z9hG4bK776\r\n", "<div class=\"content\">", "</p>\n",
		"the quick brown fox jumps over the lazy dog ", "Set-Cookie: id=0123456789ABCDEF; path=/\r\n", "\x00\x00\x00\x01\x00\x0c\xc0\x0c\x00\x01", "function(a,b){return a+b;}"}
	for range 400 {
		text := make([]byte, 0, 1500)
		size := 400 + r.IntN(1001)
		kind := r.IntN(3)
		for len(text) < size {
			switch kind {
			case 0:
				text = append(text, words[r.IntN(len(words))]...)
			case 1:
				text = append(text, byte(r.Uint32()))
			default:
				text = append(text, byte(r.Uint32()>>r.IntN(32)&0xff)*byte(r.IntN(2)))
			}
		}
		texts = append(texts, text[:size])
		total += int64(size)
	}
	return texts, total
}

func BenchmarkMatch(b *testing.B) {
	texts, total := payloads()
	for _, pattern := range []string{
		`allegro|example\.net`, `allegr[o,a]|HTTP`, `allegr[o,a]|HTTQ`, `(?i)allegro|http`, `(?i)allegro|httq`, `[a-z]+allegro`, `[A-Z]{5,}[0-9]{4,}\.exe`, `\x16\x03[\x00-\x03].{2}\x01`,
		`allegro`, `Host: [^\r]*\.net`, `[a-z]{3}[0-9]{3}[a-z]{3}`, `\d{7}`, `(?i)[a-z]{20}`, `(?s)[ab].{20}[xyz][^a-q]{3}\d`,
	} {
		b.Run(pattern, func(b *testing.B) {
			re, err := Compile(pattern)
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(total)
			b.ReportAllocs()
			hits := 0
			for b.Loop() {
				hits = 0
				for _, text := range texts {
					if re.Match(text) {
						hits++
					}
				}
			}
			b.ReportMetric(float64(hits), "hits/op")
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(texts)), "ns/payload")
		})
	}
}

// BenchmarkShort is the price of a call.
func BenchmarkShort(b *testing.B) {
	re, err := Compile(`allegr[o,a]|HTTP`)
	if err != nil {
		b.Fatal(err)
	}
	for _, size := range []int{8, 32, 64, 128} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			text := make([]byte, size)
			b.SetBytes(int64(size))
			for b.Loop() {
				re.Match(text)
			}
		})
	}
}
