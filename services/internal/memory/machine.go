package memory

import (
	"bufio"
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

// groupLimit returns the least limit of a process's control group and those above it (cgroups(7), version 2), or none.
func groupLimit(root, own string, none uint64) uint64 {
	for line := range strings.Lines(own) {
		path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::")
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

// memTotal returns the bytes of memory that the machine has (proc(5)).
func memTotal() (uint64, error) {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0, fmt.Errorf("read the size of memory: %w", err)
	}
	defer f.Close()
	for in := bufio.NewScanner(f); in.Scan(); {
		if f := strings.Fields(in.Text()); len(f) >= 2 && f[0] == "MemTotal:" {
			kib, err := strconv.ParseUint(f[1], 10, 64)
			return kib * 1024, err
		}
	}
	return 0, errors.New("read the size of memory: /proc/meminfo has no MemTotal")
}
