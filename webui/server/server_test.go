package server

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"galvo/ci/pace"
	"galvo/services/api"
	"galvo/services/config"
)

func TestMain(m *testing.M) { os.Exit(pace.Main(m)) }

const password = "open sesame"

// A web is a running server with an engine and a host service that are played by functions.
type web struct {
	testing.TB
	address string
	client  *http.Client
	options Options
	engine  http.HandlerFunc
	stop    func()

	mu      sync.Mutex
	out     strings.Builder
	network api.Network // what the host service says
}

func (w *web) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.out.Write(b)
}

func newWeb(t testing.TB, engine http.HandlerFunc) *web {
	t.Helper()
	dir := t.TempDir()
	w := &web{TB: t, engine: engine, options: Options{State: dir, Run: dir, Password: password, Version: "test"}}
	w.options.Page = fstest.MapFS{"index.html": {Data: []byte("<title>Galvo</title>")}, "app.js": {Data: []byte("1")}}
	w.options.Stdout = w
	w.network = api.Network{Name: "lab", Addresses: []string{"192.0.2.7", "fe80::7"}, Problems: []string{"no DHCP server answers"}}
	w.service(api.ServiceHost, func(rw http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case api.GetNetwork.Path:
			w.mu.Lock()
			defer w.mu.Unlock()
			json.NewEncoder(rw).Encode(w.network)
		case api.ResetConfig.Path:
			body, _ := io.ReadAll(r.Body)
			fmt.Fprintf(w, "reset %s\n", bytes.TrimSpace(body))
		default:
			c := config.Default()
			c.Device.Name = "lab"
			rw.Write(c.Encode())
		}
	})
	if engine != nil {
		w.service(api.ServiceEngine, func(rw http.ResponseWriter, r *http.Request) {
			if r.URL.Path == api.ListPorts.Path {
				fmt.Fprint(rw, `[{"id":1,"name":"eth1","state":"up"},{"id":2,"name":"eth2","state":"absent","reason":"no such link"}]`)
				return
			}
			engine(rw, r)
		})
	}
	w.start()
	return w
}

// service plays a service.
func (w *web) service(s api.Service, h http.HandlerFunc) {
	w.Helper()
	path := api.SocketPath(w.options.Run, s)
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		w.Fatal(err)
	}
	l, err := api.Listen(path, os.Getuid())
	if err != nil {
		w.Fatal(err)
	}
	server := &http.Server{Handler: h}
	done := make(chan struct{})
	go func() { defer close(done); server.Serve(l) }()
	w.Cleanup(func() { server.Close(); <-done })
}

func (w *web) start() {
	w.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.Fatal(err)
	}
	w.address, w.options.Listeners = l.Addr().String(), []net.Listener{l}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, w.options) }()
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}
	w.client = &http.Client{Transport: transport}
	w.stop = sync.OnceFunc(func() {
		transport.CloseIdleConnections()
		cancel()
		if err := <-ended; err != nil && !errors.Is(err, errReset) {
			w.Error(err)
		}
	})
	w.Cleanup(w.stop)
}

// An answer is a reply that was read to its end.
type answer struct {
	status int
	header http.Header
	body   string
}

// do sends a request; headers are name and value in turn.
func (w *web) do(method, path, body string, headers ...string) answer {
	w.Helper()
	req, err := http.NewRequest(method, "https://"+w.address+path, strings.NewReader(body))
	if err != nil {
		w.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			req.Host = headers[i+1]
		}
		req.Header.Set(headers[i], headers[i+1])
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := w.client.Do(req)
	if err != nil {
		w.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		w.Fatalf("%s %s: %v", method, path, err)
	}
	return answer{resp.StatusCode, resp.Header, string(b)}
}

func basic(user, password string) string {
	r := &http.Request{Header: http.Header{}}
	r.SetBasicAuth(user, password)
	return r.Header.Get("Authorization")
}

// echo is an engine that says what it was asked.
func echo(w http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	json.NewEncoder(w).Encode(map[string]string{
		"method": r.Method, "path": r.URL.Path, "query": r.URL.RawQuery, "user": r.Header.Get("Galvo-User"), "client": r.Header.Get("Galvo-Client"),
		"secrets": r.Header.Get("Authorization") + r.Header.Get("Cookie"), "body": string(b),
	})
}

