package capture

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"galvo/services/api"
	"galvo/services/durable"
)

// FORMAT.md describes the files: finished.json, and one file for each capture that runs or waits, which holds its description and its
// counters. The counters are mapped into memory, so they are those of the last batch however the engine ends.

const (
	finishedName = "finished.json"
	fileVersion  = 1 // of it, and of the files of running captures
)

// When what was written is synced. Nobody waits for it: what a killed engine has written the kernel keeps, and a capture that a power cut takes so soon after it began
// has given nothing to anybody that would have to be accounted for.
const (
	syncAfter = time.Second            // after a capture began
	saveAfter = 250 * time.Millisecond // after one ended
)

// saveSoon has the list of finished captures saved. Until then the files of those that ended say how. cs.mu is held.
func (cs *Captures) saveSoon() {
	cs.unsaved = true
	if cs.saver == nil && cs.Directory != "" {
		cs.saver = time.AfterFunc(saveAfter, func() {
			if err := cs.save(); err != nil {
				cs.Report(err)
			}
		})
	}
}

// save saves the list of finished captures, unless it is as it was saved last, and removes the files of those that are in it.
func (cs *Captures) save() error {
	cs.saving.Lock()
	defer cs.saving.Unlock()
	cs.mu.Lock()
	list, ended, unsaved := slices.Clone(cs.finished), cs.ended, cs.unsaved
	cs.ended, cs.unsaved = nil, false
	if cs.saver != nil {
		cs.saver.Stop()
		cs.saver = nil
	}
	cs.mu.Unlock()
	if !unsaved {
		return nil
	}
	if err := cs.saveFinished(list); err != nil {
		cs.mu.Lock()
		cs.ended, cs.unsaved = append(ended, cs.ended...), true // the next one that ends has it tried again
		cs.mu.Unlock()
		return err
	}
	var err error
	for _, f := range ended {
		err = errors.Join(err, f.remove())
	}
	return err
}

// saveFinished writes the list of finished captures.
func (cs *Captures) saveFinished(list []api.Capture) error {
	if cs.Directory == "" {
		return nil
	}
	b, err := json.Marshal(finishedFile{fileVersion, list})
	if err != nil {
		return fmt.Errorf("save the finished captures: %w", err)
	}
	if err := durable.WriteFile(filepath.Join(cs.Directory, finishedName), b); err != nil {
		return fmt.Errorf("save the finished captures: %w", err)
	}
	return nil
}

type finishedFile struct {
	Version  int           `json:"version"`
	Captures []api.Capture `json:"captures"`
}

// recover reads the finished captures, and those that were cut off.
func (cs *Captures) recover() error {
	if cs.Directory == "" {
		return nil
	}
	if err := os.MkdirAll(cs.Directory, 0o700); err != nil {
		return fmt.Errorf("keep captures: %w", err)
	}
	err := cs.readFinished()
	entries, dirErr := os.ReadDir(cs.Directory)
	err = errors.Join(err, dirErr)
	var files []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), runningSuffix) {
			files = append(files, filepath.Join(cs.Directory, e.Name()))
		}
		if ok, _ := filepath.Match(durable.Aside, e.Name()); ok {
			err = errors.Join(err, os.Remove(filepath.Join(cs.Directory, e.Name())))
		}
	}
	if len(files) == 0 {
		return err
	}
	for _, path := range files {
		err = errors.Join(err, cs.readCutOff(path))
	}
	slices.SortStableFunc(cs.finished, func(a, b api.Capture) int { return int(min(max(b.EndTime-a.EndTime, -1), 1)) })
	cs.finished = cs.finished[:min(len(cs.finished), keepFinished)]
	if saveErr := cs.saveFinished(cs.finished); saveErr != nil {
		return errors.Join(err, saveErr)
	}
	for _, path := range files {
		err = errors.Join(err, os.Remove(path))
	}
	return err
}

func (cs *Captures) readFinished() error {
	path := filepath.Join(cs.Directory, finishedName)
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	var f finishedFile
	if err == nil {
		err = json.Unmarshal(b, &f)
	}
	if err == nil && f.Version != fileVersion {
		err = fmt.Errorf("it has version %d, and this program reads %d", f.Version, fileVersion)
	}
	if err != nil {
		return fmt.Errorf("the list of finished captures begins anew, because %s cannot be read: %w", path, err)
	}
	cs.finished = f.Captures
	return nil
}

func (cs *Captures) readCutOff(path string) error {
	b, err := os.ReadFile(path)
	var v api.Capture
	if err == nil {
		v, err = decodeFile(b)
	}
	if err != nil {
		return fmt.Errorf("a capture was cut off, and its counters are lost, because %s cannot be read: %w", path, err)
	}
	if !slices.ContainsFunc(cs.finished, func(o api.Capture) bool { return o.ID == v.ID }) {
		cs.finished = append(cs.finished, v)
	}
	return nil
}
