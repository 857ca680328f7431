package boot

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"

	"galvo/services/api"
)

const reportPath = api.BootPath

// A report is what init tells the other processes: how the start went, and what is wrong. They read the file; nobody but init writes it.
type report struct {
	path string

	mu       sync.Mutex
	boot     api.Boot
	problems map[string]string // by what they are about
}

func (r *report) add(x result) {
	r.mu.Lock()
	defer r.mu.Unlock()
	row := api.BootStep{Phase: x.phase, Step: x.what, Begin: x.begin.Seconds(), Took: x.took.Seconds()}
	if x.err != nil {
		row.Error = x.err.Error()
		r.set(x.what, fmt.Sprintf("At the start init could not %s: %v.", x.what, x.err))
	}
	r.boot.Steps = append(r.boot.Steps, row)
	r.write()
}

// problem says what is wrong with something, or with an empty text that nothing is any more. It reports whether that is new.
func (r *report) problem(about, text string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.problems[about] == text {
		return false
	}
	r.set(about, text)
	r.write()
	return true
}

// set needs r.mu.
func (r *report) set(about, text string) {
	if r.problems == nil {
		r.problems = map[string]string{}
	}
	if text == "" {
		delete(r.problems, about)
	} else {
		r.problems[about] = text
	}
	r.boot.Problems = r.boot.Problems[:0]
	for _, p := range r.problems {
		r.boot.Problems = append(r.boot.Problems, p)
	}
	slices.Sort(r.boot.Problems)
}

// write needs r.mu. Readers see the old file or the new one.
func (r *report) write() {
	b, err := json.Marshal(r.boot)
	if err == nil {
		err = os.WriteFile(r.path+".new", b, 0o644)
	}
	if err == nil {
		err = os.Rename(r.path+".new", r.path)
	}
	if err != nil {
		slog.Error("write the report of the start", "error", err)
	}
}

// list returns the problems.
func (r *report) list() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.boot.Problems)
}
