// Package live tests the product as a whole: the binary runs in a network namespace, traffic is played into its ports, and what its API and its
// streams say is compared with what was sent.
package live

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"galvo/ci/device"
	"galvo/ci/rig"
	"galvo/services/api"
)

// A tested device is asked by its API and by curl.
type tested struct {
	*device.Device
	t      testing.TB
	client *http.Client
}

// start runs a device with a configuration in a namespace.
func start(t testing.TB, netns *rig.Netns, config string, ports ...string) *tested {
	t.Helper()
	d := &tested{Device: device.Start(t, netns, config, ports...), t: t}
	d.client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DialContext: d.dial}}
	t.Cleanup(d.client.CloseIdleConnections)
	return d
}

// dial connects from within the device's namespace.
func (d *tested) dial(ctx context.Context, network, addr string) (c net.Conn, err error) {
	err = d.Netns.Run(func() error {
		var dialer net.Dialer
		c, err = dialer.DialContext(ctx, network, addr)
		return err
	})
	return c, err
}

// wait waits until ok says yes.
func (d *tested) wait(what string, ok func() bool) {
	d.t.Helper()
	device.Wait(d.t, what, ok)
}

// call asks the API.
func (d *tested) call(method, path string, body, reply any) error {
	return api.Remote(d.URL, d.client, api.BasicLogin("admin", device.Password)).Call(context.Background(), method, path, body, reply)
}

func (d *tested) must(method, path string, body, reply any) {
	d.t.Helper()
	if err := d.call(method, path, body, reply); err != nil {
		d.t.Fatalf("%s %s: %v", method, path, err)
	}
}

// portsUp waits until all ports are up.
func (d *tested) portsUp(n int) {
	d.t.Helper()
	d.wait(fmt.Sprintf("%d ports are up", n), func() bool {
		up := 0
		for _, p := range d.ports() {
			if p.State == "up" {
				up++
			}
		}
		return up == n
	})
}

func (d *tested) ports() (list []api.Port) {
	d.call("GET", "/api/v1/ports", nil, &list) // an engine that is just back is asked again
	return list
}

// received returns what the ports account for: every frame is received or lost.
func (d *tested) received() (n uint64) {
	for _, p := range d.ports() {
		n += p.RxPackets + p.LostNic + p.LostKernel
	}
	return n
}

func (d *tested) captures() (list api.CaptureList) {
	d.t.Helper()
	d.must("GET", "/api/v1/captures", nil, &list)
	return list
}

func (d *tested) finished() (list api.CaptureList) {
	d.t.Helper()
	d.must("GET", "/api/v1/captures/finished", nil, &list)
	return list
}

// A download is a curl that takes a capture.
type download struct {
	d    *tested
	file string
	cmd  *exec.Cmd
}

// curl starts the capture URL with a query, and waits until the capture runs. rate limits the client, as curl's --limit-rate has it.
func (d *tested) curl(query url.Values, rate string) *download {
	d.t.Helper()
	n := len(d.captures().Captures)
	dl := &download{d: d, file: filepath.Join(d.t.TempDir(), "capture.pcapng")}
	args := []string{"-sSkN", "-f", "-u", "admin:" + device.Password, "-o", dl.file}
	if rate != "" {
		args = append(args, "--limit-rate", rate)
	}
	dl.cmd = exec.Command("curl", append(args, d.URL+api.CaptureURLPath+"?"+strings.ReplaceAll(query.Encode(), "+", "%20"))...)
	dl.cmd.Stderr = os.Stderr
	if err := d.Netns.Start(dl.cmd); err != nil {
		d.t.Fatal(err)
	}
	d.wait("the capture runs", func() bool {
		list := d.captures().Captures
		return len(list) == n+1 && list[0].State != "waiting"
	})
	return dl
}

// settle waits until the captures have looked at everything that was received.
func (d *tested) settle(sent uint64) {
	d.t.Helper()
	d.wait(fmt.Sprintf("%d frames are accounted for", sent), func() bool { return d.received() >= sent })
}

// end stops every capture and waits for the downloads.
func (d *tested) end(downloads ...*download) {
	d.t.Helper()
	for _, c := range d.captures().Captures {
		d.must("DELETE", "/api/v1/captures/"+c.ID, nil, nil)
	}
	for _, dl := range downloads {
		if err := dl.cmd.Wait(); err != nil {
			d.t.Errorf("curl: %v", err)
		}
	}
}

// sum is what the equation of the five counters adds up.
func sum(c api.Capture) uint64 { return c.Captured + c.Dropped + c.Ignored + c.Held + c.Lost }
