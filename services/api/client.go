package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"
)

// A Client calls a service over its unix socket, or a device over its URL.
type Client struct {
	http   *http.Client
	base   string
	header http.Header
}

// NewClient returns a client for the service that listens on the unix socket at path. Nothing is dialled yet.
func NewClient(path string) *Client {
	return &Client{http: &http.Client{Transport: Transport(path)}, base: "http://galvo"}
}

// Remote returns a client for the device at base, as https://galvo-1234, that logs in with header.
func Remote(base string, c *http.Client, header http.Header) *Client {
	return &Client{http: c, base: base, header: header}
}

// BasicLogin returns the header with which a user logs in (RFC 7617).
func BasicLogin(user, password string) http.Header {
	r := http.Request{Header: http.Header{}}
	r.SetBasicAuth(user, password)
	return r.Header
}

// Transport returns an HTTP transport that sends everything to the unix socket at path.
func Transport(path string) *http.Transport {
	return &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		},
		DisableCompression: true,
	}
}

// Call sends body as JSON, if it is not nil, and decodes the answer into reply, if that is not nil. An error of the service is
// returned as *Error; a service that cannot be reached is one of the kind Unavailable, and of a device an error of net/http.
func (c *Client) Call(ctx context.Context, method, path string, body, reply any) error {
	var in io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("encode the request for %s: %w", path, err)
		}
		in = bytes.NewReader(b)
	}
	resp, err := c.Do(ctx, method, path, "application/json", in)
	var unreached *url.Error
	switch {
	case err == nil:
	case c.header == nil && errors.As(err, &unreached):
		return &Error{Text: fmt.Sprintf("the service does not answer: %v", err), Kind: Unavailable}
	default:
		return err
	}
	defer resp.Body.Close()
	if reply == nil {
		return nil
	}
	if err := json.NewDecoder(resp.Body).Decode(reply); err != nil {
		return fmt.Errorf("decode the answer to %s: %w", path, err)
	}
	return nil
}

// Do sends a request and returns a reply with a status of success, whose body is to be closed. Any other status is an error, an *Error.
func (c *Client) Do(ctx context.Context, method, path, contentType string, body io.Reader) (*http.Response, error) {
	resp, err := c.Raw(ctx, method, path, contentType, body)
	if err == nil && resp.StatusCode/100 != 2 {
		defer resp.Body.Close()
		return nil, ReadError(resp)
	}
	return resp, err
}

// Raw is Do for all statuses.
func (c *Client) Raw(ctx context.Context, method, path, contentType string, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return nil, fmt.Errorf("call %s: %w", path, err)
	}
	if c.header != nil {
		req.Header = c.header.Clone()
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	return c.http.Do(req)
}

// ReadError reads the error of a reply whose status is not 2xx.
func ReadError(resp *http.Response) *Error {
	b, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
	e := new(Error)
	if err := json.Unmarshal(b, e); err != nil || e.Text == "" {
		e = &Error{Text: resp.Status, Kind: kindOf(resp.StatusCode)}
		if said := strings.TrimSpace(string(b)); said != "" && len(said) < 200 && utf8.Valid(b) && !strings.ContainsAny(said, "<\n") { // http on an https port, for one
			e.Text += ": " + said
		}
	}
	return e
}

// WriteError answers a request with an error.
func WriteError(w http.ResponseWriter, e *Error) {
	Write(w, e.GetStatus(), e.listed())
}

// Write answers a request with a value as JSON. Characters that matter in HTML only stay as they are: people read what curl prints.
func Write(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	out := json.NewEncoder(w)
	out.SetEscapeHTML(false)
	out.Encode(v) // a client that is gone needs no answer
}
