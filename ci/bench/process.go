package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// settled waits until a process has had nothing to do for 1.5 s, and returns the processor time that it had taken by then. tcpdump's ring keeps its
// last frames back for a second. Nothing to do is less than a 50th of a processor above idle, the share of one that it takes for looking at its clocks.
func settled(ctx context.Context, pid int, idle float64) (time.Duration, error) {
	const step, steps = 50 * time.Millisecond, 30
	limit := step/50 + time.Duration(2*idle*float64(step))
	last, err := processorTime(pid)
	if err != nil {
		return 0, err
	}
	quiet := last
	for n := 0; n < steps; {
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(step):
		}
		now, err := processorTime(pid)
		if err != nil {
			return 0, err
		}
		if n++; now-last > limit {
			n, quiet = 0, now
		}
		last = now
	}
	return quiet, nil
}

// idleShare returns the share of a processor that a process takes while nothing is asked of it.
func idleShare(ctx context.Context, pid int) (float64, error) {
	const long = 2 * time.Second
	before, err := processorTime(pid)
	if err != nil {
		return 0, err
	}
	select {
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-time.After(long):
	}
	after, err := processorTime(pid)
	return float64(after-before) / float64(long), err
}

// processorTime adds up what all threads of a process have taken (proc(5), schedstat: ns on the processor).
func processorTime(pid int) (time.Duration, error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil {
		return 0, err
	}
	if len(files) == 0 {
		return 0, fmt.Errorf("process %d has ended", pid)
	}
	var sum time.Duration
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			continue // the thread has just ended
		}
		first, _, _ := strings.Cut(string(text), " ")
		n, err := strconv.ParseInt(first, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", f, err)
		}
		sum += time.Duration(n)
	}
	return sum, nil
}

// find returns the process below pid, or pid itself, that has a word in its command line; pid if the word is empty.
func find(pid int, word string) (int, error) {
	if word == "" {
		return pid, nil
	}
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return 0, err
	}
	if slices.Contains(strings.Split(string(line), "\x00"), word) {
		return pid, nil
	}
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		return 0, err
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			continue // the thread has just ended
		}
		for _, child := range strings.Fields(string(text)) {
			id, err := strconv.Atoi(child)
			if err != nil {
				return 0, fmt.Errorf("%s: %w", f, err)
			}
			if found, err := find(id, word); err == nil {
				return found, nil
			}
		}
	}
	return 0, fmt.Errorf("there is no process %q below process %d", word, pid)
}
