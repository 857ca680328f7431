package server

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"galvo/ci/pace"
	"galvo/services/api"
)

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
	for authorization, role := range map[string]string{admin: "admin", "Bearer " + made.Secret: "capture"} {
		if a := w.do("GET", "/api/v1/status", "", "Authorization", authorization); !strings.Contains(a.body, `"role":"`+role+`"`) {
			t.Errorf("the status does not say that one has the role %s: %s", role, a.body)
		}
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

// Tokens that cannot be read are refused, kept aside, and in nobody's way.
func TestDamagedTokens(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens")
	for _, text := range []string{"", "[{", "[1]"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		known := openTokens(path)
		if kept, err := os.ReadFile(path + ".damaged"); err != nil || string(kept) != text || len(known.list()) != 0 {
			t.Errorf("%q: kept %q, %v, %d tokens", text, kept, err, len(known.list()))
		}
		made, err := known.make("x", api.RoleViewer)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := openTokens(path).find(made.Secret); !ok {
			t.Errorf("%q: a new token is not known", text)
		}
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

// A password that was set or was right is not hashed again, and a change of it is noticed.
func TestRecall(t *testing.T) {
	path := filepath.Join(t.TempDir(), "users")
	u, err := openUsers(path, password, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := u.recall("admin", password); !ok {
		t.Error("not recalled after it was set")
	}
	if u, err = openUsers(path, "", io.Discard); err != nil {
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
	guess := func() {
		for range 100 {
			fail("192.0.2.1:1", "admin")
		}
	}
	guess()
	for key, want := range map[string]time.Duration{"a192.0.2.1/32": longestDelay, "uadmin": longestDelay, "a192.0.2.2/32": 0, "uother": 0} {
		if got := l.delay(key); got != want {
			t.Errorf("%s waits %s, want %s", key, got, want)
		}
	}
	pace.Within(t, longestDelay+time.Second, func() time.Duration {
		guess()
		begun := time.Now()
		if !l.enter(t.Context(), "198.51.100.1:1", "admin") {
			t.Fatal("the right user is locked out")
		}
		l.leave("198.51.100.1:1", "admin", true)
		return time.Since(begun)
	})
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
	round := 0
	pace.Within(t, time.Second, func() time.Duration {
		var guesses sync.WaitGroup
		var mu sync.Mutex
		seen := map[int]int{}
		for i := range 40 {
			guesses.Go(func() {
				a := w.do("GET", "/api/v1/captures", "", "Authorization", basic("admin", fmt.Sprint("guess", round, i)))
				mu.Lock()
				seen[a.status]++
				mu.Unlock()
			})
		}
		begun := time.Now()
		a := w.do("GET", "/api/v1/captures", "", "Authorization", basic("admin", password))
		took := time.Since(begun)
		if a.status != 200 {
			t.Errorf("the right user: %d", a.status)
		}
		guesses.Wait()
		if seen[401] == 0 || seen[429] == 0 || seen[401]+seen[429] != 40 {
			t.Errorf("guesses were answered %v", seen)
		}
		round++
		return took
	})
}

// Many requests at once with the right password, before it is known to be right, are one attempt, and so are many with the same wrong one.
func TestRightAtOnce(t *testing.T) {
	w := newWeb(t, echo)
	for _, c := range []struct {
		password string
		status   int
	}{{password, 200}, {"wrong", 401}} {
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() {
				if a := w.do("GET", "/api/v1/captures", "", "Authorization", basic("admin", c.password)); a.status != c.status {
					t.Errorf("%d %s, want %d", a.status, a.body, c.status)
				}
			})
		}
		all.Wait()
	}
}
