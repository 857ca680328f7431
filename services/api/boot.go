package api

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
)

// Where init and the services of an appliance meet. On a host that runs `galvo run` there is none of both.
const (
	// BootPath is the file with a Boot, as JSON, which init writes and everybody may read.
	BootPath = "/run/galvo/boot.json"
	// InitPath is the unix socket where init takes commands of root: one line, such as reboot, poweroff, log engine or problem ABOUT TEXT. It answers
	// with a line that begins with ok or error, and then what was asked for.
	InitPath = "/run/galvo/init"
)

// A Boot says how the start of an appliance went.
type Boot struct {
	Steps    []BootStep `json:"steps"`
	Problems []string   `json:"problems" doc:"What is wrong, as init sees it."`
}

// A BootStep is one thing that init did at the start.
type BootStep struct {
	Phase string  `json:"phase" doc:"early, modules, storage, services, confirm"`
	Step  string  `json:"step"`
	Begin float64 `json:"begin" doc:"Seconds since the kernel started."`
	Took  float64 `json:"took" doc:"Seconds."`
	Error string  `json:"error,omitempty"`
}

// askInitTimeout is for a machine that is busy.
const askInitTimeout = 10 * time.Second

// AskInit gives init a command over its socket at path, and returns what it answers. On a machine without init it is an error of the kind NotSupported.
func AskInit(ctx context.Context, path, command string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, askInitTimeout)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return "", &Error{Text: "this is a program on a machine that it does not own: only an appliance does that", Kind: NotSupported}
	}
	if err != nil {
		return "", fmt.Errorf("ask init: %w", err)
	}
	defer c.Close()
	if deadline, ok := ctx.Deadline(); ok {
		c.SetDeadline(deadline)
	}
	if _, err := fmt.Fprintln(c, command); err != nil {
		return "", fmt.Errorf("ask init: %w", err)
	}
	in := bufio.NewReader(c)
	first, err := in.ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("ask init: %w", err)
	}
	if why, refused := strings.CutPrefix(first, "error "); refused {
		return "", &Error{Text: strings.TrimSpace(why), Kind: NotFound}
	}
	text, err := io.ReadAll(in)
	if err != nil {
		return "", fmt.Errorf("ask init: %w", err)
	}
	return string(text), nil
}
