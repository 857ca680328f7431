package module

import (
	"fmt"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
)

// A plan is modules that are to be loaded: each waits for what it needs, and else they go side by side, since much of a machine's start is
// drivers that look for their devices. It needs the index's lock.
type plan struct {
	index  *Index
	order  []*job          // each after what it waits for, so that they cannot wait in circles
	jobs   map[string]*job // by name; nil while it is being added
	wanted []*job
	nic    *job // the last one that is a NIC's driver
}

// nicDrivers is where the drivers of NICs are. They go one after the other: the names that NICs get are by who comes first, and configurations have them.
const nicDrivers = "kernel/drivers/net/"

// A job is one module.
type job struct {
	name, path string
	needs      []*job // must have worked
	after      []*job // must have ended
	err        error
	ended      chan struct{}
}

// mostNested ends circles of soft dependencies.
const mostNested = 8

// want adds modules whose errors matter.
func (p *plan) want(names []string) {
	for _, n := range names {
		if j := p.add(n, 0); j != nil && !slices.Contains(p.wanted, j) {
			p.wanted = append(p.wanted, j)
		}
	}
}

// add adds a module with what comes before and after it. It returns nil where there is nothing to wait for: it is loaded, or it is what asks.
func (p *plan) add(name string, depth int) *job {
	if j, ok := p.jobs[name]; ok {
		return j
	}
	e, ok := p.index.modules[name]
	if !ok || p.index.loaded[name] || depth > mostNested {
		return nil
	}
	p.index.loaded[name] = true // also where it fails: trying again at every event would not help
	p.jobs[name] = nil
	j := &job{name: name, path: filepath.Join(p.index.dir, e.path), ended: make(chan struct{})}
	for _, dep := range e.deps {
		if d := p.add(nameOf(dep), depth); d != nil {
			j.needs = append(j.needs, d)
		}
	}
	j.after = p.soft(p.index.soft[name].before, depth)
	if strings.HasPrefix(e.path, nicDrivers) {
		if p.nic != nil {
			j.after = append(j.after, p.nic)
		}
		p.nic = j
	}
	p.jobs[name], p.order = j, append(p.order, j)
	planned := len(p.order)
	for _, later := range p.soft(p.index.soft[name].after, depth) {
		for _, fresh := range p.order[planned:] {
			if fresh == later {
				later.after = append(later.after, j)
			}
		}
	}
	return j
}

// soft adds what may be missing.
func (p *plan) soft(names []string, depth int) (jobs []*job) {
	for _, s := range names {
		for _, n := range p.index.resolve(s) {
			if j := p.add(n, depth+1); j != nil {
				jobs = append(jobs, j)
			}
		}
	}
	return jobs
}

// run loads the modules, and returns an error for each that was wanted and could not be loaded.
func (p *plan) run() (errs []error) {
	var running sync.WaitGroup
	free := make(chan struct{}, runtime.NumCPU())
	for _, j := range p.order {
		running.Go(func() {
			defer close(j.ended)
			if j.err = j.await(); j.err == nil {
				free <- struct{}{}
				j.err = j.insert(p.index.insert)
				<-free
			}
		})
	}
	running.Wait()
	for _, j := range p.wanted {
		if j.err != nil {
			errs = append(errs, j.err)
		}
	}
	return errs
}

// await waits until the module can be loaded.
func (j *job) await() error {
	for _, a := range j.after {
		<-a.ended
	}
	for _, n := range j.needs {
		if <-n.ended; n.err != nil {
			return fmt.Errorf("%w, which %s needs", n.err, j.name)
		}
	}
	return nil
}

// insert gives the module to the kernel. It is init that calls this, which must not end by a panic.
func (j *job) insert(insert func(path string) error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("load %s: %v\n%s", j.name, r, debug.Stack())
		}
	}()
	if err := insert(j.path); err != nil {
		return fmt.Errorf("load %s: %w", j.name, err)
	}
	return nil
}
