package host

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"strings"
	"sync"

	"galvo/services/api"
	"galvo/services/config"
)

// A service answers the host's part of the route table.
type service struct {
	store    *config.Store
	keeper   *keeper
	storage  *storage
	trial    *trial
	version  string
	init     string // path of the socket of an appliance's init
	firmware firmware

	putting sync.Mutex // held from looking at the current configuration until it is replaced
}

func (s *service) handler() http.Handler {
	mux := http.NewServeMux()
	a := api.New(mux, s.version)
	api.GetConfig.Handle(a, s.getConfig)
	api.PutConfig.Handle(a, s.putConfig)
	api.CheckConfig.Handle(a, s.checkConfig)
	api.ConfirmConfig.Handle(a, s.confirmConfig)
	api.ExportConfig.Handle(a, s.exportConfig)
	api.ImportConfig.Handle(a, s.importConfig)
	api.ResetConfig.Handle(a, s.resetConfig)
	api.ListGenerations.Handle(a, s.listGenerations)
	api.GetGeneration.Handle(a, s.getGeneration)
	api.RestoreGeneration.Handle(a, s.restoreGeneration)
	api.GetNetwork.Handle(a, s.getNetwork)
	api.GetMemory.Handle(a, s.getMemory)
	api.RestartProcessing.Handle(a, s.restartProcessing)
	api.ListStorage.Handle(a, s.listStorage)
	api.ActivateStorage.Handle(a, s.activateStorage)
	api.DeactivateStorage.Handle(a, s.deactivateStorage)
	api.FormatStorage.Handle(a, s.formatStorage)
	api.GetFirmware.Handle(a, s.firmware.get)
	mux.HandleFunc("POST "+api.FirmwarePath, s.firmware.install)
	api.Reboot.Handle(a, s.reboot)
	api.Poweroff.Handle(a, s.poweroff)
	api.GetLog.Handle(a, s.getLog)
	return mux
}

func (s *service) getConfig(context.Context, *api.Nothing) (*api.TextReply, error) {
	text := s.store.Current().Encode()
	reply := tomlReply(text)
	reply.ETag = tagOf(text)
	return reply, nil
}

// tagOf returns the entity tag of a configuration (RFC 9110, 8.8.3).
func tagOf(text []byte) string {
	sum := sha256.Sum256(text)
	return `"` + hex.EncodeToString(sum[:12]) + `"`
}

// checkMatch refuses to replace a configuration that is not the one that the caller has seen.
func (s *service) checkMatch(tags string) error {
	current := tagOf(s.store.Current().Encode())
	for tag := range strings.SplitSeq(tags, ",") {
		if tag = strings.TrimSpace(tag); tag == "" || tag == "*" || tag == current {
			return nil
		}
	}
	return &api.Error{Kind: api.Changed, Text: "the configuration was changed meanwhile: read it again, and change that one"}
}

func tomlReply(text []byte) *api.TextReply {
	return &api.TextReply{ContentType: "application/toml", Body: text}
}

func (s *service) putConfig(_ context.Context, in *api.ConfigText) (*api.Reply[api.ConfigCheck], error) {
	c, err := s.parse(in.RawBody)
	if err != nil {
		return nil, err
	}
	s.putting.Lock()
	defer s.putting.Unlock()
	if err := s.checkMatch(in.IfMatch); err != nil {
		return nil, err
	}
	return s.replace(c)
}

// replace makes c the configuration.
func (s *service) replace(c *config.Config) (*api.Reply[api.ConfigCheck], error) {
	check, err := s.check(c)
	if err != nil {
		return nil, err
	}
	s.storage.poke()
	left, err := s.trial.replace(c)
	var invalid *config.Error
	if errors.As(err, &invalid) {
		return nil, badConfig(err)
	}
	if err != nil {
		return nil, err
	}
	check.ConfirmSeconds = int(left.Seconds())
	s.keeper.poke()
	return &api.Reply[api.ConfigCheck]{Body: *check}, nil
}

// check says what c changes, and how memory would be shared out.
func (s *service) check(c *config.Config) (*api.ConfigCheck, error) {
	plan, err := s.keeper.planMemory(c)
	if err != nil {
		// What the engine could not start with is not taken.
		return nil, badConfig(err)
	}
	memory := memoryReply(plan, nil)
	return &api.ConfigCheck{Changes: config.Diff(s.store.Current(), c), Memory: &memory}, nil
}

func (s *service) checkConfig(_ context.Context, in *api.Text) (*api.Reply[api.ConfigCheck], error) {
	c, err := s.parse(in.RawBody)
	var check *api.ConfigCheck
	if err == nil {
		check, err = s.check(c)
	}
	if err != nil {
		check = &api.ConfigCheck{Changes: []api.ConfigChange{}, Error: api.ErrorOf(err)}
	}
	return &api.Reply[api.ConfigCheck]{Body: *check}, nil
}

// parse returns the configuration in text, or an *api.Error whose position is the line that is wrong.
func (s *service) parse(text []byte) (*config.Config, error) {
	c, err := config.Parse(text)
	if err == nil {
		return c, nil
	}
	out := badConfig(err)
	var e *config.Error
	if errors.As(err, &e) && e.Line > 0 {
		lines := bytes.SplitAfter(text, []byte("\n"))
		for _, l := range lines[:min(e.Line-1, len(lines))] {
			out.Pos += len(l)
		}
		if e.Line <= len(lines) {
			out.Len = len(bytes.TrimRight(lines[e.Line-1], "\r\n"))
		}
	}
	return nil, out
}

// badConfig is err as an error of the configuration.
func badConfig(err error) *api.Error {
	return &api.Error{Text: err.Error(), Kind: api.BadConfig, Expected: []string{}}
}

func (s *service) restartProcessing(ctx context.Context, _ *api.Nothing) (*api.Nothing, error) {
	select {
	case s.keeper.restart <- "asked for":
		return nil, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (s *service) listStorage(context.Context, *api.Nothing) (*api.Reply[api.StorageList], error) {
	return &api.Reply[api.StorageList]{Body: api.StorageList{Devices: s.storage.list()}}, nil
}

func (s *service) activateStorage(ctx context.Context, in *api.ActivateInput) (*api.Reply[api.Storage], error) {
	var how api.ActivateRequest
	if in.Body != nil {
		how = *in.Body
	}
	d, err := s.storage.activate(ctx, in.ID, how)
	return &api.Reply[api.Storage]{Body: d}, err
}

func (s *service) deactivateStorage(ctx context.Context, in *api.StopInput) (*api.Reply[api.Storage], error) {
	d, err := s.storage.deactivate(ctx, in.ID)
	return &api.Reply[api.Storage]{Body: d}, err
}

func (s *service) formatStorage(_ context.Context, in *api.FormatInput) (*api.Reply[api.Storage], error) {
	d, err := s.storage.format(in.ID, in.Body)
	return &api.Reply[api.Storage]{Body: d}, err
}
