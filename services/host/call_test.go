package host

import (
	"io"
	"net/http"
	"strings"
)

func plainCall(t http.RoundTripper, method, path, body string) (int, string, error) {
	req, err := http.NewRequest(method, "http://host"+path, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/toml")
	}
	resp, err := t.RoundTrip(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}
