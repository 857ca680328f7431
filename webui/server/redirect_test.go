package server

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

// Plain HTTP is sent to the same host and path through TLS, with nothing of the query changed.
func TestRedirect(t *testing.T) {
	for _, test := range []struct{ host, target, port, want string }{
		{"galvo-1234.local", "/", "", "https://galvo-1234.local/"},
		{"10.0.0.1:80", "/API/data/modules/capture?expression=ip==10.0.0.1&&port==1", "", "https://10.0.0.1/API/data/modules/capture?expression=ip==10.0.0.1&&port==1"},
		{"[fe80::1]", "/a%2Fb", "", "https://[fe80::1]/a%2Fb"},
		{"[fe80::1]:80", "/", "8443", "https://[fe80::1]:8443/"},
		{"galvo", "//evil.example/x", "", "https://galvo//evil.example/x"},
	} {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodGet, test.target, nil)
		r.Host = test.host
		redirect(w, r, test.port)
		if got := w.Header().Get("Location"); got != test.want || w.Code != http.StatusPermanentRedirect {
			t.Errorf("%s%s: %d to %q, want %q", test.host, test.target, w.Code, got, test.want)
		}
	}
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Host = ""
	if redirect(w, r, ""); w.Code != http.StatusBadRequest {
		t.Errorf("without a host: %d", w.Code)
	}
}