// Every route is let in, or not, as its row says, by every way of logging in.
func TestRoles(t *testing.T) {
	w := newWeb(t, echo)
	admin := basic("admin", password)
	ways := map[api.Role]string{api.RoleAdmin: admin}
	for _, role := range []api.Role{api.RoleViewer, api.RoleCapture} {
		var made api.Token
		a := w.do("POST", "/api/v1/tokens", fmt.Sprintf(`{"name":"t","role":%q}`, role), "Authorization", admin)
		if err := json.Unmarshal([]byte(a.body), &made); err != nil || a.status != 201 {
			t.Fatalf("make a token: %d %s %v", a.status, a.body, err)
		}
		ways[role] = "Bearer " + made.Secret
	}
	for _, route := range api.Routes() {
		if route.Path == api.Login.Path || route.Path == api.Logout.Path {
			continue
		}
		path := strings.NewReplacer("{id}", "none").Replace(route.Path)
		if a := w.do(route.Method, path, ""); a.status != 401 || !strings.Contains(a.body, `"kind":"unauthenticated"`) {
			t.Errorf("%s %s without a login: %d %s", route.Method, path, a.status, a.body)
		}
		for role, header := range ways {
			a := w.do(route.Method, path, "", "Authorization", header)
			if may := role.Includes(route.Role); may == (a.status == 403) || a.status == 401 {
				t.Errorf("%s %s as %s: %d %s", route.Method, path, role, a.status, a.body)
			}
		}
	}
}

func TestRefusals(t *testing.T) {
	w := newWeb(t, echo)
	admin := basic("admin", password)
	session := w.login()
	tests := []struct {
		name, method, path string
		headers            []string
		status             int
		kind               string
	}{
		{"unknown path", "GET", "/api/v1/nonsense", nil, 404, "not_found"},
		{"unknown path of the reference", "GET", "/API/nonsense", nil, 404, "not_found"},
		{"case of the capture URL", "GET", "/api/data/modules/capture", nil, 404, "not_found"},
		{"empty part of a path", "POST", "/api/v1/storage/data/files/a//b", []string{"Authorization", admin}, 400, "bad_request"},
		{"dots in a path", "POST", "/api/v1/storage/data/files/../../x", []string{"Authorization", admin}, 400, "bad_request"},
		{"path above the top", "GET", "/api/../api/v1/status", nil, 400, "bad_request"},
		{"wrong method", "PATCH", "/api/v1/captures", nil, 405, "wrong_method"},
		{"HEAD, which would start a capture", "HEAD", "/API/data/modules/capture", nil, 405, "wrong_method"},
		{"compressed body", "POST", "/api/v1/captures", []string{"Authorization", admin, "Content-Encoding", "gzip"}, 400, "bad_request"},
		{"wrong password", "GET", "/api/v1/status", []string{"Authorization", basic("admin", "wrong")}, 401, "unauthenticated"},
		{"wrong user", "GET", "/api/v1/status", []string{"Authorization", basic("nobody", password)}, 401, "unauthenticated"},
		{"wrong token", "GET", "/api/v1/status", []string{"Authorization", "Bearer galvo_x_y"}, 401, "unauthenticated"},
		{"wrong scheme", "GET", "/api/v1/status", []string{"Authorization", "Digest x"}, 401, "unauthenticated"},
		{"wrong cookie", "GET", "/api/v1/status", []string{"Cookie", cookieName + "=x"}, 401, "unauthenticated"},
		{"cookie at another name", "GET", "/api/v1/status", []string{"Cookie", session, "Host", "evil.example"}, 403, "forbidden"},
		{"cookie at the device's name", "GET", "/api/v1/status", []string{"Cookie", session, "Host", "lab.example.com:8443"}, 200, ""},
		{"cookie at an IPv6 address", "GET", "/api/v1/status", []string{"Cookie", session, "Host", "[2001:db8::1]:8443"}, 200, ""},
		{"POST from another site", "POST", "/api/v1/system/restart-processing", []string{"Cookie", session, "Sec-Fetch-Site", "cross-site"}, 403, "forbidden"},
		{"POST with a remembered password from another site", "POST", "/api/v1/captures", []string{"Authorization", admin, "Origin", "https://evil.example"}, 403, "forbidden"},
		{"capture URL from another site", "GET", "/API/data/modules/capture", []string{"Cookie", session, "Sec-Fetch-Site", "cross-site"}, 403, "forbidden"},
		{"capture URL from another origin of the site", "GET", "/API/data/modules/capture", []string{"Authorization", admin, "Sec-Fetch-Site", "same-site"}, 403, "forbidden"},
		{"capture URL typed in", "GET", "/API/data/modules/capture", []string{"Authorization", admin, "Sec-Fetch-Site", "none"}, 200, ""},
		{"capture URL by curl", "GET", "/API/data/modules/capture", []string{"Authorization", admin}, 200, ""},
	}
	for _, test := range tests {
		a := w.do(test.method, test.path, "", test.headers...)
		if a.status != test.status || test.kind != "" && test.method != "HEAD" && !strings.Contains(a.body, `"kind":"`+test.kind+`"`) {
			t.Errorf("%s: %d %s, want %d %s", test.name, a.status, a.body, test.status, test.kind)
		}
		if test.status == 405 && a.header.Get("Allow") == "" {
			t.Errorf("%s: no Allow header", test.name)
		}
		if a.header.Get("Content-Security-Policy") == "" {
			t.Errorf("%s: no content policy", test.name)
		}
	}
}

