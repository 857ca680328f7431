package server

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"path/filepath"
	"sync"

	"github.com/alexedwards/argon2id"
	"golang.org/x/crypto/argon2"

	"galvo/services/api"
)

// A user is one who logs in with a password.
type user struct {
	Name string   `json:"name"`
	Role api.Role `json:"role"`
	Hash string   `json:"hash"` // PHC string of argon2id
}

// firstUser is the one that a first start makes.
const firstUser = "admin"

// hashing is what OWASP recommends for argon2id: 19 MiB, two passes.
var hashing = argon2id.Params{Memory: 19 * 1024, Iterations: 2, Parallelism: 1, SaltLength: 16, KeyLength: 32}

// users knows who may log in. A password that was right is remembered by a digest under a key of this process, so that a client which sends it with every
// request pays for the hash once.
type users struct {
	path    string
	key     [32]byte
	decoy   string        // verified in the place of a user that does not exist, so that both take the same time
	hashing chan struct{} // one hash at a time: each takes 19 MiB and a core

	mu    sync.Mutex
	known []user
	right map[string]remembered // by name
}

// remembered is the digest of the password that matched hash.
type remembered struct {
	digest [32]byte
	hash   string
}

// openUsers reads the users of the file at path. If there is none it makes the first one: with password, or with a new one that it prints on out.
// A password that is given replaces that of the first user.
func openUsers(path, password string, out io.Writer) (*users, error) {
	u := &users{path: path, decoy: decoy(), hashing: make(chan struct{}, 1), right: map[string]remembered{}}
	rand.Read(u.key[:])
	if err := readJSON(path, &u.known); err != nil {
		whole, _ := filepath.Abs(path) // the process runs in its part of the state
		return nil, fmt.Errorf("%w: remove %s to begin with a new password", err, cmp.Or(whole, path))
	}
	for _, k := range u.known {
		if _, _, _, err := argon2id.DecodeHash(k.Hash); err != nil || k.Name == "" || !k.Role.Valid() {
			return nil, fmt.Errorf("read %s: the entry of user %q cannot be understood: remove the file to begin with a new password", path, k.Name)
		}
	}
	if len(u.known) > 0 && password == "" {
		return u, nil
	}
	made := password == ""
	if made {
		password = rand.Text()
	}
	if err := u.setPassword(firstUser, password); err != nil {
		return nil, err
	}
	if made {
		fmt.Fprintf(out, "first login: user %s, password %s\n", firstUser, password)
	}
	return u, nil
}

// decoy returns a hash that no password has. It takes as long to compare with as any other, and no time to make.
func decoy() string {
	salt, key := make([]byte, hashing.SaltLength), make([]byte, hashing.KeyLength)
	rand.Read(salt)
	rand.Read(key)
	text := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, hashing.Memory, hashing.Iterations, hashing.Parallelism, text(salt), text(key))
}

// setPassword gives the user, who becomes an administrator if there was none of the name, a password.
func (u *users) setPassword(name, password string) error {
	if old, ok := u.find(name); ok {
		if same, err := argon2id.ComparePasswordAndHash(password, old.Hash); err == nil && same {
			return nil
		}
	}
	hash, err := argon2id.CreateHash(password, &hashing)
	if err != nil {
		return fmt.Errorf("hash a password: %w", err)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	next := user{Name: name, Role: api.RoleAdmin, Hash: hash}
	list := []user{next}
	for _, k := range u.known {
		if k.Name == name {
			list[0].Role = k.Role
			continue
		}
		list = append(list, k)
	}
	if err := writeJSON(u.path, list); err != nil {
		return err
	}
	u.known = list
	u.right[name] = remembered{u.digest(name, password), hash}
	return nil
}

func (u *users) find(name string) (user, bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, k := range u.known {
		if k.Name == name {
			return k, true
		}
	}
	return user{}, false
}

func (u *users) digest(name, password string) [32]byte {
	mac := hmac.New(sha256.New, u.key[:])
	fmt.Fprintf(mac, "%d:%s:%s", len(name), name, password)
	return [32]byte(mac.Sum(nil))
}

// recall reports whether the password was right before, which costs no hash.
func (u *users) recall(name, password string) (user, bool) {
	k, ok := u.find(name)
	if !ok {
		return user{}, false
	}
	digest := u.digest(name, password)
	u.mu.Lock()
	defer u.mu.Unlock()
	r := u.right[name]
	return k, r.hash == k.Hash && hmac.Equal(r.digest[:], digest[:])
}

// verify hashes the password, after those that came before, and reports whether it is the user's. A context that ends while waiting is an error.
func (u *users) verify(ctx context.Context, name, password string) (user, bool, error) {
	select {
	case u.hashing <- struct{}{}:
		defer func() { <-u.hashing }()
	case <-ctx.Done():
		return user{}, false, ctx.Err()
	}
	k, exists := u.find(name)
	hash := k.Hash
	if !exists {
		hash = u.decoy
	}
	same, err := argon2id.ComparePasswordAndHash(password, hash)
	if err != nil {
		return user{}, false, fmt.Errorf("compare the password of %q: %w", name, err)
	}
	if !exists || !same {
		return user{}, false, nil
	}
	digest := u.digest(name, password)
	u.mu.Lock()
	defer u.mu.Unlock()
	u.right[name] = remembered{digest, k.Hash}
	return k, true, nil
}
