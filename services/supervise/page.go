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

// awaitPage waits until requests are answered through TLS. The answer is that a login is needed.
func awaitPage(ctx context.Context, hostPort string) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	client := &http.Client{
		Timeout: 2 * time.Second,
		Transport: &http.Transport{
			// It is this process's own child that answers, with a certificate that it has just made.
			TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
			DisableKeepAlives: true,
		},
	}
	begun := time.Now()
	err := poll(ctx, func() error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+hostPort+api.GetStatus.Path, nil)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if errors.Is(err, unix.ENETUNREACH) && time.Since(begun) > unreachable {
			// A namespace whose loopback link is down: nothing on this machine can ask, and others can.
			return nil
		}
		if err != nil {
			return err
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusUnauthorized && resp.StatusCode != http.StatusOK {
			return fmt.Errorf("the page answers %s", resp.Status)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("the page does not answer: %w", err)
	}
	return nil
}
