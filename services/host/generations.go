package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"galvo/services/api"
	"galvo/services/config"
)

func (s *service) confirmConfig(context.Context, *api.Nothing) (*api.Nothing, error) {
	was, err := s.trial.confirm()
	if err == nil && !was {
		err = &api.Error{Text: "there is nothing to confirm: the management settings did not change, or were undone already", Kind: api.Conflict}
	}
	return nil, err
}

func (s *service) listGenerations(context.Context, *api.Nothing) (*api.Reply[[]api.Generation], error) {
	list := []api.Generation{}
	now := s.store.Current()
	for _, g := range s.store.Generations() {
		entry := api.Generation{Number: g.Number, Time: g.Time.UnixMicro(), Changes: []api.ConfigChange{}}
		if g.Config == nil {
			entry.Error = g.Err.Error()
		} else {
			entry.Changes = config.Diff(now, g.Config)
		}
		list = append(list, entry)
	}
	return &api.Reply[[]api.Generation]{Body: list}, nil
}

// generation returns a former configuration.
func (s *service) generation(number int) (*config.Config, error) {
	g, err := s.store.Generation(number)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &api.Error{Text: fmt.Sprintf("there is no generation %d: GET %s lists them", number, api.ListGenerations.Path), Kind: api.NotFound}
	}
	if err != nil {
		return nil, err
	}
	if g.Config == nil {
		return nil, badConfig(g.Err)
	}
	return g.Config, nil
}

func (s *service) getGeneration(_ context.Context, in *api.GenerationInput) (*api.TextReply, error) {
	c, err := s.generation(in.Number)
	if err != nil {
		return nil, err
	}
	return tomlReply(c.Encode()), nil
}

func (s *service) restoreGeneration(_ context.Context, in *api.GenerationInput) (*api.Reply[api.ConfigCheck], error) {
	c, err := s.generation(in.Number)
	if err != nil {
		return nil, err
	}
	return s.replace(c)
}

func (s *service) exportConfig(_ context.Context, in *api.PartsInput) (*api.TextReply, error) {
	text, err := s.store.Current().EncodeParts(in.Parts)
	if err != nil {
		return nil, &api.Error{Text: err.Error(), Kind: api.BadRequest, Expected: config.Parts()}
	}
	return tomlReply(text), nil
}

// importConfig takes the named parts of the configuration in the body, with defaults for what is not there; the others stay. Parts that do not go
// together with those that stay are refused.
func (s *service) importConfig(_ context.Context, in *api.PartsText) (*api.Reply[api.ConfigCheck], error) {
	from, err := s.parse(in.RawBody)
	if err != nil {
		return nil, err
	}
	return s.replaceParts(in.Parts, from)
}

func (s *service) replaceParts(parts []string, from *config.Config) (*api.Reply[api.ConfigCheck], error) {
	c, err := s.store.Current().With(parts, from)
	if err != nil {
		return nil, &api.Error{Text: err.Error(), Kind: api.BadRequest, Expected: config.Parts()}
	}
	if err := c.Validate(); err != nil {
		return nil, badConfig(err)
	}
	return s.replace(c)
}

// resetConfig brings everything back to how it was at a first start, but for the parts to keep.
func (s *service) resetConfig(_ context.Context, in *api.Request[api.Reset]) (*api.Reply[api.ConfigCheck], error) {
	c := config.Default()
	if len(in.Body.Keep) > 0 {
		var err error
		if c, err = c.With(in.Body.Keep, s.store.Current()); err != nil {
			return nil, &api.Error{Text: err.Error(), Kind: api.BadRequest, Expected: config.Parts()}
		}
	}
	if err := c.Validate(); err != nil {
		return nil, badConfig(err)
	}
	check, err := s.check(c)
	if err != nil {
		return nil, err
	}
	if err := s.trial.settle(c); err != nil {
		return nil, err
	}
	s.keeper.poke()
	s.storage.poke()
	return &api.Reply[api.ConfigCheck]{Body: *check}, nil
}
