package api

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// What a reply says that is not ours is said too, if it reads well.
func TestReadError(t *testing.T) {
	for body, want := range map[string]string{
		"": "400 Bad Request",
		"Client sent an HTTP request to an HTTPS server.\n": "400 Bad Request: Client sent an HTTP request to an HTTPS server.",
		"<html><body>nginx</body></html>":                   "400 Bad Request",
		"\xff\xfe":                                          "400 Bad Request",
		strings.Repeat("x", 1000):                           "400 Bad Request",
		`{"error": "no", "kind": "conflict"}`:               "no",
	} {
		resp := &http.Response{Status: "400 Bad Request", StatusCode: 400, Body: io.NopCloser(strings.NewReader(body))}
		if e := ReadError(resp); e.Text != want {
			t.Errorf("%q: %q, want %q", body, e.Text, want)
		}
	}
}
