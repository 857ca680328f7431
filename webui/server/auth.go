package server

import (
	"context"
	"log/slog"
	"net/http"
	"strings"

	"galvo/services/api"
)

// Longer names and passwords are wrong without being hashed.
const (
	maxUserName = 64
	maxPassword = 1024
)

// challenge is what a program or a browser that was not let in is asked for.
var challenge = []string{`Basic realm="Galvo", charset="UTF-8"`, `Bearer realm="Galvo"`}

func wrongLogin(text string) *api.Error {
	return &api.Error{Text: text, Kind: api.Unauthenticated}
}

// authenticate returns who asks: by token, password, or the page's cookie, in this order. What is given and wrong is not overlooked for something
// else that is right.
func (s *server) authenticate(r *http.Request) (caller, *api.Error) {
	if h := r.Header.Get("Authorization"); h != "" {
		scheme, value, _ := strings.Cut(h, " ")
		if strings.EqualFold(scheme, "Bearer") {
			return s.byToken(r, strings.TrimSpace(value))
		}
		name, password, ok := r.BasicAuth()
		if !ok {
			return caller{}, wrongLogin("the Authorization header is neither Basic nor Bearer")
		}
		u, err := s.login(r.Context(), r.RemoteAddr, name, password)
		if err != nil {
			return caller{}, err
		}
		return caller{u.Name, u.Role, r.RemoteAddr}, nil
	}
	if c, err := r.Cookie(cookieName); err == nil {
		return s.bySession(r, c.Value)
	}
	return caller{}, wrongLogin("log in with user and password, or send a token as Authorization: Bearer")
}

func (s *server) byToken(r *http.Request, text string) (caller, *api.Error) {
	t, ok := s.tokens.find(text)
	if !ok {
		slog.Warn("a token was refused", "client", r.RemoteAddr)
		return caller{}, wrongLogin("the token is not known, or was revoked")
	}
	return caller{"token " + t.Name, t.Role, r.RemoteAddr}, nil
}

func (s *server) bySession(r *http.Request, secret string) (caller, *api.Error) {
	name, hash, ok := s.sessions.find(secret)
	u, known := s.users.find(name)
	if !ok || !known || u.Hash != hash {
		return caller{}, wrongLogin("the session has ended: log in again")
	}
	if e := s.checkHost(r); e != nil {
		return caller{}, e
	}
	return caller{u.Name, u.Role, r.RemoteAddr}, nil
}

// login returns the user whose name and password these are.
func (s *server) login(ctx context.Context, client, name, password string) (user, *api.Error) {
	if u, ok := s.users.recall(name, password); ok {
		return u, nil
	}
	// Many requests at once with one password are one attempt: a script that begins with 64 captures is no guesser.
	digest := s.users.digest(name, password)
	attempt := s.attempts.DoChan(network(client)+string(digest[:]), func() (any, error) {
		u, e := s.attempt(context.WithoutCancel(ctx), client, name, password) // it is not only for who came first
		return outcome{u, e}, nil
	})
	select {
	case a := <-attempt:
		o := a.Val.(outcome)
		return o.user, o.err
	case <-ctx.Done():
		return user{}, api.ErrorOf(ctx.Err())
	}
}

// An outcome is that of an attempt to log in.
type outcome struct {
	user user
	err  *api.Error
}

// attempt verifies a password, as soon as the limiter lets it.
func (s *server) attempt(ctx context.Context, client, name, password string) (user, *api.Error) {
	if u, ok := s.users.recall(name, password); ok { // by an attempt that has just ended
		return u, nil
	}
	if len(name) > maxUserName {
		name = name[:maxUserName]
	}
	if !s.limiter.enter(ctx, client, name) {
		return user{}, &api.Error{Text: "too many logins were tried from here: wait a few seconds and try again", Kind: api.TooManyLogins}
	}
	right := false
	defer func() { s.limiter.leave(client, name, right) }()
	if len(password) > maxPassword {
		return user{}, wrongLogin("the user or the password is wrong")
	}
	u, right, err := s.users.verify(ctx, name, password)
	switch {
	case err != nil:
		return user{}, api.ErrorOf(err)
	case !right:
		slog.Warn("a login failed", "user", name, "client", client)
		return user{}, wrongLogin("the user or the password is wrong")
	}
	slog.Info("login", "user", u.Name, "client", client)
	return u, nil
}

// refuse answers a request that is not let in. The page's own requests get no challenge, or else the browser would ask with a dialog of its own.
func refuse(w http.ResponseWriter, r *http.Request, e *api.Error) {
	ownPage := r.Header.Get("X-Requested-With") != "" || r.Header.Get("Sec-Fetch-Dest") == "empty"
	if e.Kind == api.Unauthenticated && !ownPage {
		w.Header()["Www-Authenticate"] = challenge
	}
	if e.Kind == api.TooManyLogins {
		w.Header().Set("Retry-After", retryAfterSec)
	}
	api.WriteError(w, e)
}

// openSession answers the login of the page.
func (s *server) openSession(ctx context.Context, in *api.LoginInput) (*api.CookieReply, error) {
	u, err := s.login(ctx, in.Client, in.Body.User, in.Body.Password)
	if err != nil {
		return nil, err
	}
	return &api.CookieReply{SetCookie: cookie(s.sessions.start(u)).String()}, nil
}

func (s *server) endSession(_ context.Context, in *api.LogoutInput) (*api.CookieReply, error) {
	if list, err := http.ParseCookie(in.Cookie); err == nil {
		for _, c := range list {
			if c.Name == cookieName {
				s.sessions.end(c.Value)
			}
		}
	}
	return &api.CookieReply{SetCookie: cookie("").String()}, nil
}
