package server

import (
	"crypto/rand"
	"crypto/sha256"
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

// sessions are the logins of browsers. Only hashes of their secrets are kept.
type sessions struct {
	now func() time.Time

	mu   sync.Mutex
	open map[[32]byte]*session
}

type session struct {
	user       string
	hash       string // of the password when it was opened: a new one ends the session
	made, used time.Time
}

func newSessions() *sessions {
	return &sessions{now: time.Now, open: map[[32]byte]*session{}}
}

// start opens a session and returns its secret.
func (s *sessions) start(u user) string {
	secret := rand.Text()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clean()
	now := s.now()
	s.open[sha256.Sum256([]byte(secret))] = &session{user: u.Name, hash: u.Hash, made: now, used: now}
	return secret
}

// find returns whose session it is.
func (s *sessions) find(secret string) (user, hash string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := s.open[sha256.Sum256([]byte(secret))]
	if found == nil || s.expired(found) {
		return "", "", false
	}
	found.used = s.now()
	return found.user, found.hash, true
}

func (s *sessions) end(secret string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, sha256.Sum256([]byte(secret)))
}

func (s *sessions) expired(x *session) bool {
	now := s.now()
	return now.Sub(x.used) > sessionIdle || now.Sub(x.made) > sessionLife
}

// clean makes room for one session: the one that was unused the longest goes. It needs s.mu.
func (s *sessions) clean() {
	var oldest [32]byte
	for k, x := range s.open {
		if s.expired(x) {
			delete(s.open, k)
		} else if o := s.open[oldest]; o == nil || x.used.Before(o.used) {
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
