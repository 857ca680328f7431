package supervise

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"galvo/services/api"
)

// urls returns the address and port at which this machine reaches what is bound, and how to show it to a person.
func urls(bound *net.TCPAddr) (local, shown string) {
	port := strconv.Itoa(bound.Port)
	if bound.IP.IsUnspecified() {
		return net.JoinHostPort("127.0.0.1", port), net.JoinHostPort("localhost", port)
	}
	return bound.String(), bound.String()
}

// unreachable is how long the page is given to start where it cannot be asked.
const unreachable = 3 * time.Second

// awaitPage waits until requests are answered through TLS. Under init it waits for as long as it takes.
func awaitPage(ctx context.Context, p Probe, forEver bool) error {
	if !forEver {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, startTimeout)
		defer cancel()
	}
	begun := time.Now()
	err := poll(ctx, func() error {
		err := p.Page(ctx)
		if errors.Is(err, unix.ENETUNREACH) && time.Since(begun) > unreachable {
			// A namespace whose loopback link is down: nothing on this machine can ask, and others can.
			return nil
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("the page does not answer: %w", err)
	}
	return nil
}

// A Probe asks the running services whether they answer.
type Probe struct {
	page   string // address and port
	engine string // path of the socket
}

// Page asks web, through TLS on this machine's own address. The answer is that a login is needed.
func (p Probe) Page(ctx context.Context) error {
	client := &http.Client{
		Timeout: askTimeout,
		Transport: &http.Transport{
			// It is this process's own child that answers, with a certificate that it has just made.
			TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
			DisableKeepAlives: true,
		},
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+p.page+api.GetStatus.Path, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusUnauthorized && resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the page answers %s", resp.Status)
	}
	return nil
}

// Engine asks the engine for its ports.
func (p Probe) Engine(ctx context.Context) ([]api.Port, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var list []api.Port
	err := api.NewClient(p.engine).Call(ctx, http.MethodGet, api.ListPorts.Path, nil, &list)
	return list, err
}

// Capturing asks the engine whether a capture runs.
func (p Probe) Capturing(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var list api.CaptureList
	err := api.NewClient(p.engine).Call(ctx, http.MethodGet, api.ListCaptures.Path, nil, &list)
	return err == nil && len(list.Captures) > 0
}

// askTimeout is how long an answer may take.
const askTimeout = 5 * time.Second
