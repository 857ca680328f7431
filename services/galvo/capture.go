package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/term"

	"galvo/services/api"
)

// remoteCapture captures from a remote device to a file or standard output.
func remoteCapture(ctx context.Context, args []string) error {
	f := flag.NewFlagSet("capture", flag.ContinueOnError)
	device := f.String("d", "", "`URL` of the device, for example https://galvo-1234")
	user := f.String("u", "admin", "`user` for the password in GALVO_PASSWORD; a token in GALVO_TOKEN needs none")
	expression := f.String("filter", "", "expert filter `expression`")
	out := f.String("w", "-", "`file` to write; - is standard output")
	length := f.String("duration", "0s", "stop after this `time`, such as 30s, 5m or 1d12h")
	maxBytes := f.Uint64("max-bytes", 0, "stop before more than `N` bytes of packets")
	maxPackets := f.Uint64("max-packets", 0, "stop after `N` packets")
	snap := f.Uint("snaplen", 65535, "keep `N` bytes of each packet")
	from := f.String("from", "", "start `time`: RFC 3339, 2006-01-02 15:04:05, microseconds since 1970, or now-10m")
	to := f.String("to", "", "end `time`, likewise")
	ring := f.String("ring", "", "`name` of the packet ring buffer to capture from: where there are several, or to go on with what it records")
	insecure := f.Bool("k", false, "do not check the device's certificate")
	rest, err := parse(f, args)
	if err != nil {
		return err
	}
	signal.Ignore(syscall.SIGPIPE) // who reads the output has gone: that is an error of writing, and the last line is printed
	now := time.Now()
	start, errFrom := parseTime(*from, now)
	end, errTo := parseTime(*to, now)
	span, isTime := duration(*length)
	switch {
	case len(rest) > 0:
		return wrongUsage("unexpected argument %q", rest[0])
	case *device == "":
		return wrongUsage("-d says which device to capture from")
	case errFrom != nil:
		return wrongUsage("-from: %v", errFrom)
	case errTo != nil:
		return wrongUsage("-to: %v", errTo)
	case *snap < 1 || *snap > 65535:
		return wrongUsage("-snaplen is 1 to 65535")
	case *ring == "live" || strings.HasPrefix(*ring, ":"):
		return wrongUsage("-ring: %q is not the name of a ring", *ring)
	case !isTime || span < 0:
		return wrongUsage("-duration: %q is not a time such as 30s, 5m or 1d12h", *length)
	}
	r, err := newRemote(*device, *user, *insecure)
	var wrong usageError
	if errors.As(err, &wrong) {
		return err
	}
	var c api.Capture
	begin := time.Now()
	if err == nil {
		c, err = r.capture(ctx, *out, span, api.CaptureRequest{
			Expression: *expression, StartTime: start, EndTime: end, MaxSeconds: uint64((span + time.Second - 1) / time.Second),
			MaxBytes: *maxBytes, MaxPackets: *maxPackets, SnapLength: uint32(*snap), Source: source(*ring, start, now),
		})
	}
	switch {
	case err != nil:
		fmt.Fprintf(os.Stderr, "%sgalvo capture: %v\n", lineStart(), err)
		err = errReported
	case c.Reason != "":
		fmt.Fprintf(os.Stderr, "%s%s\n", lineStart(), c.Reason)
	}
	printCounters(os.Stderr, c.Counters, c.Bytes, time.Since(begin))
	return err
}

// source is where packets of a start time are: the past is in the device's ring, the named one or the only one.
func source(ring string, start int64, now time.Time) string {
	if ring != "" {
		return ring
	}
	if start != 0 && start < now.UnixMicro() {
		return api.AnyRing
	}
	return "live"
}

// lineStart overwrites the progress where there is one.
func lineStart() string {
	if term.IsTerminal(int(os.Stderr.Fd())) {
		return "\r\x1b[K"
	}
	return ""
}

// parseTime returns microseconds since the epoch, or 0 for no time.
func parseTime(s string, now time.Time) (int64, error) {
	if s == "" {
		return 0, nil
	}
	t, err := readTime(s, now)
	if err == nil && (t < 0 || t > lastTime) {
		err = fmt.Errorf("%q is not between 1970 and 2116", s)
	}
	return t, err
}

// lastTime is the latest time that the API takes.
const lastTime = 1 << 62 / 1000

func readTime(s string, now time.Time) (int64, error) {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil && n >= 0 {
		return n, nil
	}
	if after, ok := strings.CutPrefix(s, "now"); ok {
		if after == "" {
			return now.UnixMicro(), nil
		}
		if d, ok := duration(after); ok {
			return now.Add(d).UnixMicro(), nil
		}
	}
	if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
		return t.UnixMicro(), nil
	}
	for _, layout := range []string{"2006-01-02 15:04:05", "2006-01-02T15:04:05", "2006-01-02 15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t.UnixMicro(), nil
		}
	}
	return 0, fmt.Errorf("%q is not a time such as 2006-01-02 15:04:05, RFC 3339, microseconds since 1970, now-10m, or now-1d12h", s)
}

// duration reads what time.ParseDuration does, with whole days in front of it.
func duration(s string) (time.Duration, bool) {
	days, rest, ok := strings.Cut(s, "d")
	if !ok {
		days, rest = "0", s
	} else if rest == "" {
		rest = "0"
	}
	n, err := strconv.ParseInt(days, 10, 16)
	if err != nil {
		return 0, false
	}
	d, err := time.ParseDuration(rest)
	if strings.HasPrefix(days, "-") {
		d = -d
	}
	return time.Duration(n)*24*time.Hour + d, err == nil
}

// A remote is a device that is reached over its API.
type remote struct{ *api.Client }

