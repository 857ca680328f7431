package server

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/singleflight"

	"galvo/services/api"
	"galvo/webui/mdns"
)

// A server answers requests from the network.
type server struct {
	options      Options
	started      time.Time
	users        *users
	tokens       *tokens
	sessions     *sessions
	limiter      *limiter
	attempts     singleflight.Group // to log in, by network, name and password
	certificates *certificates
	forward      *forward
	device       *device
	names        *mdns.Responder // nil where the device is not found by its name
	own          http.Handler    // this service's part of the route table
	mux          *http.ServeMux
	crossOrigin  *http.CrossOriginProtection
	failed       chan error // what ends the process
}

func newServer(ctx context.Context, o Options) (*server, error) {
	s := &server{options: o, started: time.Now(), failed: make(chan error, 1+len(o.Listeners)), sessions: openSessions(filepath.Join(o.State, sessionsFile)), limiter: newLimiter(), forward: newForward(o.Run), crossOrigin: http.NewCrossOriginProtection()}
	var err error
	if s.users, err = openUsers(filepath.Join(o.State, usersFile), o.Password, o.Stdout); err != nil {
		return nil, err
	}
	s.tokens = openTokens(filepath.Join(o.State, tokensFile))
	if o.Names4 != nil || o.Names6 != nil {
		s.names = mdns.New(o.Names4, o.Names6)
	}
	s.device = newDevice(s)
	s.device.await(ctx, o.Patience)
	if s.certificates, err = openCertificates(filepath.Join(o.State, certificateFile), s.device.certificateNames()); err != nil {
		return nil, err
	}
	s.own = s.ownHandler()
	s.mux = s.routes()
	return s, nil
}

// routes makes the mux of the route table. Methods are told apart behind it, so that a wrong one is answered as the API answers.
func (s *server) routes() *http.ServeMux {
	table := map[string]map[string]api.Route{}
	for _, r := range api.Routes() {
		if table[r.Path] == nil {
			table[r.Path] = map[string]api.Route{}
		}
		table[r.Path][r.Method] = r
	}
	mux := http.NewServeMux()
	for pattern, methods := range table {
		mux.Handle(pattern, s.endpoint(methods))
	}
	for _, below := range []string{"/api", "/api/", "/API", "/API/"} {
		mux.HandleFunc(below, func(w http.ResponseWriter, r *http.Request) {
			api.WriteError(w, &api.Error{Text: "there is nothing at " + r.URL.Path + ": see " + api.OpenAPIPath, Kind: api.NotFound})
		})
	}
	mux.Handle("/", servePage(s.options.Page))
	return mux
}

// securityHeaders are on every reply.
var securityHeaders = map[string]string{
	"X-Content-Type-Options":       "nosniff",
	"Referrer-Policy":              "no-referrer",
	"Cross-Origin-Opener-Policy":   "same-origin",
	"Cross-Origin-Resource-Policy": "same-origin",
	"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; font-src 'self'; " +
		"worker-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'",
}

// ServeHTTP answers one request.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	for k, v := range securityHeaders {
		w.Header().Set(k, v)
	}
	maps.DeleteFunc(r.Header, func(name string, _ []string) bool { return strings.HasPrefix(name, "Galvo-") })
	if short, is := shortest(r.URL.EscapedPath()); !is && strings.HasPrefix(strings.ToLower(short), "/api/") {
		// The mux would redirect, and a client that uploads and follows no redirects would not know that nothing was done.
		api.WriteError(w, &api.Error{Text: "the path has empty parts, . or ..: write " + short, Kind: api.BadRequest})
		return
	}
	s.mux.ServeHTTP(w, r)
}

// shortest returns a path without empty parts, . and .., and whether it is so already.
func shortest(p string) (short string, is bool) {
	short = path.Clean("/" + p)
	if strings.HasSuffix(p, "/") && short != "/" {
		short += "/"
	}
	return short, short == p
}

