package boot

import (
	"context"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"
)

// rescuePause keeps a console that cannot be had from taking a processor.
const rescuePause = 5 * time.Second

// startRescue keeps a rescue console running at each console: a process of its own, so that nothing which a person does there harms init.
func (m *machine) startRescue() error {
	ctx, cancel := context.WithCancel(context.Background())
	m.stopRescue = cancel
	for _, device := range m.console.devices() {
		go guard("rescue console", func() {
			for ctx.Err() == nil {
				m.rescue(ctx, device)
				select {
				case <-ctx.Done():
				case <-time.After(rescuePause):
				}
			}
		})
	}
	return nil
}

func (m *machine) rescue(ctx context.Context, device string) {
	tty, err := os.OpenFile(device, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return // a machine without one
	}
	defer tty.Close()
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Args = []string{"galvo", "rescue", "-state", m.state, "-copy", ramState}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
	if err := m.children.Start(cmd); err != nil {
		m.say("start the rescue console: %v", err)
		return
	}
	m.children.Wait(cmd)
}