func newRemote(device, user string, insecure bool) (*remote, error) {
	if !strings.Contains(device, "://") {
		device = "https://" + device
	}
	u, err := url.Parse(device)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, wrongUsage("-d %q is not a URL such as https://galvo-1234", device)
	}
	login, err := credentials(user)
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: insecure}, DisableCompression: true}
	return &remote{api.Remote(u.Scheme+"://"+u.Host, &http.Client{Transport: transport}, login)}, nil
}

// credentials returns the header of the token, or else of the password.
func credentials(user string) (http.Header, error) {
	if token := os.Getenv("GALVO_TOKEN"); token != "" {
		return http.Header{"Authorization": {"Bearer " + token}}, nil
	}
	password, ok := os.LookupEnv("GALVO_PASSWORD")
	if !ok {
		var err error
		if password, err = askPassword(user); err != nil {
			return nil, err
		}
	}
	return api.BasicLogin(user, password), nil
}

// askPassword asks on the terminal, whatever standard input and output are.
func askPassword(user string) (string, error) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return "", errors.New("no password: set GALVO_PASSWORD or GALVO_TOKEN, or call it from a terminal")
	}
	defer tty.Close()
	fmt.Fprintf(tty, "Password of %s: ", user)
	b, err := term.ReadPassword(int(tty.Fd()))
	fmt.Fprintln(tty)
	return string(b), err
}

// capture takes a capture to a file, and returns what the device says of it in the end. The device ends it after whole seconds; a duration in between is
// cut here.
func (r *remote) capture(ctx context.Context, out string, duration time.Duration, request api.CaptureRequest) (c api.Capture, err error) {
	var made api.CaptureCreated
	if err := r.Call(ctx, http.MethodPost, api.StartCapture.Path, request, &made); err != nil {
		return c, explain(err, request.Expression)
	}
	begin := time.Now()
	if duration%time.Second != 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, duration)
		defer cancel()
	}
	stream, err := r.Do(context.WithoutCancel(ctx), http.MethodGet, made.Stream, "", nil)
	if err != nil {
		return c, err
	}
	defer stream.Body.Close()
	file, err := create(out)
	if err != nil {
		return c, err
	}

	// Ctrl-C stops the capture on the device, so that the file ends with its statistics.
	done := make(chan struct{})
	var received atomic.Uint64
	go func() {
		defer close(done)
		_, err = io.Copy(file, io.TeeReader(stream.Body, counter{&received}))
	}()
	r.attend(ctx, made.ID, &received, begin, done)
	err = errors.Join(err, file.Close())
	stream.Body.Close() // where the file was what failed, this ends the capture
	c, known := r.finished(made.ID)
	switch {
	case err != nil:
	case !known:
		err = errors.New("the device does not say how the capture ended, so its counters are not known")
	case c.State == "failed":
		err = fmt.Errorf("the capture failed: %s", c.Reason)
	}
	return c, err
}

// attend shows the progress until done, and asks the device to stop when ctx is done.
func (r *remote) attend(ctx context.Context, id string, received *atomic.Uint64, begin time.Time, done <-chan struct{}) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	cancelled := ctx.Done()
	for {
		select {
		case <-done:
			return
		case <-cancelled:
			cancelled = nil
			stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
			r.Call(stop, http.MethodDelete, "/api/v1/captures/"+id, nil, nil) // a capture that has ended needs no stop
			cancel()
		case <-tick.C:
			if term.IsTerminal(int(os.Stderr.Fd())) {
				fmt.Fprintf(os.Stderr, "\r\x1b[K%.0f s, %.1f MB", time.Since(begin).Seconds(), float64(received.Load())/1e6)
			}
		}
	}
}

// finished returns the entry of a capture in the list of finished ones, which it enters at once when its stream ends.
func (r *remote) finished(id string) (api.Capture, bool) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	for ctx.Err() == nil {
		var list api.CaptureList
		err := r.Call(ctx, http.MethodGet, api.ListFinished.Path, nil, &list)
		if i := slices.IndexFunc(list.Captures, func(c api.Capture) bool { return c.ID == id }); i >= 0 {
			return list.Captures[i], true
		}
		wait := 50 * time.Millisecond
		if err != nil {
			wait = time.Second // an engine that starts again
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
	return api.Capture{}, false
}

// create makes the file of -w.
func create(name string) (io.WriteCloser, error) {
	if name == "-" {
		return os.Stdout, nil
	}
	f, err := os.Create(name)
	if err != nil {
		return nil, err
	}
	return f, nil
}

type counter struct{ n *atomic.Uint64 }

func (c counter) Write(b []byte) (int, error) {
	c.n.Add(uint64(len(b)))
	return len(b), nil
}

// printCounters writes the line with which read and capture end.
func printCounters(w io.Writer, c api.Counters, bytes uint64, took time.Duration) {
	b := bufio.NewWriter(w)
	fmt.Fprintf(b, "captured=%d dropped=%d ignored=%d held=%d lost=%d bytes=%d seconds=%.3f\n",
		c.Captured, c.Dropped, c.Ignored, c.Held, c.Lost, bytes, took.Seconds())
	b.Flush()
}

// explain makes an error of the device that is about the expression one that shows where, and says what to do about a certificate that is not known.
func explain(err error, expression string) error {
	var e *api.Error
	var unknown *tls.CertificateVerificationError
	switch {
	case errors.As(err, &e) && e.Kind == api.BadExpression:
		return errors.New(strings.TrimSpace(point(expression, e.Text, e.Pos, e.Len, e.Expected)))
	case errors.As(err, &unknown):
		return fmt.Errorf("%w (the device's certificate is self-made unless you gave it one: -k does not check it)", err)
	}
	return err
}