// login opens a session and returns its cookie.
func (w *web) login() string {
	w.Helper()
	a := w.do("POST", "/api/v1/login", fmt.Sprintf(`{"user":"admin","password":%q}`, password))
	cookie, attributes, _ := strings.Cut(a.header.Get("Set-Cookie"), "; ")
	if a.status/100 != 2 || !strings.HasPrefix(cookie, cookieName+"=") {
		w.Fatalf("login: %d %s %v", a.status, a.body, a.header)
	}
	for _, want := range []string{"Secure", "HttpOnly", "SameSite=Strict", "Path=/"} {
		if !strings.Contains(attributes, want) {
			w.Errorf("the cookie is not %s: %s", want, attributes)
		}
	}
	return cookie
}

func TestStatus(t *testing.T) {
	w := newWeb(t, echo)
	a := w.do("GET", "/api/v1/status", "", "Authorization", basic("admin", password))
	var s api.Status
	if err := json.Unmarshal([]byte(a.body), &s); err != nil || len(s.Services) != 3 || len(s.Problems) != 2 || s.Problems[0] != "No DHCP server answers." ||
		!strings.Contains(s.Problems[1], "Port 2 (eth2) is absent: no such link") || s.Name != "lab" || s.Network.Addresses[0] != "192.0.2.7" {
		t.Errorf("status: %d %s %v", a.status, a.body, err)
	}
	if leaf := w.leaf(); s.Fingerprint != strings.ReplaceAll(fmt.Sprintf("% X", sha256.Sum256(leaf.Raw)), " ", ":") {
		t.Errorf("fingerprint %s", s.Fingerprint)
	}
}

// leaf returns the certificate that a client sees.
func (w *web) leaf() *x509.Certificate {
	w.Helper()
	c, err := tls.Dial("tcp", w.address, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		w.Fatal(err)
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0]
}

