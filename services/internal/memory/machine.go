package memory

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"galvo/services/config"
)

// maxWorkers is the most workers that the engine makes: beyond that the kernel's half of the work is the limit.
const maxWorkers = 64

// Machine returns the settings of a plan for this machine and a configuration. A share of 0 is that of a plain host.
func Machine(c *config.Config) (Settings, error) {
	total, err := total()
	if err != nil {
		return Settings{}, err
	}
	workers := c.Engine.Workers
	if workers == 0 {
		workers = runtime.NumCPU()
	}
	return Settings{
		Total: total, Percent: cmp.Or(c.Engine.MemoryPercent, HostPercent), Ports: max(1, len(c.Ports)), Workers: min(workers, maxWorkers),
		Captures: c.Captures.Max, CaptureQueueBytes: c.Captures.QueueBytes, CaptureHoldBytes: c.Captures.HoldBytes,
		Rings: c.Rings.Max, RingQueueBytes: c.Rings.QueueBytes, ReorderBytes: c.Rings.ReorderBytes,
		Slots: c.Analysis.Slots, AnalysisPercent: c.Analysis.MemoryPercent,
		Flows: c.Engine.Flows, L7: c.Engine.L7,
	}, nil
}

// total returns the bytes of memory that the machine has, or the control group that this process is in if that may have less.
func total() (uint64, error) {
	machine, err := memTotal()
	if err != nil {
		return 0, err
	}
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return machine, nil // a kernel without control groups
	}
	return min(machine, groupLimit("/sys/fs/cgroup", string(own), machine)), nil
}

// services is the control group in which an appliance's init limits each service by itself.
const services = "/galvo/"

// hierarchies are where the kernel says what a control group may have (cgroups(7)): by controller, the directory below the mount point and the files with a
// limit in bytes. Beyond the first limit the kernel kills, beyond memory.high it holds up who asks for memory, which a worker cannot afford either.
var hierarchies = map[string]struct {
	dir   string
	files []string
}{
	"":       {"", []string{"memory.max", "memory.high"}},   // version 2
	"memory": {"memory", []string{"memory.limit_in_bytes"}}, // version 1
}

// groupLimit returns the least limit of a process's control group and those above it, or none. The topmost group counts too: in a container it is the
// container's own. What init allows one service is no size of the machine: host, which has little, plans for the engine.
func groupLimit(root, own string, none uint64) uint64 {
	for line := range strings.Lines(own) {
		_, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
		controllers, path, ok := strings.Cut(rest, ":")
		if !ok {
			continue
		}
		if strings.HasPrefix(path, services) {
			path = services
		}
		for controller := range strings.SplitSeq(controllers, ",") {
			h := hierarchies[controller]
			for _, name := range h.files {
				none = min(none, leastAbove(filepath.Join(root, h.dir), path, name, none))
			}
		}
	}
	return none
}

// leastAbove returns the least number in the files of one name in the directory path below root and those above it up to root, or none. A path that is not
// there is that of a container's host, of which the container sees only the top.
func leastAbove(root, path, name string, none uint64) uint64 {
	for path = filepath.Join("/", path); ; path = filepath.Dir(path) {
		if text, err := os.ReadFile(filepath.Join(root, path, name)); err == nil {
			if n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64); err == nil { // else it is "max"
				none = min(none, n)
			}
		}
		if path == "/" {
			return none
		}
	}
}

// memTotal returns the bytes of memory that the machine has.
func memTotal() (uint64, error) {
	info, err := memInfo()
	if err == nil && info["MemTotal"] == 0 {
		err = errors.New("read the size of memory: /proc/meminfo has no MemTotal")
	}
	return info["MemTotal"], err
}

// Used returns the bytes of the machine's memory that cannot be had: by the kernel and all programs. It fails where a control group has less than the machine,
// because what others use of the machine is then nothing of what Galvo shares out.
func Used() (uint64, error) {
	info, err := memInfo()
	if err != nil {
		return 0, err
	}
	if limit, err := total(); err != nil || limit < info["MemTotal"] {
		return 0, cmp.Or(err, errors.New("the memory of a control group is shared out"))
	}
	return info["MemTotal"] - min(info["MemTotal"], info["MemAvailable"]), nil
}

// memInfo returns the rows of /proc/meminfo in bytes (proc(5)).
func memInfo() (map[string]uint64, error) {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return nil, fmt.Errorf("read the size of memory: %w", err)
	}
	info := map[string]uint64{}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) >= 2 {
			if kib, err := strconv.ParseUint(f[1], 10, 64); err == nil {
				info[strings.TrimSuffix(f[0], ":")] = kib * 1024
			}
		}
	}
	return info, nil
}
