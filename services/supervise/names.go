package supervise

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"galvo/services/config"
)

// mdnsAddress is where multicast DNS is heard (RFC 6762), of all addresses.
const mdnsAddress = ":5353"

// nameSockets opens the sockets with which web answers for the device's name, one of each family. Where the machine has another responder they share the
// port. What cannot be had is said and left out.
func nameSockets(ctx context.Context) (files []*os.File) {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		failed := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) })
		if failed != nil {
			return failed
		}
		return err
	}}
	for _, network := range []string{"udp4", "udp6"} {
		f, err := nameSocket(ctx, lc, network)
		if err != nil {
			slog.Warn("the device is not found by its name there", "network", network, "error", err)
			continue
		}
		files = append(files, f)
	}
	return files
}

func nameSocket(ctx context.Context, lc net.ListenConfig, network string) (*os.File, error) {
	c, err := lc.ListenPacket(ctx, network, mdnsAddress)
	if err != nil {
		return nil, fmt.Errorf("listen for names: %w", err)
	}
	defer c.Close()
	return c.(*net.UDPConn).File()
}

// managed reports whether Galvo looks after a port that the device is reached through.
func (p *places) managed(o Options) bool {
	if o.Appliance || o.Init != nil || o.Management != "" {
		return true
	}
	text, err := os.ReadFile(p.config)
	if err != nil {
		return false
	}
	c, err := config.Parse(text)
	return err == nil && c.Management.Port != ""
}
