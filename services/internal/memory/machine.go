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

// groupLimit returns the least limit of a process's control group and those above it (cgroups(7), version 2), or none. What init allows one service is
// no size of the machine: host, which has little, plans for the engine.
func groupLimit(root, own string, none uint64) uint64 {
	for line := range strings.Lines(own) {
		path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::")
		if strings.HasPrefix(path, services) {
			path = filepath.Dir(path)
		}
		for ; ok && path != "/" && path != "."; path = filepath.Dir(path) {
			text, err := os.ReadFile(filepath.Join(root, path, "memory.max"))
			if err != nil {
				continue
			}
			if n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64); err == nil { // else it is "max"
				none = min(none, n)
			}
		}
	}
	return none
}

// memTotal returns the bytes of memory that the machine has.
func memTotal() (uint64, error) {
	info, err := memInfo()
	if err == nil && info["MemTotal"] == 0 {
		err = errors.New("read the size of memory: /proc/meminfo has no MemTotal")
	}
	return info["MemTotal"], err
}

// Used returns the bytes of the machine's memory that cannot be had: by the kernel and all programs.
func Used() (uint64, error) {
	info, err := memInfo()
	return info["MemTotal"] - min(info["MemTotal"], info["MemAvailable"]), err
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
