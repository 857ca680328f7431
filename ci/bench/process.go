package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// settled waits until a process has nothing to do any more, and returns the processor time that it had taken by then. Nothing to do is to run, or to wait for
// its turn, for less than a 10th of 50 ms.
func settled(ctx context.Context, pid int) (time.Duration, error) {
	const step, steps = 10 * time.Millisecond, 5
	last, lastWaited, err := processorTime(pid)
	quiet := last
	for n := 0; n < steps && err == nil; {
		time.Sleep(step)
		var now, waited time.Duration
		if now, waited, err = processorTime(pid); now-last+waited-lastWaited > step/10 {
			n, quiet = 0, now
		} else {
			n++
		}
		last, lastWaited = now, waited
		err = errors.Join(err, ctx.Err())
	}
	return quiet, err
}

// processorTime adds up what all threads of a process have run, and waited for their turn (proc(5), schedstat: ns).
func processorTime(pid int) (ran, waited time.Duration, err error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil {
		return 0, 0, err
	}
	if len(files) == 0 {
		return 0, 0, fmt.Errorf("process %d has ended", pid)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			continue // the thread has just ended
		}
		var a, b time.Duration
		if _, err := fmt.Sscan(string(text), &a, &b); err != nil {
			return 0, 0, fmt.Errorf("%s: %w", f, err)
		}
		ran, waited = ran+a, waited+b
	}
	return ran, waited, nil
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
