// Package boot is PID 1 of the appliance, `galvo init`: it mounts, loads modules, supervises the services, feeds the watchdog, confirms an update,
// and ends the machine in order.
//
// What happens at the start is a table of steps in phases: a step that must work and does not ends the start with a reason on the console, and a reboot while the
// running image is on trial; any other leaves a degraded device, whose page says what is wrong. PID 1 parses nothing that comes from a network, opens no network socket but the
// listening ones that web inherits, and has no goroutine whose panic would end it. Whatever it starts, it waits for.
package boot

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"sync/atomic"
	"time"

	"galvo/board"
	"galvo/initramfs/module"
	"galvo/services/supervise"
)

// Options are what `galvo init` runs with.
type Options struct {
	Version string
	Console io.Writer // what a person sees
	Slots   Slots
	Board   func() (*board.Board, error) // what the machine is
}

// Slots are where the image that runs came from, and its updates (package slot). On a machine that was started from no disk there are none.
type Slots interface {
	// Adopt returns the data partition of the disk that the device was started from, which it makes at the first boot.
	Adopt(systemBytes int64) (dataPartition string, err error)
	// TriesLeft returns how often the image that runs will still be started unless it is confirmed.
	TriesLeft() (left int, counted bool, err error)
	// Confirm makes the image that runs the one to stay.
	Confirm() (changed bool, err error)
}

// A machine is the appliance while it runs. Its fields belong to the goroutine of Run; what others tell it comes through channels.
type machine struct {
	options  Options
	started  time.Time // when the kernel started
	console  *consoles
	report   *report
	logs     *logs
	children *supervise.Children
	modules  *module.Index
	watchdog *watchdog
	state    string // state directory
	mounted  string // the device that it is on; empty is memory
	health   *health
	board    *board.Board
	onTrial  bool // the image was not confirmed, and falls back by itself after so many boots
	power    chan request
	shown    string // the console's first page as it is shown
	lamps    []*lamp

	services chan error // supervise has ended
	stop     context.CancelFunc
	dataLost atomic.Bool   // the data partition cannot be written any more
	homeless chan struct{} // a service ended after that

	stopRescue context.CancelFunc
}

// phases is what init does at the start, in order.
func phases() []phase {
	return []phase{
		{"early", []step{
			{"mount the kernel's file systems", must, (*machine).mountKernel},
			{"open the consoles", degrade, (*machine).openConsoles},
			{"read the description of the board", degrade, (*machine).readBoard},
			{"look at the memory", must, (*machine).checkMemory},
			{"set the kernel's parameters", degrade, (*machine).setParameters},
			{"switch the loopback link on", degrade, (*machine).loopback},
			{"listen for commands", degrade, (*machine).listen},
		}},
		{"modules", []step{
			{"load the modules of all devices", degrade, (*machine).coldplug},
			{"start the watchdog", degrade, (*machine).startWatchdog},
			{"watch the power button", degrade, (*machine).watchButtons},
			{"find the LEDs", degrade, (*machine).findLamps},
		}},
		{"storage", []step{
			{"mount the firmware's variables", degrade, (*machine).mountVariables},
			{"find the data partition", degrade, (*machine).mountData},
			{"seed the random generator", degrade, (*machine).stirSeed},
			{"see whether the image is on trial", degrade, (*machine).lookAtSlot},
		}},
		{"services", []step{
			{"limit the services", degrade, (*machine).limit},
			{"start the services", degrade, (*machine).startServices},
			{"start the rescue console", degrade, (*machine).startRescue},
			{waitForPage, degrade, (*machine).awaitServices},
		}},
		{"confirm", []step{
			{"confirm the running image", degrade, (*machine).confirm},
		}},
	}
}

// Run is the life of the machine. It returns only when it is not PID 1; a PID 1 ends with a reboot or without power.
func Run(ctx context.Context, o Options) error {
	if os.Getpid() != 1 {
		return fmt.Errorf("init is the first process of an appliance; on a host that runs already, start `galvo run`")
	}
	m := newMachine(o)
	defer func() {
		// Nothing is left to save here but the disk.
		if p := recover(); p != nil {
			m.say("init failed: %v\n%s", p, debug.Stack())
			m.end(request{restart, "init failed"})
		}
	}()
	m.say("galvo %s: init starts", o.Version)
	go guard("reap", m.reap)
	if failed := m.boot(phases()); failed != nil {
		m.end(m.refuse(ctx, failed))
	}
	m.end(m.attend(ctx))
	return nil
}

func newMachine(o Options) *machine {
	m := &machine{
		options: o, started: kernelStart(), console: newConsoles(o.Console), children: &supervise.Children{},
		power: make(chan request, 4), services: make(chan error, 1), homeless: make(chan struct{}, 1), health: newHealth(time.Now()), state: ramState, board: &board.Board{MemoryFloorBytes: leastMemory},
	}
	m.logs = newLogs()
	m.report = &report{path: reportPath}
	slog.SetDefault(slog.New(slog.NewTextHandler(m.console, nil)))
	return m
}

// say writes a line for the person at the console.
func (m *machine) say(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	m.logs.add("init", text)
	fmt.Fprintln(m.console, text)
}

// guard runs f, and does not let a panic in it end PID 1.
func guard(what string, f func()) {
	defer func() {
		if p := recover(); p != nil {
			slog.Error("a part of init failed", "part", what, "panic", p, "stack", string(debug.Stack()))
		}
	}()
	f()
}
