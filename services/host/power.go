package host

import (
	"context"

	"galvo/services/api"
)

// askInit asks init on an appliance for something.
func (s *service) askInit(ctx context.Context, command string) (string, error) {
	return api.AskInit(ctx, s.init, command)
}

func (s *service) reboot(ctx context.Context, _ *api.Nothing) (*api.Nothing, error) {
	_, err := s.askInit(ctx, "reboot")
	return nil, err
}

func (s *service) poweroff(ctx context.Context, _ *api.Nothing) (*api.Nothing, error) {
	_, err := s.askInit(ctx, "poweroff")
	return nil, err
}

func (s *service) getLog(ctx context.Context, in *api.LogInput) (*api.TextReply, error) {
	text, err := s.askInit(ctx, "log "+in.Service)
	if err != nil {
		return nil, err
	}
	return &api.TextReply{ContentType: "text/plain; charset=utf-8", Body: []byte(text)}, nil
}
