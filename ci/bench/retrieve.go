package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"galvo/ci/rig"
)

// What both archives are filled with: so many bytes of frames, in which the rare host has twelve frames in three places.
const (
	archiveBytes = 2_000_000_000
	archiveRing  = 3_000_000_000
	archiveRate  = 130_000 // frames per second; both keep up with it
	rareHost     = "203.0.113.77"
	rareFrames   = 12
)

// An archive records what comes, and answers questions about it over HTTPS.
type archive struct {
	name  string
	argv  []string
	env   []string
	ready func(c *http.Client) error // nil once it answers
	ask   func(q question) (*http.Request, error)
	files string // the directory with what it recorded
	tls   *tls.Config
}

// A question is the same one in the language of each.
type question struct {
	name         string
	steno, galvo string
	fresh        bool          // each asks over a connection of its own, else over one that is open already
	frames       int           // that are found; 0 if they are not counted
	goal         float64       // what galvo may take of Stenographer's time
	most         time.Duration // what galvo may take; 0 means no goal
}

// retrieve asks Stenographer and the engine for packets of the same traffic, a moment after each was started and with none of its files in the page cache. What
// counts is the time from the request to the last byte of the answer, with the same client: over a TLS connection that is open already, or with the handshake of one that is
// made for it, which is what every query through stenoread or curl is, with the keys that each of the two makes for itself. Both have read by then what they read at their
// start: Stenographer the roots of its indexes, the engine the directories of its ring's. Stenographer reads the bytes of the frames only; the engine reads the chunks that
// they lie in and what their blocks say of flows, verifies the checksums of both, and hands the answer on from one process to another.
func retrieve(ctx context.Context, b *bench) error {
	for _, program := range []string{"stenotype", "stenographer"} {
		if !present("retrieval", program) {
			return nil
		}
	}
	sender, receiver, err := network()
	if err != nil {
		return err
	}
	defer sender.Close()
	defer receiver.Close()
	tx, _, err := rig.Veth(sender, "tx0", receiver, device, 0)
	if err != nil {
		return err
	}
	steno, err := b.stenographer()
	if err != nil {
		return err
	}
	galvo, err := b.fill(ctx, receiver, tx)
	if err != nil {
		return err
	}
	fmt.Println("\nStenographer reads the frames' bytes, galvo the chunks of 16 KiB that they lie in, whose checksums it verifies")
	for _, q := range []question{
		{name: "one rare host", steno: "host " + rareHost, galvo: "ip == " + rareHost, frames: rareFrames, goal: 0.3, most: 20 * time.Millisecond},
		{name: "one rare host, with the handshake of a connection", steno: "host " + rareHost, galvo: "ip == " + rareHost, fresh: true, frames: rareFrames, goal: 0.3, most: 20 * time.Millisecond},
		{name: "a port that is everywhere", steno: "port 443", galvo: "port == 443", goal: 0.5},
	} {
		t := newTable(fmt.Sprintf("%s out of %.1f GB, cold, to the last byte", q.name, archiveBytes/1e9), 2)
		t.unit, t.per = "ms", time.Millisecond
		for round := range b.rounds {
			sizes := [2]int64{}
			for i, a := range []*archive{steno, galvo} {
				took, size, err := a.answer(ctx, receiver, q)
				if err != nil {
					return fmt.Errorf("round %d: %s: %s: %w", round+1, a.name, q.name, err)
				}
				goal := q.goal
				if i == 0 {
					goal = 0
				}
				t.add(i, fmt.Sprintf("%s, %.2f MB", a.name, float64(size)/1e6), goal, took)
				sizes[i] = size
			}
			if least := int64(24 + q.frames*(16+60)); q.frames > 0 && (sizes[0] != sizes[1] || sizes[0] < least) {
				return fmt.Errorf("%s: the answers have %d and %d bytes, and %d frames have %d at least", q.name, sizes[0], sizes[1], q.frames, least)
			}
		}
		t.print()
		if took := slices.Sorted(slices.Values(t.rows[1].costs))[b.rounds/2]; q.most > 0 {
			verdict := "reached"
			if took > q.most {
				verdict = "MISSED"
			}
			fmt.Printf("%s: %v of %v: %s\n", galvo.name, took.Round(100*time.Microsecond), q.most, verdict)
		}
	}
	return nil
}

