package boot

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"galvo/services/api"
)

// A request is somebody's wish to end the machine.
type request struct {
	what power
	why  string
}

// power is how the machine ends.
type power string

const (
	restart  power = "reboot"
	poweroff power = "poweroff"
)

// commands of reboot(2).
var commands = map[power]int{restart: unix.LINUX_REBOOT_CMD_RESTART, poweroff: unix.LINUX_REBOOT_CMD_POWER_OFF}

// attend is what init does for the rest of the machine's life. It returns how that ends.
func (m *machine) attend(ctx context.Context) request {
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	m.welcome()
	if m.mounted != "" {
		go guard("data", m.watchData)
	}
	for {
		select {
		case <-ctx.Done():
			// SIGINT is Ctrl-Alt-Del, SIGTERM what `kill 1` sends.
			return request{restart, "a signal asked for it"}
		case r := <-m.power:
			return r
		case <-m.homeless:
			if m.mounted != "" {
				m.leaveDisk()
			}
		case err := <-m.services:
			m.report.problem("supervision", fmt.Sprintf("The services cannot be started: %v.", err))
			m.say("the services cannot be started: %v; trying again", err)
			m.startServices()
		case <-tick.C:
			if r := m.look(time.Now()); r != nil {
				return *r
			}
		}
	}
}

// look judges how the services are, and feeds the watchdog.
func (m *machine) look(now time.Time) *request {
	web, engine := m.health.get(api.ServiceWeb), m.health.get(api.ServiceEngine)
	v := judge(now, web, engine, m.onTrial)
	if v.reboot != "" {
		return &request{restart, v.reboot}
	}
	for _, hung := range []vital{web, engine} {
		if hung.hung(now) {
			m.say("process %d has not answered for %s and is killed", hung.pid, now.Sub(hung.answered).Round(time.Second))
			unix.Kill(hung.pid, unix.SIGKILL)
		}
	}
	for service, text := range v.problems {
		if m.report.problem(service, text) && text != "" {
			m.say("%s", text)
		}
	}
	if well(now, web, engine) {
		m.report.problem(waitForPage, "") // they came late, and are there
	}
	if m.onTrial && well(now, web, engine) {
		about, text := "confirm the running image", ""
		if err := m.confirm(); err != nil {
			text = fmt.Sprintf("The running image cannot be confirmed: %v.", err)
		}
		m.report.problem(about, text)
	}
	m.welcome()
	m.light(condition{well(now, web, engine), len(m.report.list()) > 0, m.health.capturing.Load()})
	if v.feed {
		m.watchdog.feed()
	}
	return nil
}

// refuse is what becomes of a machine that cannot start: one whose image is on trial tries again, any other says why and waits for a person.
func (m *machine) refuse(ctx context.Context, failed *result) request {
	if m.modules == nil { // as far as it did not come, the disk cannot be seen
		m.coldplug()
		m.lookAtSlot()
	}
	if m.onTrial {
		return request{restart, failed.err.Error()}
	}
	m.say("\nGalvo cannot start on this machine.\n  %v\nThe power button or Ctrl-Alt-Del ends it.", failed.err)
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	// What listens to the button may not have been started.
	m.watchButtons()
	for {
		select {
		case <-ctx.Done():
			return request{restart, "a signal asked for it"}
		case r := <-m.power:
			return r
		case <-tick.C:
			m.watchdog.feed()
		}
	}
}

// Limits of an orderly end. The watchdog ends what hangs.
const (
	servicesEnd = 40 * time.Second
	killEnd     = 5 * time.Second
)

// end ends the machine: services in reverse order, then every other process, then the disk.
func (m *machine) end(r request) {
	m.say("%s: %s", r.what, r.why)
	m.watchdog.feed()
	if m.stopRescue != nil {
		m.stopRescue()
	}
	if m.stop != nil {
		m.stop()
		select {
		case <-m.services:
		case <-time.After(servicesEnd):
			m.say("the services do not end")
		}
	}
	m.watchdog.feed()
	unix.Kill(-1, unix.SIGTERM)
	unix.Kill(-1, unix.SIGKILL)
	for deadline := time.Now().Add(killEnd); len(userProcesses()) > 0 && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
	}
	m.keepSeed()
	m.unmountData()
	unix.Sync()
	m.light(condition{})
	m.say("%s now", r.what)
	m.console.Flush()
	if err := unix.Reboot(commands[r.what]); err != nil {
		m.say("%s: %v", r.what, err)
	}
	// Where power cannot be switched off the machine stands still.
	unix.Reboot(unix.LINUX_REBOOT_CMD_HALT)
}

// userProcesses returns the processes beside this one that have a program, which kernel threads do not.
func userProcesses() (pids []string) {
	all, _ := os.ReadDir("/proc")
	for _, d := range all {
		if strings.Trim(d.Name(), "0123456789") != "" || d.Name() == "1" {
			continue
		}
		if line, err := os.ReadFile("/proc/" + d.Name() + "/cmdline"); err == nil && len(line) > 0 {
			pids = append(pids, d.Name())
		}
	}
	return pids
}

// listen takes commands of root's processes.
func (m *machine) listen() error {
	l, err := api.Listen(api.InitPath, 0)
	if err != nil {
		return err
	}
	if err := os.Chmod(api.InitPath, 0o600); err != nil {
		return err
	}
	go guard("commands", func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go guard("command", func() { m.answer(c) })
		}
	})
	return nil
}

// answer answers one command.
func (m *machine) answer(c net.Conn) {
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	line, err := bufio.NewReader(io.LimitReader(c, 4096)).ReadString('\n')
	if err != nil {
		return
	}
	text, err := m.command(strings.Fields(line))
	if err != nil {
		fmt.Fprintf(c, "error %v\n", err)
		return
	}
	fmt.Fprintf(c, "ok\n%s", text)
}

// answerFirst is the time for the answer to reach whoever asked, before the services end that carry it.
const answerFirst = 500 * time.Millisecond

func (m *machine) command(words []string) (string, error) {
	switch {
	case len(words) == 1 && (words[0] == string(restart) || words[0] == string(poweroff)):
		time.AfterFunc(answerFirst, func() {
			select {
			case m.power <- request{power(words[0]), "asked for"}:
			default: // others have asked
			}
		})
		return "", nil
	case len(words) == 2 && words[0] == "log":
		return m.logs.text(words[1])
	case len(words) > 1 && words[0] == "problem":
		m.report.problem(words[1], strings.Join(words[2:], " ")) // no text: it is none any more
		return "", nil
	}
	return "", fmt.Errorf("there is no command %q", strings.Join(words, " "))
}

func trim(b []byte) string { return string(bytes.TrimSpace(b)) }
