package engine

import (
	"context"
	"net/http"

	"galvo/services/api"
)

func (e *Engine) listRings(context.Context, *api.Nothing) (*api.Reply[api.RingList], error) {
	return &api.Reply[api.RingList]{Body: api.RingList{Rings: e.rings.Views()}}, nil
}

func (e *Engine) makeRing(_ context.Context, in *api.Request[api.RingRequest]) (*api.Created[api.Ring], error) {
	made, err := e.rings.Create(in.Body)
	if err != nil {
		return nil, err
	}
	return &api.Created[api.Ring]{Status: http.StatusCreated, Body: made}, nil
}

func (e *Engine) getRing(_ context.Context, in *api.NameInput) (*api.Reply[api.Ring], error) {
	return answer(e.rings.View(in.Name))
}

func (e *Engine) deleteRing(_ context.Context, in *api.NameInput) (*api.Nothing, error) {
	return nil, e.rings.Delete(in.Name)
}

func (e *Engine) setRules(_ context.Context, in *api.RulesInput) (*api.Reply[api.Ring], error) {
	return answer(e.rings.SetRules(in.Name, in.Body.Rules))
}

func (e *Engine) pinRing(_ context.Context, in *api.PinInput) (*api.Reply[[]api.RingPin], error) {
	return answer(e.rings.Pin(in.Name, in.Body))
}

// answer is the reply to an operation that has a body, or the error.
func answer[T any](body T, err error) (*api.Reply[T], error) {
	if err != nil {
		return nil, err
	}
	return &api.Reply[T]{Body: body}, nil
}