// The certificate follows the device's name and addresses, without anybody who asks for the status.
func TestPortProblems(t *testing.T) {
	port := func(id int, state, reason string) api.Port {
		return api.Port{ID: id, Name: fmt.Sprintf("eth%d", id), State: state, Reason: reason}
	}
	var many []api.Port
	for i := range 64 {
		many = append(many, port(i+1, "absent", "no such link"))
	}
	for _, c := range []struct {
		ports []api.Port
		want  []string
	}{
		{[]api.Port{port(1, "up", "")}, nil},
		{[]api.Port{port(1, "up", ""), port(2, "down", "")}, []string{"Port 2 (eth2) is down"}},
		{[]api.Port{port(1, "down", "no carrier"), port(2, "up", "slow"), port(3, "down", "no carrier")},
			[]string{"Ports 1 (eth1) and 3 (eth3) are down: no carrier", "Port 2 (eth2) is up: slow"}},
		{many[:5], []string{"Ports 1 (eth1), 2 (eth2), 3 (eth3), 4 (eth4) and 5 (eth5) are absent: no such link"}},
		{many, []string{"Ports 1 (eth1), 2 (eth2), 3 (eth3), 4 (eth4) and 60 more are absent: no such link"}},
	} {
		if got := portProblems(c.ports); !slices.Equal(got, c.want) {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

func TestCertificateFollows(t *testing.T) {
	w := newWeb(t, echo)
	if leaf := w.leaf(); leaf.VerifyHostname("lab.local") != nil || leaf.VerifyHostname("192.0.2.7") != nil || len(leaf.IPAddresses) != 3 {
		t.Errorf("names %v %v", leaf.DNSNames, leaf.IPAddresses)
	}
	w.mu.Lock()
	w.network.Name, w.network.Port, w.network.Addresses = "galvo-0001", "eth0", []string{"198.51.100.1", "fe80::1"}
	w.mu.Unlock()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		leaf := w.leaf()
		if leaf.VerifyHostname("galvo-0001.local") == nil && leaf.VerifyHostname("198.51.100.1") == nil && leaf.VerifyHostname("fe80::1") == nil && leaf.VerifyHostname("lab") != nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("names %v %v", leaf.DNSNames, leaf.IPAddresses)
		}
	}
}

// A factory reset keeps what is named, and else begins again as at a first start.
func TestFactoryReset(t *testing.T) {
	w := newWeb(t, echo)
	reset := func(body string) answer {
		return w.do("POST", api.FactoryReset.Path, body, "Authorization", basic("admin", password), "Content-Type", "application/json")
	}
	if a := reset(`{"keep":["users","management"]}`); a.status != 204 {
		t.Errorf("%+v", a)
	}
	users := filepath.Join(w.options.State, usersFile)
	if _, err := os.Stat(users); err != nil {
		t.Error(err)
	}
	if a := reset(`{}`); a.status != 204 {
		t.Errorf("%+v", a)
	}
	w.stop()
	if _, err := os.Stat(users); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the users are left: %v", err)
	}
	if said := w.out.String(); !strings.Contains(said, `reset {"keep":["management"]}`) || !strings.Contains(said, "reset {}") {
		t.Errorf("the host service was asked %q", said)
	}
}

func TestDescription(t *testing.T) {
	w := newWeb(t, echo)
	a := w.do("GET", api.OpenAPIPath, "", "Authorization", basic("admin", password))
	var doc struct{ Paths map[string]any }
	if err := json.Unmarshal([]byte(a.body), &doc); err != nil || doc.Paths[api.Login.Path] == nil {
		t.Errorf("%d %v %.200s", a.status, err, a.body)
	}
}

func TestPage(t *testing.T) {
	w := newWeb(t, echo)
	a := w.do("GET", "/", "")
	if a.status != 200 || !strings.Contains(a.body, "Galvo") || a.header.Get("Cache-Control") != "no-cache" || !strings.HasPrefix(a.header.Get("Content-Type"), "text/html") {
		t.Errorf("%+v", a)
	}
	if again := w.do("GET", "/", "", "If-None-Match", a.header.Get("ETag")); again.status != 304 || again.body != "" {
		t.Errorf("again: %+v", again)
	}
	if a := w.do("GET", "/app.js", ""); a.status != 200 || !strings.Contains(a.header.Get("Content-Type"), "javascript") {
		t.Errorf("script: %+v", a)
	}
	for _, path := range []string{"/nonsense", "/.keep", "/../users", "/users"} {
		if a := w.do("GET", path, ""); a.status != 404 {
			t.Errorf("%s: %d", path, a.status)
		}
	}
	w.stop()
	w.options.Page = fstest.MapFS{".keep": {}}
	w.start()
	if a := w.do("GET", "/", ""); a.status != 200 || !strings.Contains(a.body, "make web") {
		t.Errorf("without a bundle: %+v", a)
	}
}

