package supervise

import (
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// An Init is what is different where init supervises: nothing that a service does ends the run, and init wants to know how they are. All calls
// may come at the same time. The methods of a nil *Init do what `galvo run` does.
type Init struct {
	Children *Children // starts the processes and waits for them
	Cgroups  string    // folder of control groups, with one for each service by its name; empty is none

	Started func(service string, pid int)
	Ended   func(service, reason string, ran time.Duration)
	Log     func(service, line string) // gets what the service says
	Serving func(Probe)                // once, when the services were started
}

func (i *Init) start(service string, cmd *exec.Cmd) error {
	if i == nil {
		return cmd.Start()
	}
	if i.Cgroups != "" {
		// A control group that cannot be used costs its limits, not the service.
		if group, err := os.Open(filepath.Join(i.Cgroups, service)); err != nil {
			slog.Warn("a service runs without its limits", "service", service, "error", err)
		} else {
			defer group.Close()
			cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(group.Fd())
		}
	}
	if err := i.Children.Start(cmd); err != nil {
		return fmt.Errorf("start %s: %w", service, err)
	}
	if i.Started != nil {
		i.Started(service, cmd.Process.Pid)
	}
	return nil
}

func (i *Init) wait(cmd *exec.Cmd) error {
	if i == nil {
		return cmd.Wait()
	}
	return i.Children.Wait(cmd)
}

func (i *Init) ended(service, reason string, ran time.Duration) {
	if i != nil && i.Ended != nil {
		i.Ended(service, reason, ran)
	}
}

func (i *Init) log(service, line string) {
	if i != nil && i.Log != nil {
		i.Log(service, line)
	}
}

func (i *Init) serving(p Probe) {
	if i != nil && i.Serving != nil {
		i.Serving(p)
	}
}
