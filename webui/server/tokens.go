package server

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"galvo/services/api"
	"galvo/services/durable"
)

const (
	tokenPrefix = "galvo_"
	maxTokens   = 1000
)

// A token as it is kept: its secret is long and random, so a plain hash hides it.
type token struct {
	ID      string   `json:"id"`
	Name    string   `json:"name"`
	Role    api.Role `json:"role"`
	Hash    string   `json:"hash"` // SHA-256 of the secret, in hex
	Created int64    `json:"created"`
	Used    int64    `json:"used,omitempty"`
}

// tokens let programs in.
type tokens struct {
	path string

	mu    sync.Mutex
	known []token
}

// openTokens reads the tokens of the file at path. One that cannot be read is set aside and costs the tokens in it, and nothing else: whoever has a password makes
// new ones.
func openTokens(path string) *tokens {
	t := &tokens{path: path}
	if err := readJSON(path, &t.known); err != nil {
		t.known = nil
		aside, err2 := durable.SetAside(path)
		slog.Error("the tokens cannot be read: none is valid any more", "kept as", aside, "error", errors.Join(err, err2))
	}
	return t
}

// make returns a new token with its secret.
func (t *tokens) make(name string, role api.Role) (*api.Token, error) {
	if !role.Valid() {
		return nil, &api.Error{Text: "the role is viewer, capture or admin", Kind: api.BadRequest}
	}
	if strings.ContainsFunc(name, unicode.IsControl) {
		return nil, &api.Error{Text: "the name of a token has no control characters", Kind: api.BadRequest}
	}
	id, secret := strings.ToLower(rand.Text()[:8]), rand.Text()
	hash := sha256.Sum256([]byte(secret))
	next := token{ID: id, Name: name, Role: role, Hash: hex.EncodeToString(hash[:]), Created: time.Now().UnixMicro()}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.known) >= maxTokens {
		return nil, &api.Error{Text: "there are too many tokens: revoke those that nobody uses", Kind: api.Conflict}
	}
	list := append(slices.Clone(t.known), next)
	if err := writeJSON(t.path, list); err != nil {
		return nil, err
	}
	t.known = list
	shown := next.shown()
	shown.Secret = tokenPrefix + id + "_" + secret
	return &shown, nil
}

func (k token) shown() api.Token {
	return api.Token{ID: k.ID, Name: k.Name, Role: k.Role, Created: k.Created, Used: k.Used}
}

// list returns the tokens without their secrets.
func (t *tokens) list() []api.Token {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := []api.Token{}
	for _, k := range t.known {
		list = append(list, k.shown())
	}
	return list
}

// revoke makes a token useless.
func (t *tokens) revoke(id string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := slices.DeleteFunc(slices.Clone(t.known), func(k token) bool { return k.ID == id })
	if len(list) == len(t.known) {
		return &api.Error{Text: "there is no such token", Kind: api.NotFound}
	}
	if err := writeJSON(t.path, list); err != nil {
		return err
	}
	t.known = list
	return nil
}

// find returns the token with a secret.
func (t *tokens) find(text string) (token, bool) {
	rest, ok := strings.CutPrefix(text, tokenPrefix)
	id, secret, ok2 := strings.Cut(rest, "_")
	if !ok || !ok2 {
		return token{}, false
	}
	sum := sha256.Sum256([]byte(secret))
	hash := hex.EncodeToString(sum[:])
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range t.known {
		k := &t.known[i]
		if k.ID == id && subtle.ConstantTimeCompare([]byte(k.Hash), []byte(hash)) == 1 {
			k.Used = time.Now().UnixMicro()
			return *k, true
		}
	}
	return token{}, false
}
