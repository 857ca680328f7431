package supervise

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"galvo/services/api"
)

// PasswordVariable is the environment variable with the first password of the user admin. Only web gets it.
const PasswordVariable = "GALVO_ADMIN_PASSWORD"

// What the heaps of host and web are kept below, if that is possible: together what the memory plan sets aside for the program. The engine
// has the plan's own number. Checking one password takes 19 MiB.
const (
	hostHeap = "24MiB"
	webHeap  = "64MiB"
)

// roles returns the services in the order in which they are started. The flags are what package main reads for each role; a role's working
// directory is its part of the state, so that it needs no right to pass through the directories above it.
func roles(o Options, p *places, bound *net.TCPAddr, instance uint64, sockets []*os.File) []*service {
	host := &service{
		name: string(api.ServiceHost), essential: true, heap: hostHeap, dir: filepath.Join(p.state, "host"), socket: api.SocketPath(p.run, api.ServiceHost),
		args: []string{"-config", p.config, "-run", p.run, "-listen", bound.String(), "-instance", fmt.Sprint(instance),
			"-engine-user", fmt.Sprint(p.engine.user), "-web-user", fmt.Sprint(p.web.user)},
	}
	for _, name := range o.Interfaces {
		host.args = append(host.args, "-interface", name)
	}
	if o.Appliance || o.Init != nil {
		host.args = append(host.args, "-appliance")
	}
	if o.Init != nil && o.Init.Cgroups != "" {
		host.args = append(host.args, "-cgroups", o.Init.Cgroups)
	}
	if o.Management != "" {
		host.args = append(host.args, "-management", o.Management)
	}
	engine := &service{
		name: string(api.ServiceEngine), dir: filepath.Join(p.state, "engine"), socket: api.SocketPath(p.run, api.ServiceEngine), after: host.socket,
		args: append(p.engine.flags(), "-run", p.run, "-callers", fmt.Sprintf("%d,%d", p.web.user, os.Getuid())),
	}
	if p.root && p.apart {
		// Its packet sockets belong to the namespace in which they were made; in its own there is nothing to be reached.
		engine.namespaces = syscall.CLONE_NEWNET
	}
	web := &service{
		name: string(api.ServiceWeb), essential: true, heap: webHeap, dir: filepath.Join(p.state, "web"), files: sockets,
		args: append(p.web.flags(), "-run", p.run),
		env:  []string{PasswordVariable},
	}
	if len(sockets) > 1 {
		web.args = append(web.args, "-redirect")
	}
	for _, a := range addresses() {
		web.args = append(web.args, "-address", a)
	}
	all := []*service{host, engine, web}
	for _, s := range all {
		s.binary = o.binary
		if s.binary == "" {
			s.binary = "/proc/self/exe"
		}
		s.answers = func(context.Context) error { return connect(s.socket) }
		s.environ = append(environ(s.env), o.env...)
		if s.heap != "" {
			s.environ = append(s.environ, "GOMEMLIMIT="+s.heap)
		}
	}
	// Its socket takes connections before it is there.
	local, _ := urls(bound)
	web.answers = Probe{page: local}.Page
	return all
}

func (i identity) flags() []string {
	return []string{"-user", fmt.Sprint(i.user), "-group", fmt.Sprint(i.group)}
}

// environ is this process's environment without what only some role may know.
func environ(keep []string) []string {
	var env []string
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		if name == PasswordVariable && !slices.Contains(keep, name) {
			continue
		}
		env = append(env, kv)
	}
	return env
}

// addresses returns the machine's own, for the certificate: web has no way of asking the kernel.
func addresses() []string {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	var out []string
	for _, a := range list {
		if n, ok := a.(*net.IPNet); ok && !n.IP.IsLinkLocalUnicast() && len(out) < 32 {
			out = append(out, n.IP.String())
		}
	}
	return out
}
