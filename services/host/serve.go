package host

import (
	"bytes"
	"context"
	"errors"
	"net/http"

	"galvo/services/api"
	"galvo/services/config"
	"galvo/services/internal/memory"
)

// A service answers the host's part of the route table.
type service struct {
	store   *config.Store
	keeper  *keeper
	storage *storage
	version string
}

func (s *service) handler() http.Handler {
	mux := http.NewServeMux()
	a := api.New(mux, s.version)
	api.GetConfig.Handle(a, s.getConfig)
	api.PutConfig.Handle(a, s.putConfig)
	api.CheckConfig.Handle(a, s.checkConfig)
	api.GetMemory.Handle(a, s.getMemory)
	api.RestartProcessing.Handle(a, s.restartProcessing)
	api.ListStorage.Handle(a, s.listStorage)
	api.ActivateStorage.Handle(a, s.activateStorage)
	api.DeactivateStorage.Handle(a, s.deactivateStorage)
	api.FormatStorage.Handle(a, s.formatStorage)
	return mux
}

func (s *service) getConfig(context.Context, *api.Nothing) (*api.TextReply, error) {
	return &api.TextReply{ContentType: "application/toml", Body: s.store.Current().Encode()}, nil
}

func (s *service) putConfig(_ context.Context, in *api.Text) (*api.Reply[api.ConfigCheck], error) {
	c, err := parse(in.RawBody)
	if err != nil {
		return nil, err
	}
	changes := config.Diff(s.store.Current(), c)
	if err := s.store.Replace(c); err != nil {
		return nil, err
	}
	s.storage.poke()
	s.keeper.poke()
	return &api.Reply[api.ConfigCheck]{Body: api.ConfigCheck{Changes: changes}}, nil
}

func (s *service) checkConfig(_ context.Context, in *api.Text) (*api.Reply[api.ConfigCheck], error) {
	c, err := parse(in.RawBody)
	if err != nil {
		return &api.Reply[api.ConfigCheck]{Body: api.ConfigCheck{Changes: []api.ConfigChange{}, Error: api.ErrorOf(err)}}, nil
	}
	return &api.Reply[api.ConfigCheck]{Body: api.ConfigCheck{Changes: config.Diff(s.store.Current(), c)}}, nil
}

// parse returns the configuration in text, or an *api.Error whose position is the line that is wrong.
func parse(text []byte) (*config.Config, error) {
	c, err := config.Parse(text)
	if err == nil {
		// What the engine could not start with is not taken.
		if _, err := planMemory(c); err != nil {
			return nil, &api.Error{Text: err.Error(), Kind: api.BadConfig, Expected: []string{}}
		}
		return c, nil
	}
	out := &api.Error{Text: err.Error(), Kind: api.BadConfig, Expected: []string{}}
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

func (s *service) getMemory(context.Context, *api.Nothing) (*api.Reply[api.Memory], error) {
	plan, err := planMemory(s.store.Current())
	if err != nil {
		return nil, err
	}
	reply := api.Memory{Total: plan.Total, Parts: []api.MemoryPart{}}
	for _, p := range plan.Parts {
		reply.Parts = append(reply.Parts, api.MemoryPart{Name: p.Name, Want: p.WantBytes, Bytes: p.Bytes, Why: p.Why})
	}
	return &api.Reply[api.Memory]{Body: reply}, nil
}

// planMemory makes the plan that the engine will make of the same configuration.
func planMemory(c *config.Config) (*memory.Plan, error) {
	settings, err := memory.Machine(c)
	if err != nil {
		return nil, err
	}
	return memory.New(settings)
}