// fill plays the traffic to both at once, and ends them when all is on the disk. Stenographer answers from files that stenotype has closed, which it does when
// they are old and more packets come; told to end it may wait for ever, so it is killed.
func (b *bench) fill(ctx context.Context, where *rig.Netns, tx *rig.End) (*archive, error) {
	steno := exec.CommandContext(ctx, "stenotype", "--iface="+device, "--dir="+b.stenoDir(), "--threads=1", "--blocks=256", "--uid=root", "--gid=root", "-v", "--no_watchdogs", "--seccomp=none", "--fileage_sec=15", "--blockage_sec=1")
	var said bytes.Buffer
	steno.Stderr = &said
	if err := where.Start(steno); err != nil {
		return nil, err
	}
	defer steno.Wait() //nolint:errcheck // it was killed
	defer func() { _ = steno.Process.Kill() }()
	galvo, ring := b.ringArchive()
	var end time.Time
	err := galvo.run(ctx, where, func(c *http.Client) error {
		if err := ring.create(c); err != nil {
			return err
		}
		sent := 0
		for n := 0; n*b.bytes() < archiveBytes; n++ {
			frames := b.varied(n)
			report, err := (&rig.Player{To: tx, CPU: 1, Rate: archiveRate}).Play(ctx, frames)
			if err != nil || report.Sent != len(frames) {
				return errors.Join(err, fmt.Errorf("the sender could not play everything: %v", report))
			}
			sent += report.Sent
		}
		end = time.Now()
		return errors.Join(ring.has(c, sent), b.closeSteno(ctx, tx, end))
	})
	ring.end = end.Add(time.Second)
	if err != nil {
		err = fmt.Errorf("%w; stenotype said: %s", err, said.String())
	}
	return galvo, err
}

// closeSteno plays frames that nobody asks for until stenotype has closed all files with frames up to a time, and their indexes are there: what it has not closed is in
// no answer.
func (b *bench) closeSteno(ctx context.Context, tx *rig.End, upTo time.Time) error {
	filler := slices.Repeat([]rig.Frame{{Data: slices.Concat(slices.Repeat([]byte{2}, 12), []byte{0x88, 0xb5}, make([]byte, 1000))}}, 3000)
	for deadline := time.Now().Add(time.Minute); ; {
		closed, open, err := b.stenoFiles(upTo)
		if err != nil || closed > 0 && open == 0 {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("stenotype has closed %d files and not closed %d", closed, open)
		}
		if _, err := (&rig.Player{To: tx, CPU: 1, Rate: 1000}).Play(ctx, filler); err != nil {
			return err
		}
	}
}

// stenoFiles counts stenotype's files that were begun before a time. Their names are that, in microseconds, behind a dot until they are closed.
func (b *bench) stenoFiles(before time.Time) (closed, open int, err error) {
	entries, err := os.ReadDir(filepath.Join(b.stenoDir(), "PKT0"))
	for _, e := range entries {
		name, unfinished := strings.CutPrefix(e.Name(), ".")
		if begun, err := strconv.ParseInt(name, 10, 64); err != nil || begun > before.UnixMicro() {
			continue
		}
		if _, missing := os.Stat(filepath.Join(b.stenoDir(), "IDX0", name)); unfinished || missing != nil {
			open++
		} else {
			closed++
		}
	}
	return closed, open, err
}

func (b *bench) bytes() (n int) {
	for _, f := range b.frames {
		n += len(f.Data)
	}
	return n
}

// varied returns the frames with other hosts, and in three of the rounds four of the rare host.
func (b *bench) varied(n int) []rig.Frame {
	out := make([]rig.Frame, len(b.frames))
	rare := 0
	if n%8 == 3 && n < 24 {
		rare = rareFrames / 3
	}
	for i, f := range b.frames {
		f.Data = slices.Clone(f.Data)
		if ipv4 := len(f.Data) > 34 && f.Data[12] == 8 && f.Data[13] == 0; ipv4 {
			f.Data[27] ^= byte(n)
			f.Data[31] ^= byte(n)
			if plain := f.Data[14] == 0x45 && f.Data[20]&0x3f == 0 && f.Data[21] == 0 && f.Data[23] == 17; plain && rare > 0 && i > 1000*rare {
				copy(f.Data[26:], []byte{203, 0, 113, 77})
				rare--
			}
		}
		out[i] = f
	}
	return out
}

// run starts an archive, waits until it answers, calls f and ends it.
func (a *archive) run(ctx context.Context, where *rig.Netns, f func(*http.Client) error) error {
	cmd := exec.CommandContext(ctx, a.argv[0], a.argv[1:]...)
	cmd.Env = append(os.Environ(), a.env...)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &said, &said, time.Second // what it has started may live a little longer
	if err := where.Start(cmd); err != nil {
		return err
	}
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: a.tls, DialContext: func(ctx context.Context, network, address string) (conn net.Conn, err error) {
		err = errors.Join(where.Run(func() error { conn, err = (&net.Dialer{}).DialContext(ctx, network, address); return err }))
		return conn, err
	}}}
	err := a.ready(c)
	for deadline := time.Now().Add(40 * time.Second); err != nil && ctx.Err() == nil && time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		err = a.ready(c)
	}
	if err == nil {
		err = f(c)
	}
	c.CloseIdleConnections()
	_ = cmd.Process.Signal(os.Interrupt) // it may have ended, which Wait tells
	_ = cmd.Wait()                       // stenographer calls that an error
	if err != nil {
		text := said.String()
		err = fmt.Errorf("%w; it said: %s", err, text[max(0, len(text)-2000):])
	}
	return err
}

