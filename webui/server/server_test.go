package server

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"go.uber.org/goleak"

	"galvo/services/api"
	"galvo/services/config"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const password = "open sesame"

// A web is a running server with an engine and a host service that are played by functions.
type web struct {
	testing.TB
	address string
	client  *http.Client
	options Options
	engine  http.HandlerFunc
	stop    func()

	mu  sync.Mutex
	out strings.Builder
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
	w.service(api.ServiceHost, func(rw http.ResponseWriter, r *http.Request) {
		c := config.Default()
		c.Device.Name = "lab"
		rw.Write(c.Encode())
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
		if err := <-ended; err != nil {
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
		{"wrong method", "PATCH", "/api/v1/captures", nil, 405, "wrong_method"},
		{"HEAD, which would start a capture", "HEAD", "/API/data/modules/capture", nil, 405, "wrong_method"},
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

func TestSession(t *testing.T) {
	w := newWeb(t, echo)
	c := w.login()
	if a := w.do("GET", "/api/v1/captures", "", "Cookie", c); a.status != 200 || !strings.Contains(a.body, `"user":"admin"`) || !strings.Contains(a.body, `"secrets":""`) {
		t.Errorf("with a cookie: %d %s", a.status, a.body)
	}
	w.stop()
	w.start()
	if a := w.do("GET", "/api/v1/captures", "", "Cookie", c); a.status != 200 {
		t.Errorf("the session ended with the service: %d %s", a.status, a.body)
	}
	if b, err := os.ReadFile(filepath.Join(w.options.State, "sessions")); err != nil || strings.Contains(string(b), strings.TrimPrefix(c, cookieName+"=")) {
		t.Errorf("the secret is on disk, or nothing is: %v", err)
	}
	if a := w.do("POST", "/api/v1/logout", "", "Cookie", c); a.status/100 != 2 || !strings.Contains(a.header.Get("Set-Cookie"), "Max-Age=0") {
		t.Errorf("logout: %d %s %s", a.status, a.body, a.header)
	}
	if a := w.do("GET", "/api/v1/captures", "", "Cookie", c); a.status != 401 {
		t.Errorf("after logout: %d", a.status)
	}
	if a := w.do("POST", "/api/v1/login", `{"user":"admin","password":"wrong"}`); a.status != 401 || a.header.Get("Set-Cookie") != "" {
		t.Errorf("wrong password: %d %v", a.status, a.header)
	}
}

func TestSessionsEnd(t *testing.T) {
	s := openSessions(filepath.Join(t.TempDir(), "sessions"))
	now := time.Now()
	s.now = func() time.Time { return now }
	secret := s.start(user{Name: "admin", Hash: "x"})
	for range 14 { // used every 12 hours
		now = now.Add(sessionIdle)
		if _, _, ok := s.find(secret); !ok {
			t.Fatal("a session in use ended")
		}
	}
	now = now.Add(time.Hour)
	if _, _, ok := s.find(secret); ok {
		t.Error("a session lives longer than a week")
	}
	secret = s.start(user{Name: "admin", Hash: "x"})
	now = now.Add(sessionIdle + time.Second)
	if _, _, ok := s.find(secret); ok {
		t.Error("an idle session lives on")
	}
	for range maxSessions + 10 {
		s.open[secretHash(fmt.Sprint(len(s.open)))] = &session{Used: now, Made: now}
		s.clean()
	}
	if len(s.open) > maxSessions {
		t.Errorf("%d sessions", len(s.open))
	}
}

// Programs are challenged; the page's own requests are not, since the browser would put up a dialog of its own.
func TestChallenge(t *testing.T) {
	w := newWeb(t, echo)
	a := w.do("GET", "/API/data/modules/capture", "")
	if got := a.header.Values("Www-Authenticate"); len(got) != 2 || !strings.HasPrefix(got[0], "Basic realm=") || !strings.HasPrefix(got[1], "Bearer") {
		t.Errorf("challenge %q", got)
	}
	for _, headers := range [][]string{{"X-Requested-With", "galvo"}, {"Sec-Fetch-Dest", "empty"}} {
		if a := w.do("GET", "/api/v1/status", "", headers...); a.status != 401 || a.header.Get("Www-Authenticate") != "" {
			t.Errorf("%v: %d %v", headers, a.status, a.header)
		}
	}
}

func TestTokens(t *testing.T) {
	w := newWeb(t, echo)
	admin := basic("admin", password)
	var made api.Token
	a := w.do("POST", "/api/v1/tokens", `{"name":"probe","role":"capture"}`, "Authorization", admin)
	if err := json.Unmarshal([]byte(a.body), &made); err != nil || made.Secret == "" {
		t.Fatalf("%v %+v", err, a)
	}
	list := w.do("GET", "/api/v1/tokens", "", "Authorization", admin)
	if !strings.Contains(list.body, `"name":"probe"`) || strings.Contains(list.body, "secret") {
		t.Errorf("list: %s", list.body)
	}
	stored, err := os.ReadFile(filepath.Join(w.options.State, "tokens"))
	if err != nil || strings.Contains(string(stored), made.Secret[len(made.Secret)-20:]) {
		t.Errorf("the secret is on disk, or nothing is: %v", err)
	}
	w.stop()
	w.start() // tokens outlive the process
	if a := w.do("GET", "/api/v1/captures", "", "Authorization", "Bearer "+made.Secret); a.status != 200 || !strings.Contains(a.body, `"user":"token probe"`) {
		t.Errorf("with the token: %d %s", a.status, a.body)
	}
	if a := w.do("DELETE", "/api/v1/tokens/"+made.ID, "", "Authorization", admin); a.status/100 != 2 {
		t.Errorf("revoke: %d %s", a.status, a.body)
	}
	if a := w.do("GET", "/api/v1/captures", "", "Authorization", "Bearer "+made.Secret); a.status != 401 {
		t.Errorf("with the revoked token: %d", a.status)
	}
	if a := w.do("POST", "/api/v1/tokens", `{"name":"x","role":"root"}`, "Authorization", admin); a.status/100 != 4 {
		t.Errorf("a token with an unknown role: %d %s", a.status, a.body)
	}
}

// The query arrives at the engine byte for byte, and what web says of the caller cannot be said from outside.
func TestForward(t *testing.T) {
	w := newWeb(t, echo)
	for _, query := range []string{
		"expression=ip==1.2.3.4&&port==80", "expression=a;b", "expression=a+b%20c", "expression=%zz&x", "", "?=&&&=", "expression=%C3%A4|x^{}`\"<>",
	} {
		c, err := tls.Dial("tcp", w.address, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(c, "GET /API/data/modules/capture?%s HTTP/1.1\r\nHost: localhost\r\nAuthorization: %s\r\nGalvo-User: root\r\ngalvo-client: 8.8.8.8:1\r\nConnection: close\r\n\r\n", query, basic("admin", password))
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		var got map[string]string
		if err := json.NewDecoder(resp.Body).Decode(&got); err != nil {
			t.Fatal(err)
		}
		c.Close()
		if got["query"] != query || got["user"] != "admin" || got["client"] != c.LocalAddr().String() || got["secrets"] != "" {
			t.Errorf("%q arrives as %v", query, got)
		}
	}
	a := w.do("POST", "/api/v1/captures", `{"expression":"x"}`, "Authorization", basic("admin", password))
	if !strings.Contains(a.body, `"body":"{\"expression\":\"x\"}"`) {
		t.Errorf("the body arrives as %s", a.body)
	}
	large := w.do("POST", "/api/v1/captures", strings.Repeat(" ", maxRequestBytes+1), "Authorization", basic("admin", password))
	if large.status != 413 || !strings.Contains(large.body, `"kind":"too_large"`) {
		t.Errorf("a large request: %d %s", large.status, large.body)
	}
}

func TestEngineDown(t *testing.T) {
	w := newWeb(t, nil)
	admin := basic("admin", password)
	a := w.do("GET", "/api/v1/captures", "", "Authorization", admin)
	if a.status != 503 || !strings.Contains(a.body, `"kind":"unavailable"`) {
		t.Errorf("without an engine: %d %s", a.status, a.body)
	}
	a = w.do("GET", "/api/v1/status", "", "Authorization", admin)
	var s api.Status
	if err := json.Unmarshal([]byte(a.body), &s); err != nil || s.State != "degraded" || len(s.Problems) == 0 || s.Name != "lab" {
		t.Errorf("status: %d %s %v", a.status, a.body, err)
	}
}

func TestStatus(t *testing.T) {
	w := newWeb(t, echo)
	a := w.do("GET", "/api/v1/status", "", "Authorization", basic("admin", password))
	var s api.Status
	if err := json.Unmarshal([]byte(a.body), &s); err != nil || len(s.Services) != 3 || len(s.Problems) != 1 || !strings.Contains(s.Problems[0], "Port 2 (eth2) is absent: no such link") {
		t.Errorf("status: %d %s %v", a.status, a.body, err)
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

// A client that goes away ends the engine's request at once; one that only stands still keeps it.
func TestClients(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("h2=%t", h2), func(t *testing.T) {
			gone := make(chan time.Time, 1)
			w := newWeb(t, func(rw http.ResponseWriter, r *http.Request) {
				block := make([]byte, 64<<10)
				for {
					if _, err := rw.Write(block); err != nil || r.Context().Err() != nil {
						gone <- time.Now()
						return
					}
				}
			})
			transport := w.client.Transport.(*http.Transport)
			transport.ForceAttemptHTTP2 = h2
			if !h2 {
				transport.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			req, err := http.NewRequestWithContext(ctx, "GET", "https://"+w.address+api.CaptureURLPath, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.SetBasicAuth("admin", password)
			resp, err := w.client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			if want := map[bool]int{false: 1, true: 2}[h2]; resp.ProtoMajor != want {
				t.Fatalf("HTTP/%d, want %d", resp.ProtoMajor, want)
			}
			if _, err := io.ReadFull(resp.Body, make([]byte, 1<<20)); err != nil {
				t.Fatal(err)
			}
			select {
			case <-gone:
				t.Fatal("a client that stands still was given up")
			case <-time.After(300 * time.Millisecond):
			}
			// Reading goes on where it stood.
			if _, err := io.ReadFull(resp.Body, make([]byte, 8<<20)); err != nil {
				t.Fatal(err)
			}
			closed := time.Now()
			cancel()
			resp.Body.Close()
			select {
			case at := <-gone:
				t.Logf("the engine noticed after %s", at.Sub(closed))
			case <-time.After(2 * time.Second):
				t.Error("the engine did not notice that the client is gone")
			}
		})
	}
}

// A client that takes nothing for as long as is set is given up, and so is the engine's request.
func TestStall(t *testing.T) {
	gone := make(chan struct{})
	w := newWeb(t, func(rw http.ResponseWriter, r *http.Request) {
		defer close(gone)
		for block := make([]byte, 64<<10); r.Context().Err() == nil; {
			if _, err := rw.Write(block); err != nil {
				return
			}
		}
	})
	f := newForward(w.options.Run)
	defer f.close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	front := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		f.serve(api.ServiceEngine, 300*time.Millisecond, rw, r)
	})}
	served := make(chan error, 1)
	go func() { served <- front.Serve(l) }()
	defer func() { front.Close(); <-served }()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	begun := time.Now()
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", api.CaptureURLPath)
	select {
	case <-gone:
		if took := time.Since(begun); took < 300*time.Millisecond {
			t.Errorf("given up after %s", took)
		}
	case <-time.After(10 * time.Second):
		t.Error("a client that takes nothing is kept")
	}
}

// What an engine that dies in the middle sent does not look whole.
func TestEngineDiesInAStream(t *testing.T) {
	w := newWeb(t, func(rw http.ResponseWriter, r *http.Request) {
		rw.Write(make([]byte, 1000))
		http.NewResponseController(rw).Flush()
		panic(http.ErrAbortHandler)
	})
	req, _ := http.NewRequest("GET", "https://"+w.address+api.CaptureURLPath, nil)
	req.SetBasicAuth("admin", password)
	resp, err := w.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); err == nil {
		t.Errorf("%d bytes were read to a proper end", len(b))
	}
}

// BenchmarkStream is a download through TLS and the unix socket, all three processes' work in one.
func BenchmarkStream(b *testing.B) {
	const size = 64 << 20
	for _, h2 := range []bool{false, true} {
		b.Run(fmt.Sprintf("h2=%t", h2), func(b *testing.B) {
			block := make([]byte, 256<<10)
			w := newWeb(b, func(rw http.ResponseWriter, r *http.Request) {
				for range size / len(block) {
					rw.Write(block)
				}
			})
			transport := w.client.Transport.(*http.Transport)
			if transport.ForceAttemptHTTP2 = h2; !h2 {
				transport.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
			}
			b.SetBytes(size)
			for b.Loop() {
				req, err := http.NewRequestWithContext(b.Context(), "GET", "https://"+w.address+api.CaptureURLPath, nil)
				if err != nil {
					b.Fatal(err)
				}
				req.SetBasicAuth("admin", password)
				resp, err := w.client.Do(req)
				if err != nil {
					b.Fatal(err)
				}
				if n, err := io.Copy(io.Discard, resp.Body); n != size || err != nil {
					b.Fatal(n, err)
				}
				resp.Body.Close()
			}
		})
	}
}

func TestFirstPassword(t *testing.T) {
	dir := t.TempDir()
	var out strings.Builder
	path := filepath.Join(dir, "users")
	u, err := openUsers(path, "", &out)
	if err != nil {
		t.Fatal(err)
	}
	_, made, ok := strings.Cut(strings.TrimSpace(out.String()), "first login: user admin, password ")
	if !ok || len(made) < 20 {
		t.Fatalf("printed %q", out.String())
	}
	if _, right, err := u.verify(t.Context(), "admin", made); !right || err != nil {
		t.Errorf("the printed password is wrong: %v", err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	out.Reset()
	if u, err = openUsers(path, "", &out); err != nil || out.Len() > 0 {
		t.Errorf("the second start prints %q, %v", out.String(), err)
	}
	if _, right, _ := u.verify(t.Context(), "admin", made); !right {
		t.Error("the password changed")
	}
	if u, err = openUsers(path, "other", &out); err != nil {
		t.Fatal(err)
	}
	if _, right, _ := u.verify(t.Context(), "admin", "other"); !right {
		t.Error("the password that was given does not hold")
	}
	if _, right, _ := u.verify(t.Context(), "admin", made); right {
		t.Error("the former password still holds")
	}
}

// A password that was right is not hashed again, and a change of it is noticed.
func TestRecall(t *testing.T) {
	u, err := openUsers(filepath.Join(t.TempDir(), "users"), password, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := u.recall("admin", password); ok {
		t.Error("recalled before it was verified")
	}
	if _, right, err := u.verify(t.Context(), "admin", password); !right || err != nil {
		t.Fatal(right, err)
	}
	if _, ok := u.recall("admin", password); !ok {
		t.Error("not recalled")
	}
	if _, ok := u.recall("admin", password+"x"); ok {
		t.Error("another password was recalled")
	}
	if err := u.setPassword("admin", "new"); err != nil {
		t.Fatal(err)
	}
	if _, ok := u.recall("admin", password); ok {
		t.Error("the former password was recalled")
	}
}

// Guessing is slowed down by address and by name; the right password gets in all the same, soon, and at once if it was right before.
func TestLimiter(t *testing.T) {
	l := newLimiter()
	now := time.Unix(1e9, 0)
	l.now = func() time.Time { return now }
	fail := func(address, name string) {
		l.waiting[network(address)]++
		l.all++
		l.leave(address, name, false)
	}
	for range 100 {
		fail("192.0.2.1:1", "admin")
	}
	for key, want := range map[string]time.Duration{"a192.0.2.1/32": longestDelay, "uadmin": longestDelay, "a192.0.2.2/32": 0, "uother": 0} {
		if got := l.delay(key); got != want {
			t.Errorf("%s waits %s, want %s", key, got, want)
		}
	}
	begun := time.Now()
	if !l.enter(t.Context(), "198.51.100.1:1", "admin") {
		t.Fatal("the right user is locked out")
	}
	l.leave("198.51.100.1:1", "admin", true)
	if took := time.Since(begun); took > longestDelay+time.Second {
		t.Errorf("the right user waited %s", took)
	}
	if got := l.delay("uadmin"); got != 0 {
		t.Errorf("after a right password the name waits %s", got)
	}
	now = now.Add(forgetAfter + time.Second)
	if got := l.delay("a192.0.2.1/32"); got != 0 {
		t.Errorf("after a quarter of an hour the address waits %s", got)
	}
	for i := range maxTracked + 100 {
		fail(fmt.Sprintf("[2001:db8:%x::1]:1", i), "x")
	}
	if len(l.failures) > maxTracked || len(l.waiting) != 0 || l.all != 0 {
		t.Errorf("%d failures, %d waiting, %d in all", len(l.failures), len(l.waiting), l.all)
	}
	if network("[2001:db8::1]:1") != network("[2001:db8::2]:9") || network("[::ffff:192.0.2.1]:1") != "192.0.2.1/32" {
		t.Error("one network counts as several")
	}
}

// Many wrong guesses at once neither stop the right user nor take all memory.
func TestGuessing(t *testing.T) {
	w := newWeb(t, echo)
	if a := w.do("GET", "/api/v1/captures", "", "Authorization", basic("admin", password)); a.status != 200 {
		t.Fatal(a.status)
	}
	var guesses sync.WaitGroup
	var mu sync.Mutex
	seen := map[int]int{}
	for i := range 40 {
		guesses.Go(func() {
			a := w.do("GET", "/api/v1/captures", "", "Authorization", basic("admin", fmt.Sprint("guess", i)))
			mu.Lock()
			seen[a.status]++
			mu.Unlock()
		})
	}
	begun := time.Now()
	a := w.do("GET", "/api/v1/captures", "", "Authorization", basic("admin", password))
	if took := time.Since(begun); a.status != 200 || took > time.Second {
		t.Errorf("the right user: %d after %s", a.status, took)
	}
	guesses.Wait()
	if seen[401] == 0 || seen[429] == 0 || seen[401]+seen[429] != 40 {
		t.Errorf("guesses were answered %v", seen)
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
	c.require("bench")
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

// Whatever is sent, the server answers, and never with a failure of its own.
func FuzzRequest(f *testing.F) {
	dir := f.TempDir()
	s, err := newServer(Options{State: dir, Run: dir, Password: password, Stdout: io.Discard})
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
