package server

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"maps"
	"net/http"
	"sync"
	"time"
)

const (
	// The __Host- prefix makes browsers insist on Secure, the whole path and no other host (RFC 6265bis 4.1.3.2).
	cookieName = "__Host-galvo"

	sessionIdle = 12 * time.Hour
	sessionLife = 7 * 24 * time.Hour
	maxSessions = 1000
)

// sessions are the logins of browsers. Only hashes of their secrets are kept, also in the file that lets them outlive the process.
type sessions struct {
	path string
	now  func() time.Time

	mu   sync.Mutex
	open map[string]*session // by the SHA-256 of the secret, in hex
}

type session struct {
	User string    `json:"user"`
	Hash string    `json:"hash"` // of the password when it was opened: a new one ends the session
	Made time.Time `json:"made"`
	Used time.Time `json:"used"` // on disk as of the last login or logout of anybody
}

// openSessions reads the sessions of the file at path. One that cannot be read costs the logins in it, and nothing else.
func openSessions(path string) *sessions {
	s := &sessions{path: path, now: time.Now, open: map[string]*session{}}
	if err := readJSON(path, &s.open); err != nil {
		slog.Warn("the sessions cannot be read: all have to log in again", "error", err)
		s.open = map[string]*session{}
	}
	maps.DeleteFunc(s.open, func(_ string, x *session) bool { return x == nil })
	return s
}

func secretHash(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// save needs s.mu.
func (s *sessions) save() {
	if err := writeJSON(s.path, s.open); err != nil {
		slog.Warn("the sessions will not outlive the service", "error", err)
	}
}

// start opens a session and returns its secret.
func (s *sessions) start(u user) string {
	secret := rand.Text()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clean()
	now := s.now()
	s.open[secretHash(secret)] = &session{User: u.Name, Hash: u.Hash, Made: now, Used: now}
	s.save()
	return secret
}

// find returns whose session it is.
func (s *sessions) find(secret string) (user, hash string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := s.open[secretHash(secret)]
	if found == nil || s.expired(found) {
		return "", "", false
	}
	found.Used = s.now()
	return found.User, found.Hash, true
}

func (s *sessions) end(secret string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if hash := secretHash(secret); s.open[hash] != nil {
		delete(s.open, hash)
		s.save()
	}
}

func (s *sessions) expired(x *session) bool {
	now := s.now()
	return now.Sub(x.Used) > sessionIdle || now.Sub(x.Made) > sessionLife
}

// clean makes room for one session: the one that was unused the longest goes. It needs s.mu.
func (s *sessions) clean() {
	oldest := ""
	for k, x := range s.open {
		if s.expired(x) {
			delete(s.open, k)
		} else if o := s.open[oldest]; o == nil || x.Used.Before(o.Used) {
			oldest = k
		}
	}
	if len(s.open) >= maxSessions {
		delete(s.open, oldest)
	}
}

func cookie(secret string) *http.Cookie {
	c := &http.Cookie{Name: cookieName, Value: secret, Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode, MaxAge: int(sessionLife / time.Second)}
	if secret == "" {
		c.MaxAge = -1
	}
	return c
}
