package host

import (
	"context"
	"log/slog"
	"strings"

	"galvo/services/api"
	"galvo/services/config"
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

// openConfig opens the configuration. An appliance must be reached whatever became of the file: it takes a former one in its place, and says so on the page.
func openConfig(ctx context.Context, o Options) (*config.Store, error) {
	if !o.Appliance {
		if lost := config.Lost(o.Config); lost != "" {
			slog.Warn("the configuration begins with its defaults: copy the former one to its place if that was not meant", "reason", lost)
		}
		return config.Open(o.Config)
	}
	store, why, err := config.Recover(o.Config)
	if why != "" {
		slog.Error("the configuration was damaged", "reason", why)
		if _, err := api.AskInit(ctx, api.InitPath, "problem configuration The configuration was damaged: "+strings.Join(strings.Fields(why), " ")+"."); err != nil {
			slog.Warn("init does not take the problem", "error", err)
		}
	}
	return store, err
}
