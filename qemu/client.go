package qemu

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"galvo/services/api"
)

// A Client asks the device's API as admin.
type Client struct {
	URL string

	t        testing.TB
	password string
	api      *api.Client
}

// answerTimeout is for a machine that is emulated on a busy one.
const answerTimeout = 20 * time.Second

// Client returns one for the forwarded port, with the password of a first start, or with another one.
func (v *VM) Client(password string) *Client {
	return v.client(v.URL, password, nil)
}

// Client returns one that reaches the device at a host, by name or address, and asks for what is at an address.
func (l *Laptop) Client(v *VM, host, password string, to netip.AddrPort) *Client {
	return v.client("https://"+host, password, func(ctx context.Context, _, _ string) (net.Conn, error) { return l.Dial(ctx, to) })
}

func (v *VM) client(url, password string, dial func(context.Context, string, string) (net.Conn, error)) *Client {
	direct := &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, TLSHandshakeTimeout: answerTimeout, ResponseHeaderTimeout: 3 * answerTimeout, DialContext: dial,
	}}
	v.t.Cleanup(direct.CloseIdleConnections)
	return &Client{URL: url, t: v.t, password: password, api: api.Remote(url, direct, api.BasicLogin("admin", password))}
}

// Password is the one that the client logs in with.
func (c *Client) Password() string { return c.password }

// Do sends a request and returns the answer, whatever its status is.
func (c *Client) Do(method, path, contentType string, body io.Reader) (*http.Response, error) {
	return c.api.Raw(context.Background(), method, path, contentType, body)
}

// Call sends body as JSON, if it is not nil, and decodes the answer into reply, if that is not nil.
func (c *Client) Call(method, path string, body, reply any) error {
	return c.api.Call(context.Background(), method, path, body, reply)
}

// Must is Call where an error ends the test.
func (c *Client) Must(method, path string, body, reply any) {
	c.t.Helper()
	if err := c.Call(method, path, body, reply); err != nil {
		c.t.Fatalf("%s %s: %v", method, path, err)
	}
}

// Wait waits until ok says yes.
func (c *Client) Wait(what string, ok func() bool) {
	c.t.Helper()
	for deadline := time.Now().Add(Patience(c.t)); !ok(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			c.t.Fatalf("it did not happen: %s", what)
		}
	}
}

// Answers waits until the device answers, and returns how it says it is.
func (c *Client) Answers() (s api.Status) {
	c.t.Helper()
	var last error
	for deadline := time.Now().Add(Patience(c.t)); ; time.Sleep(100 * time.Millisecond) {
		if last = c.Call(http.MethodGet, api.GetStatus.Path, nil, &s); last == nil {
			return s
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("the device does not answer: %v", last)
		}
	}
}

// Well waits until the device says that nothing is wrong. On a busy machine something may be late at first.
func (c *Client) Well() {
	c.t.Helper()
	var s api.Status
	for deadline := time.Now().Add(Patience(c.t)); s.State != "ok"; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			c.t.Fatalf("the device is %s: %q", s.State, s.Problems)
		}
		s = c.Answers()
	}
}

// PutConfig replaces the configuration by TOML.
func (c *Client) PutConfig(toml string) error {
	resp, err := c.api.Do(context.Background(), http.MethodPut, api.PutConfig.Path, "application/toml", strings.NewReader(toml))
	if err == nil {
		resp.Body.Close()
	}
	return err
}

// PortsUp waits until n ports are up, and returns all.
func (c *Client) PortsUp(n int) (list []api.Port) {
	c.t.Helper()
	c.Wait(fmt.Sprintf("%d ports are up", n), func() bool {
		list = nil
		if c.Call(http.MethodGet, api.ListPorts.Path, nil, &list) != nil {
			return false
		}
		up := 0
		for _, p := range list {
			if p.State == "up" {
				up++
			}
		}
		return up >= n
	})
	return list
}

// A Download is a capture that is being fetched.
type Download struct {
	Data []byte // when done is closed
	Err  error
	done chan struct{}

	client *Client
}

// Capture fetches the capture URL with a query, and returns when the capture runs.
func (c *Client) Capture(query url.Values) *Download {
	c.t.Helper()
	d := &Download{done: make(chan struct{}), client: c}
	go func() {
		defer close(d.done)
		resp, err := c.Do(http.MethodGet, api.CaptureURLPath+"?"+strings.ReplaceAll(query.Encode(), "+", "%20"), "", nil)
		if err != nil {
			d.Err = err
			return
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			d.Err = api.ReadError(resp)
			return
		}
		d.Data, d.Err = io.ReadAll(resp.Body)
	}()
	c.Wait("the capture runs", func() bool {
		select {
		case <-d.done:
			return true
		default:
		}
		// Packets before its start time are not looked at, and a slow machine needs a while from the one to the other.
		var list api.CaptureList
		var status api.Status
		if c.Call(http.MethodGet, api.ListCaptures.Path, nil, &list) != nil || len(list.Captures) == 0 || c.Call(http.MethodGet, api.GetStatus.Path, nil, &status) != nil {
			return false
		}
		first := list.Captures[0]
		return first.State == "running" && first.StartTime < status.Time
	})
	return d
}

// Wait returns the savefile when the capture has ended. One that does not end is an error with what the device says of its ports and captures.
func (d *Download) Wait() ([]byte, error) {
	select {
	case <-d.done:
		return d.Data, d.Err
	case <-time.After(min(endTimeout, Patience(d.client.t))):
	}
	said := ""
	for _, path := range []string{api.ListPorts.Path, api.ListCaptures.Path} {
		resp, err := d.client.Do(http.MethodGet, path, "", nil)
		if err != nil {
			said += err.Error() + "\n"
			continue
		}
		text, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		said += string(text) + "\n"
	}
	return nil, fmt.Errorf("the capture does not end; the device says\n%s", said)
}

// endTimeout is how long a capture may take whose packets were all sent.
const endTimeout = 3 * time.Minute