func TestCertificate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "certificate.pem")
	open := func(now time.Time, names ...string) *certificates {
		t.Helper()
		c, err := openCertificates(path, names)
		if err != nil {
			t.Fatal(err)
		}
		c.now = func() time.Time { return now }
		return c
	}
	leaf := func(c *certificates) string {
		t.Helper()
		pair, err := c.get()
		if err != nil {
			t.Fatal(err)
		}
		return pair.Leaf.SerialNumber.String()
	}
	now := time.Now()
	c := open(now, "lab", "lab.local", "localhost", "192.0.2.1", "::1")
	first := leaf(c)
	cert, _ := c.get()
	for _, name := range []string{"lab", "lab.local", "localhost", "192.0.2.1", "::1"} {
		if err := cert.Leaf.VerifyHostname(name); err != nil {
			t.Error(err)
		}
	}
	if !cert.Leaf.NotBefore.Before(now) {
		t.Error("the certificate is not valid yet")
	}
	if got := leaf(open(now, "lab", "192.0.2.1")); got != first {
		t.Error("the certificate does not outlive the process")
	}
	if got := leaf(open(now.Add(certificateLife*2/3-48*time.Hour), "lab")); got != first {
		t.Error("the certificate was renewed too early")
	}
	if got := leaf(open(now.Add(certificateLife*2/3), "lab")); got == first {
		t.Error("the certificate was not renewed")
	}
	other := leaf(open(now, "lab", "203.0.113.9"))
	if other == first {
		t.Error("a missing address did not make a new certificate")
	}
	c = open(now, "lab")
	c.require([]string{"bench"})
	if leaf(c) == other {
		t.Error("a new name did not make a new certificate")
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the key's file: %v, %v", st, err)
	}
}

func TestOldTLS(t *testing.T) {
	w := newWeb(t, echo)
	c, err := tls.Dial("tcp", w.address, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS11})
	if err == nil {
		c.Close()
		t.Error("TLS 1.1 is spoken")
	}
}

// A client of HTTP/1.0 that says so when the connection begins, as curl -0 does, is answered like others.
func TestOldHTTP(t *testing.T) {
	w := newWeb(t, echo)
	for _, protocol := range []string{"", "http/1.0", "http/1.1"} {
		config := &tls.Config{InsecureSkipVerify: true}
		if protocol != "" {
			config.NextProtos = []string{protocol}
		}
		c, err := tls.Dial("tcp", w.address, config)
		if err != nil {
			t.Errorf("%q: %v", protocol, err)
			continue
		}
		fmt.Fprintf(c, "GET /api/v1/status HTTP/1.0\r\n\r\n")
		if r, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || r.StatusCode != http.StatusUnauthorized {
			t.Errorf("%q: %v, %v", protocol, r, err)
		}
		c.Close()
	}
}

// Whatever is sent, the server answers, and never with a failure of its own.
func FuzzRequest(f *testing.F) {
	dir := f.TempDir()
	s, err := newServer(f.Context(), Options{State: dir, Run: dir, Password: password, Stdout: io.Discard})
	if err != nil {
		f.Fatal(err)
	}
	f.Add("GET", "/API/data/modules/capture?expression=a&&b", "Basic YTpi", "__Host-galvo=x", "localhost")
	f.Add("POST", "/api/v1/login", "", "", "evil.example:1")
	f.Add("DELETE", "/api/v1/tokens/x", "Bearer galvo_a_b", "a=b", "[::1]")
	f.Fuzz(func(t *testing.T, method, target, authorization, cookies, host string) {
		text := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: %s\r\nAuthorization: %s\r\nCookie: %s\r\n\r\n", method, target, host, authorization, cookies)
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(text)))
		if err != nil {
			return
		}
		// Passwords are hashed, which takes too long here; what comes before is looked at.
		if _, _, ok := r.BasicAuth(); ok {
			return
		}
		r.RemoteAddr = "192.0.2.1:1"
		w := &recorder{header: http.Header{}}
		s.ServeHTTP(w, r)
		if w.status >= 500 {
			t.Errorf("%q is answered with %d", text, w.status)
		}
	})
}

type recorder struct {
	header http.Header
	status int
}

func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) Write(b []byte) (int, error) { return len(b), nil }
func (r *recorder) WriteHeader(status int) {
	if r.status != 0 {
		panic(errors.New("answered twice"))
	}
	r.status = status
}
