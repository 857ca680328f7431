package boot

import (
	"context"
	"os"
	"os/exec"
	"time"
)

// rescuePause keeps a console that cannot be had from taking a processor.
const rescuePause = 5 * time.Second

// startRescue keeps the rescue console running: a process of its own, so that nothing which a person does there harms init.
func (m *machine) startRescue() error {
	ctx, cancel := context.WithCancel(context.Background())
	m.stopRescue = cancel
	go guard("rescue console", func() {
		for ctx.Err() == nil {
			m.rescue(ctx)
			select {
			case <-ctx.Done():
			case <-time.After(rescuePause):
			}
		}
	})
	return nil
}

func (m *machine) rescue(ctx context.Context) {
	tty, err := os.OpenFile("/dev/console", os.O_RDWR, 0)
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
