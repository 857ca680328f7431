// Package page tests the page as its user sees it: a headless Chromium and a device run in one network namespace, traffic comes in over a veth pair, and
// what the page shows, downloads and refuses is compared with what was sent.
//
// The page must be in the binary, and axe-core beside it: make web builds and installs both. With GALVO_SCREENSHOTS set, pictures of the page are left in
// that folder.
package page

import (
	"context"
	"fmt"
	"io/fs"
	"testing"

	"galvo/ci/device"
	"galvo/ci/rig"
	"galvo/webui"
)

// A wired device has two ports.
type wired struct {
	*device.Device
	wires [2]*rig.End // what is sent into them comes in at the ports
}

// start runs a device in a namespace of its own.
func start(t *testing.T) *wired {
	t.Helper()
	if _, err := fs.Stat(webui.Bundle(), "index.html"); err != nil {
		t.Fatal("the page is not built: run make web")
	}
	d := &wired{}
	here, there := rig.NetnsFor(t), rig.NetnsFor(t)
	var ports []string
	for i := range d.wires {
		port := fmt.Sprintf("eth%d", i)
		tx, rx, err := rig.Veth(there, fmt.Sprintf("tx%d", i), here, port, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range []*rig.End{tx, rx} {
			if err := e.WaitUp(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		d.wires[i] = tx
		ports = append(ports, port)
	}
	d.Device = device.Start(t, here, "", ports...)
	return d
}

// play sends frames into a port.
func (d *wired) play(ctx context.Context, port int, rate float64, frames []rig.Frame) error {
	r, err := (&rig.Player{To: d.wires[port-1], Rate: rate}).Play(ctx, frames)
	if err == nil {
		err = r.Err
	}
	return err
}