// endpoint answers the requests of one path.
func (s *server) endpoint(methods map[string]api.Route) http.Handler {
	if get, ok := methods[http.MethodGet]; ok && !get.Stream {
		methods[http.MethodHead] = get
	}
	allow := strings.Join(slices.Sorted(maps.Keys(methods)), ", ")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		route, ok := methods[r.Method]
		defer takeBody(r).drain(w)
		if !route.Upload {
			r.Body = http.MaxBytesReader(w, r.Body, maxRequestBytes)
		}
		if !ok {
			w.Header().Set("Allow", allow)
			api.WriteError(w, &api.Error{Text: fmt.Sprintf("%s takes %s, not %s", r.URL.Path, allow, r.Method), Kind: api.WrongMethod, Expected: strings.Split(allow, ", ")})
			return
		}
		c, e := s.admit(route, r)
		if e == nil {
			e = plainBody(r)
		}
		if e != nil {
			refuse(w, r, e)
			return
		}
		s.dispatch(route, c, w, r)
	})
}

// plainBody says what is wrong with a body that is compressed on its way: it would be taken, or stored, as it is.
func plainBody(r *http.Request) *api.Error {
	if encoding := r.Header.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return &api.Error{Text: fmt.Sprintf("the body has the Content-Encoding %s: send it without", encoding), Kind: api.BadRequest}
	}
	return nil
}

// admit returns for whom the request is answered, or why it is not.
func (s *server) admit(route api.Route, r *http.Request) (caller, *api.Error) {
	if e := s.checkOrigin(route, r); e != nil {
		return caller{}, e
	}
	if route.Role == api.RoleNone {
		return caller{client: r.RemoteAddr}, s.checkHost(r)
	}
	c, e := s.authenticate(r)
	if e != nil {
		return caller{}, e
	}
	if !c.role.Includes(route.Role) {
		return caller{}, &api.Error{Text: fmt.Sprintf("this needs the role %s; %s has the role %s", route.Role, c.user, c.role), Kind: api.Forbidden}
	}
	return c, nil
}

// checkOrigin refuses what another site made a browser send, with its cookie or a password that it remembers. A GET that starts or fetches a capture does
// something, so it is refused too.
func (s *server) checkOrigin(route api.Route, r *http.Request) *api.Error {
	err := s.crossOrigin.Check(r)
	site := r.Header.Get("Sec-Fetch-Site")
	if err == nil && (route.Role == api.RoleViewer || site == "" || site == "same-origin" || site == "none") {
		return nil
	}
	return &api.Error{Text: "this request comes from the page of another site", Kind: api.Forbidden}
}

// checkHost refuses a name that another site could have pointed at this device. Addresses, short names and .local names are out of its reach.
func (s *server) checkHost(r *http.Request) *api.Error {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.ToLower(strings.Trim(host, "[]")), ".")
	first, rest, _ := strings.Cut(host, ".")
	if net.ParseIP(host) != nil || rest == "" || rest == "local" || rest == "localhost" || first == strings.ToLower(s.device.name()) {
		return nil
	}
	return &api.Error{
		Text: fmt.Sprintf("%s is not a name of this device: use its address, or a name that begins with the configured device name, %s", host, s.device.name()),
		Kind: api.Forbidden,
	}
}

// maxLoggedQuery is how many bytes of a query are written down: expressions may have 64 KiB.
const maxLoggedQuery = 1024

// dispatch lets the service of the route answer, and writes down what was done with more than a viewer's rights.
func (s *server) dispatch(route api.Route, c caller, w http.ResponseWriter, r *http.Request) {
	r = r.WithContext(withCaller(r.Context(), c))
	if route.Role != api.RoleViewer && route.Role != api.RoleNone {
		begun := time.Now()
		counted := &statusWriter{ResponseWriter: w}
		w = counted
		audit := slog.With("user", c.user, "client", c.client, "method", r.Method, "path", r.URL.Path, "query", r.URL.RawQuery[:min(len(r.URL.RawQuery), maxLoggedQuery)])
		if route.Stream && r.Method == http.MethodGet {
			audit.Info("stream asked for")
		}
		defer func() {
			looked := r.Method == http.MethodGet || r.Method == http.MethodHead
			if looked && counted.status == http.StatusOK && w.Header().Get("Content-Type") == "application/json" {
				return // the page looks at lists of files every few seconds
			}
			audit.Info("request", "status", counted.status, "bytes", counted.bytes, "seconds", time.Since(begun).Seconds())
		}()
	}
	if route.Service == api.ServiceWeb {
		for h, v := range callerHeaders(r.Context()) {
			r.Header[h] = v
		}
		s.own.ServeHTTP(w, r)
		return
	}
	s.forward.serve(route.Service, s.device.stall(), w, r)
}

// A statusWriter remembers what was answered.
type statusWriter struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(b)
	w.bytes += int64(n)
	return n, err
}

func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
