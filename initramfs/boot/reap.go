package boot

import (
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"
)

// reap waits for processes whose parents have ended. A signal that gets lost, as several at once do, costs a second.
func (m *machine) reap() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGCHLD)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-signals:
		case <-tick.C:
		}
		m.children.Reap()
	}
}
