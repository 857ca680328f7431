package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"

	"galvo/services/api"
)

// keepUsers is what a factory reset may keep beside the parts of the configuration.
const keepUsers = "users"

// errReset ends the process after its state was removed: the next one begins as at a first start, and prints the password that it makes.
var errReset = errors.New("the state was removed by a factory reset")

// factoryReset brings the configuration back to its defaults, and removes users, tokens, sessions, certificate, and the list of finished captures.
func (s *server) factoryReset(ctx context.Context, in *api.Request[api.Reset]) (*api.Nothing, error) {
	parts := slices.DeleteFunc(slices.Clone(in.Body.Keep), func(p string) bool { return p == keepUsers })
	host := api.NewClient(api.SocketPath(s.options.Run, api.ServiceHost))
	if err := host.Call(ctx, http.MethodPost, api.ResetConfig.Path, api.Reset{Keep: parts}, nil); err != nil {
		return nil, err
	}
	engine := api.NewClient(api.SocketPath(s.options.Run, api.ServiceEngine))
	// An engine that is down has a list that is removed with the next reset; the settings are what counts.
	_ = engine.Call(ctx, http.MethodDelete, api.DeleteFinished.Path, nil, nil)
	if slices.Contains(in.Body.Keep, keepUsers) {
		return nil, nil
	}
	for _, name := range stateFiles {
		if err := os.Remove(filepath.Join(s.options.State, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("factory reset: %w", err)
		}
	}
	select {
	case s.failed <- errReset:
	default:
	}
	return nil, nil
}

// The files of the process's state.
const (
	usersFile       = "users"
	tokensFile      = "tokens"
	sessionsFile    = "sessions"
	certificateFile = "certificate.pem"
)

var stateFiles = []string{usersFile, tokensFile, sessionsFile, certificateFile}