// answer returns how long a question took, and the size of the answer.
func (a *archive) answer(ctx context.Context, where *rig.Netns, q question) (took time.Duration, size int64, err error) {
	err = a.run(ctx, where, func(c *http.Client) error {
		if err := forget(a.files); err != nil {
			return err
		}
		r, err := a.ask(q)
		if err != nil {
			return err
		}
		if q.fresh {
			c.CloseIdleConnections()
		}
		began := time.Now()
		reply, err := c.Do(r.WithContext(ctx))
		if err != nil {
			return err
		}
		defer reply.Body.Close()
		size, err = io.Copy(io.Discard, reply.Body)
		took = time.Since(began)
		if reply.StatusCode != http.StatusOK {
			err = errors.Join(err, errors.New(reply.Status))
		}
		return err
	})
	return took, size, err
}

// forget drops what the page cache has of the files below a directory.
func forget(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		return errors.Join(f.Sync(), unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED))
	})
}

// A galvoRing is the ring of the engine that is asked.
type galvoRing struct {
	url, token string
	end        time.Time
}

const benchPassword = "a password for benchmarks"

// ringArchive is the shipped engine with a ring.
func (b *bench) ringArchive() (*archive, *galvoRing) {
	const address = "127.0.0.1:8443"
	r := &galvoRing{url: "https://" + address}
	state := filepath.Join(b.dir, "archive")
	a := &archive{
		name: "galvo", files: state, tls: &tls.Config{InsecureSkipVerify: true},
		argv: []string{b.galvo, "run", "-config", filepath.Join(b.dir, "galvo.toml"), "-state", state, "-interface", device, "-listen", address},
		env:  []string{"GALVO_ADMIN_PASSWORD=" + benchPassword},
	}
	a.ready = func(c *http.Client) error {
		var list struct{ Rings []struct{ State string } }
		if err := r.call(c, "GET", "/api/v1/rings", nil, &list); err != nil {
			return err
		}
		if len(list.Rings) > 0 && list.Rings[0].State != "recording" {
			return fmt.Errorf("the ring is %s", list.Rings[0].State)
		}
		return nil
	}
	a.ask = func(q question) (*http.Request, error) {
		query := url.Values{"fromCaptureBuffer": {"true"}, "expression": {q.galvo}, "format": {"pcap"}, "endTime": {fmt.Sprint(r.end.UnixMicro())}}
		request, err := http.NewRequest("GET", r.url+"/API/data/modules/capture?"+strings.ReplaceAll(query.Encode(), "+", "%20"), nil)
		if err == nil {
			request.Header.Set("Authorization", "Bearer "+r.token)
		}
		return request, err
	}
	return a, r
}

// call makes a call of the API: with the password until there is a token.
func (r *galvoRing) call(c *http.Client, method, path string, in, out any) error {
	var body bytes.Buffer
	if in != nil {
		if err := json.NewEncoder(&body).Encode(in); err != nil {
			return err
		}
	}
	request, err := http.NewRequest(method, r.url+path, &body)
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	if r.token != "" {
		request.Header.Set("Authorization", "Bearer "+r.token)
	} else {
		request.SetBasicAuth("admin", benchPassword)
	}
	reply, err := c.Do(request)
	if err != nil {
		return err
	}
	defer reply.Body.Close()
	text, err := io.ReadAll(reply.Body)
	if err == nil && reply.StatusCode >= 300 {
		err = fmt.Errorf("%s %s: %s: %s", method, path, reply.Status, text)
	}
	if err == nil && out != nil {
		err = json.Unmarshal(text, out)
	}
	return err
}

// create makes the ring and a token, and waits until the ring records.
func (r *galvoRing) create(c *http.Client) error {
	var token struct{ Secret string }
	if err := r.call(c, "POST", "/api/v1/tokens", map[string]any{"name": "bench", "role": "admin"}, &token); err != nil {
		return err
	}
	if r.token = token.Secret; r.token == "" {
		return errors.New("no token in the answer")
	}
	if err := r.call(c, "POST", "/api/v1/rings", map[string]any{"name": "bench", "sizeBytes": archiveRing}, nil); err != nil {
		return err
	}
	return r.wait(c, func(state string, _ int) bool { return state == "recording" })
}

