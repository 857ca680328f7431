package boot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"galvo/services/api"
	"galvo/services/supervise"
)

// cgroups is where the services' control groups are.
const cgroups = "/sys/fs/cgroup/galvo"

// limits are what a service may take at most, so that one which runs wild does not take the machine with it (Documentation/admin-guide/cgroup-v2.rst).
var limits = map[api.Service]map[string]string{
	api.ServiceHost: {"pids.max": "512", "memory.high": "192M", "memory.max": "256M"},
	// The memory plan limits the engine. Here it is kept from taking what the others need to live.
	api.ServiceEngine: {"pids.max": "4096"},
	api.ServiceWeb:    {"pids.max": "2048", "memory.high": "192M", "memory.max": "256M"},
}

// othersNeed is what the kernel and the services beside the engine need to live.
const othersNeed = 256 << 20

func (m *machine) limit() error {
	if err := os.MkdirAll(cgroups, 0o755); err != nil {
		return err
	}
	var errs error
	for _, dir := range []string{filepath.Dir(cgroups), cgroups} {
		errs = errors.Join(errs, os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+memory +pids +cpu"), 0))
	}
	text, err := os.ReadFile("/proc/meminfo")
	errs = errors.Join(errs, err)
	total, err := memoryTotal(string(text))
	errs = errors.Join(errs, err)
	for service, files := range limits {
		dir := filepath.Join(cgroups, string(service))
		errs = errors.Join(errs, os.MkdirAll(dir, 0o755))
		for name, value := range files {
			errs = errors.Join(errs, os.WriteFile(filepath.Join(dir, name), []byte(value), 0))
		}
	}
	if total > othersNeed {
		most := fmt.Sprint(total - othersNeed)
		errs = errors.Join(errs, os.WriteFile(filepath.Join(cgroups, string(api.ServiceEngine), "memory.max"), []byte(most), 0))
	}
	return errs
}

// Addresses of the appliance (design: HTTPS on 443, 80 redirects).
const (
	listenHTTPS = ":443"
	listenHTTP  = ":80"
)

func (m *machine) startServices() error {
	ctx, cancel := context.WithCancel(context.Background())
	m.stop = cancel
	m.health.start(time.Now())
	probes := make(chan supervise.Probe, 1)
	o := supervise.Options{
		State: m.state, Listen: listenHTTPS, Redirect: listenHTTP, Stdout: m.console, Stderr: m.console,
		Init: &supervise.Init{
			Children: m.children, Cgroups: cgroups,
			Started: m.health.begin,
			Ended:   m.serviceEnded,
			Log:     m.logs.add,
			Serving: func(p supervise.Probe) { probes <- p },
		},
	}
	if _, err := os.Stat(cgroups); err != nil {
		o.Init.Cgroups = ""
	}
	go guard("services", func() {
		err := errors.New("the supervision of the services failed")
		defer func() { m.services <- err }()
		err = supervise.Run(ctx, o)
	})
	go guard("health", func() {
		select {
		case <-ctx.Done():
		case p := <-probes:
			m.health.watch(ctx, p)
		}
	})
	return nil
}

// serviceEnded hears of every end of a service.
func (m *machine) serviceEnded(service, reason string, ran time.Duration) {
	m.health.end(service, reason, ran)
	if m.dataLost.Load() {
		select {
		case m.homeless <- struct{}{}:
		default:
		}
	}
}

// waitForPage is the step of awaitServices.
const waitForPage = "wait for the page"

// awaitServices waits until web and engine answer. The watchdog is fed meanwhile as at any other time.
func (m *machine) awaitServices() error {
	for begin := time.Now(); time.Since(begin) < patience; {
		web, engine := m.health.get(api.ServiceWeb), m.health.get(api.ServiceEngine)
		if well(time.Now(), web, engine) {
			return nil
		}
		v := judge(time.Now(), web, engine, m.onTrial)
		if v.reboot != "" {
			m.power <- request{restart, v.reboot}
			return errors.New(v.reboot)
		}
		m.watchdog.feed()
		select {
		case err := <-m.services:
			m.services <- err
			return fmt.Errorf("start the services: %w", err)
		case r := <-m.power:
			m.power <- r
			return fmt.Errorf("%s was asked for", r.what)
		case <-time.After(100 * time.Millisecond):
		}
		if v := judge(time.Now(), web, engine, false); len(v.problems[string(api.ServiceEngine)])+len(v.problems[string(api.ServiceWeb)]) > 0 {
			break
		}
	}
	return errors.New("web or engine does not answer yet; they are started again by themselves")
}
