package server

import (
	"fmt"
	"path/filepath"

	"github.com/alexedwards/argon2id"
)

// CheckPassword reports whether a password is that of the user admin, for the rescue console of an appliance. State is this service's directory.
func CheckPassword(state, password string) (bool, error) {
	var known []user
	if err := readJSON(filepath.Join(state, "users"), &known); err != nil {
		return false, err
	}
	for _, k := range known {
		if k.Name == firstUser {
			return argon2id.ComparePasswordAndHash(password, k.Hash)
		}
	}
	return false, fmt.Errorf("there is no user %s yet: the service web makes it at its first start", firstUser)
}
