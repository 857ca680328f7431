package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
)

// A Client calls a service over its unix socket.
type Client struct{ http *http.Client }

// NewClient returns a client for the service that listens on the unix socket at path. Nothing is dialled yet.
func NewClient(path string) *Client {
	return &Client{&http.Client{Transport: Transport(path)}}
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
// returned as *Error; a service that cannot be reached is one of the kind Unavailable.
func (c *Client) Call(ctx context.Context, method, path string, body, reply any) error {
	var r io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("encode the request for %s: %w", path, err)
		}
		r = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://galvo"+path, r)
	if err != nil {
		return fmt.Errorf("call %s: %w", path, err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		return &Error{Text: fmt.Sprintf("the service does not answer: %v", err), Kind: Unavailable}
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return ReadError(resp)
	}
	if reply == nil {
		return nil
	}
	if err := json.NewDecoder(resp.Body).Decode(reply); err != nil {
		return fmt.Errorf("decode the answer to %s: %w", path, err)
	}
	return nil
}

// ReadError reads the error of a reply whose status is not 2xx.
func ReadError(resp *http.Response) *Error {
	b, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
	e := new(Error)
	if err := json.Unmarshal(b, e); err != nil || e.Text == "" {
		e = &Error{Text: resp.Status, Kind: kindOf(resp.StatusCode)}
	}
	return e
}

// WriteError answers a request with an error.
func WriteError(w http.ResponseWriter, e *Error) {
	if e.Expected == nil {
		e.Expected = []string{}
	}
	Write(w, e.GetStatus(), e)
}

// Write answers a request with a value as JSON. Characters that matter in HTML only stay as they are: people read what curl prints.
func Write(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	out := json.NewEncoder(w)
	out.SetEscapeHTML(false)
	out.Encode(v) // a client that is gone needs no answer
}