// has waits until the ring has so many packets.
func (r *galvoRing) has(c *http.Client, packets int) error {
	return r.wait(c, func(_ string, n int) bool { return n >= packets })
}

func (r *galvoRing) wait(c *http.Client, ok func(state string, packets int) bool) error {
	var ring struct {
		State   string
		Packets int
	}
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		if err := r.call(c, "GET", "/api/v1/rings/bench", nil, &ring); err == nil && ok(ring.State, ring.Packets) {
			return nil
		}
	}
	return fmt.Errorf("the ring is %s and has %d packets", ring.State, ring.Packets)
}

func (b *bench) stenoDir() string { return filepath.Join(b.dir, "stenographer") }

// stenographer is Debian's, over what stenotype has written. The program that it starts to record is one that does nothing.
func (b *bench) stenographer() (*archive, error) {
	dir := b.stenoDir()
	for _, sub := range []string{"PKT0", "IDX0", "certs"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, err
		}
	}
	idle := filepath.Join(dir, "idle")
	if err := os.WriteFile(idle, []byte("#!/bin/sh\nexec >/dev/null 2>&1\nwhile kill -0 $PPID; do sleep 1; done\n"), 0o755); err != nil {
		return nil, err
	}
	config, err := json.Marshal(map[string]any{
		"Threads":       []any{map[string]any{"PacketsDirectory": filepath.Join(dir, "PKT0"), "IndexDirectory": filepath.Join(dir, "IDX0"), "MaxDirectoryFiles": 30000, "DiskFreePercentage": 1}},
		"StenotypePath": idle, "Interface": device, "Port": 1234, "Host": "127.0.0.1", "Flags": []string{}, "CertPath": filepath.Join(dir, "certs"),
	})
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "config")
	if err := os.WriteFile(file, config, 0o644); err != nil {
		return nil, err
	}
	client, err := certificates(filepath.Join(dir, "certs"))
	if err != nil {
		return nil, err
	}
	const url = "https://127.0.0.1:1234"
	query := func(text string) (*http.Request, error) {
		return http.NewRequest("POST", url+"/query", strings.NewReader(text))
	}
	return &archive{
		name: "stenographer", files: dir, argv: []string{"stenographer", "-config", file, "-syslog=false"}, env: []string{"TMPDIR=" + b.dir}, // it leaves its files there
		tls: &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{client}},
		ready: func(c *http.Client) error { // once it has opened the files; a question would read their indexes
			reply, err := c.Get(url + "/debug/stats")
			if err != nil {
				return err
			}
			defer reply.Body.Close()
			text, err := io.ReadAll(reply.Body)
			if err != nil {
				return err
			}
			files, _ := filepath.Glob(filepath.Join(dir, "PKT0", "[0-9]*"))
			if m := openFiles.FindSubmatch(text); m == nil || string(m[1]) != fmt.Sprint(len(files)) {
				return fmt.Errorf("it has not opened %d files: %s", len(files), text)
			}
			return nil
		},
		ask: func(q question) (*http.Request, error) { return query(q.steno) },
	}, nil
}

// openFiles finds in Stenographer's statistics how many files it has.
var openFiles = regexp.MustCompile(`(?m)^current_files\s+(\d+)`)

// certificates makes what Stenographer wants for TLS: an authority, and a certificate of it for the server and for its client, with RSA keys of 4096 bits, as Debian's
// stenokeys does.
func certificates(dir string) (client tls.Certificate, err error) {
	make := func(serial int64, name string, parent *x509.Certificate, signer *rsa.PrivateKey) (*x509.Certificate, *rsa.PrivateKey, error) {
		key, err := rsa.GenerateKey(rand.Reader, 4096)
		if err != nil {
			return nil, nil, err
		}
		c := &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
			KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
			IsCA: parent == nil, BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		}
		if parent == nil {
			parent, signer = c, key
		}
		der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), signer)
		if err != nil {
			return nil, nil, err
		}
		err = errors.Join(
			os.WriteFile(filepath.Join(dir, name+"_cert.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644),
			os.WriteFile(filepath.Join(dir, name+"_key.pem"), pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}), 0o600))
		return c, key, err
	}
	ca, caKey, err := make(1, "ca", nil, nil)
	if err == nil {
		_, _, err = make(2, "server", ca, caKey)
	}
	if err == nil {
		_, _, err = make(3, "client", ca, caKey)
	}
	if err != nil {
		return client, err
	}
	return tls.LoadX509KeyPair(filepath.Join(dir, "client_cert.pem"), filepath.Join(dir, "client_key.pem"))
}
