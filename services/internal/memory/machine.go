package memory

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"

	"galvo/services/config"
)

// maxWorkers is the most workers that the engine makes: beyond that the kernel's half of the work is the limit.
const maxWorkers = 64

// Machine returns the settings of a plan for this machine and a configuration.
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
		Total: total, Percent: c.Engine.MemoryPercent, Ports: max(1, len(c.Ports)), Workers: min(workers, maxWorkers),
		Captures: c.Captures.Max, CaptureQueueBytes: c.Captures.QueueBytes, CaptureHoldBytes: c.Captures.HoldBytes,
		Rings: c.Rings.Max, RingQueueBytes: c.Rings.QueueBytes, ReorderBytes: c.Rings.ReorderBytes,
		Slots: c.Analysis.Slots, AnalysisPercent: c.Analysis.MemoryPercent,
		Flows: c.Engine.Flows, L7: c.Engine.L7,
	}, nil
}

// total returns the bytes of memory that the machine has (proc(5)).
func total() (uint64, error) {
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
