package host

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"strings"
	"syscall"
	"time"

	"galvo/services/api"
)

// An initCommand asks init on an appliance for something.
type initCommand struct {
	path string // of init's socket
}

// do sends one line and returns what init answers.
func (i initCommand) do(ctx context.Context, line string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", i.path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return "", &api.Error{Text: "this is a program on a machine that it does not own: an appliance can be switched off and started again from here", Kind: api.NotSupported}
	}
	if err != nil {
		return "", fmt.Errorf("ask init: %w", err)
	}
	defer c.Close()
	deadline, _ := ctx.Deadline()
	c.SetDeadline(deadline)
	if _, err := fmt.Fprintln(c, line); err != nil {
		return "", fmt.Errorf("ask init: %w", err)
	}
	in := bufio.NewReader(c)
	first, err := in.ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("ask init: %w", err)
	}
	if why, refused := strings.CutPrefix(first, "error "); refused {
		return "", &api.Error{Text: strings.TrimSpace(why), Kind: api.NotFound}
	}
	text, err := io.ReadAll(in)
	if err != nil {
		return "", fmt.Errorf("ask init: %w", err)
	}
	return string(text), nil
}

func (s *service) reboot(ctx context.Context, _ *api.Nothing) (*api.Nothing, error) {
	_, err := s.init.do(ctx, "reboot")
	return nil, err
}

func (s *service) poweroff(ctx context.Context, _ *api.Nothing) (*api.Nothing, error) {
	_, err := s.init.do(ctx, "poweroff")
	return nil, err
}

func (s *service) getLog(ctx context.Context, in *api.LogInput) (*api.TextReply, error) {
	text, err := s.init.do(ctx, "log "+in.Service)
	if err != nil {
		return nil, err
	}
	return &api.TextReply{ContentType: "text/plain; charset=utf-8", Body: []byte(text)}, nil
}
