package main

import (
	"bytes"
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

// settled waits until a process has nothing to do any more, and returns the processor time that it had taken by then. Nothing to do is less than a 10th of a
// processor for 50 ms, with no thread that waits for one: on a busy machine that may take longer.
func settled(ctx context.Context, pid int) (time.Duration, error) {
	const step, steps = 10 * time.Millisecond, 5
	last, _, err := processorTime(pid)
	quiet := last
	for n := 0; n < steps && err == nil; {
		time.Sleep(step)
		var now time.Duration
		var runnable bool
		if now, runnable, err = processorTime(pid); runnable || now-last > step/10 {
			n, quiet = 0, now
		} else {
			n++
		}
		last = now
		err = errors.Join(err, ctx.Err())
	}
	return quiet, err
}

// processorTime adds up what all threads of a process have run (proc(5), schedstat: ns), and says whether one of them runs or could.
func processorTime(pid int) (ran time.Duration, runnable bool, err error) {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	if err != nil {
		return 0, false, err
	}
	if len(threads) == 0 {
		return 0, false, fmt.Errorf("process %d has ended", pid)
	}
	for _, t := range threads {
		stat, err1 := os.ReadFile(t + "/stat")
		sched, err2 := os.ReadFile(t + "/schedstat")
		if err1 != nil || err2 != nil {
			continue // the thread has just ended
		}
		_, state, _ := bytes.Cut(stat, []byte(") ")) // behind the name of the program
		runnable = runnable || bytes.HasPrefix(state, []byte("R"))
		first, _, _ := strings.Cut(string(sched), " ")
		n, err := strconv.ParseInt(first, 10, 64)
		if err != nil {
			return 0, false, fmt.Errorf("%s: %w", t, err)
		}
		ran += time.Duration(n)
	}
	return ran, runnable, nil
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
