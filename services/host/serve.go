package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"

	"galvo/services/api"
	"galvo/services/config"
)

// A service answers the host's part of the route table.
type service struct {
	store   *config.Store
	keeper  *keeper
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

func (s *service) getMemory(context.Context, *api.Nothing) (*api.Reply[api.Memory], error) {
	total, err := machineMemory()
	if err != nil {
		return nil, err
	}
	c := s.store.Current()
	share := total / 100 * uint64(c.Engine.MemoryPercent)
	captures, held := uint64(c.Captures.Max)*c.Captures.QueueBytes, uint64(c.Captures.Max)*c.Captures.HoldBytes
	return &api.Reply[api.Memory]{Body: api.Memory{Total: total, Parts: []api.MemoryPart{
		{Name: "system", Want: total - share, Bytes: total - share},
		{Name: "captures", Want: captures, Bytes: min(captures, share/2)},
		{Name: "held packets", Want: held, Bytes: min(held, share/8)},
	}}}, nil
}

// machineMemory returns the bytes of memory that the machine has.
func machineMemory() (uint64, error) {
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, fmt.Errorf("read the size of memory: %w", err)
	}
	for _, line := range strings.Split(string(b), "\n") {
		if f := strings.Fields(line); len(f) >= 2 && f[0] == "MemTotal:" {
			kib, err := strconv.ParseUint(f[1], 10, 64)
			return kib * 1024, err
		}
	}
	return 0, errors.New("read the size of memory: /proc/meminfo has no MemTotal")
}
