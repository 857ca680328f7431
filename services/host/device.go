package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"galvo/services/api"
	"galvo/services/config"
	"galvo/services/internal/disk"
)

// activate takes a device into use and returns it. The error is an *api.Error.
func (s *storage) activate(ctx context.Context, id string, how api.ActivateRequest) (api.Storage, error) {
	d, err := s.get(id)
	if err != nil {
		return api.Storage{}, err
	}
	switch err := s.checkName(d, how.Name); {
	case s.isFormatted(d.ID):
		return api.Storage{}, api.Errorf(api.Conflict, "%s cannot be activated: it is being formatted: wait until that is done", d.Name)
	case d.State == locked && how.Password == "":
		return api.Storage{}, api.Errorf(api.Conflict, "%s is encrypted: activate it with its password", d.Name)
	case err != nil && d.disk != nil:
		return api.Storage{}, err
	case d.State == locked:
		if _, err := s.machine.Open(ctx, d.disk, d.disk.Target, how.Password); err != nil {
			return api.Storage{}, unlockError(d, err)
		}
	case d.disk != nil && d.disk.Unreadable != "":
		return api.Storage{}, api.Errorf(api.Conflict, "%s cannot be activated: %s", d.Name, d.Reason)
	case d.State == failed && d.Kind == "disk":
		s.forgive(d.ID)
	case d.State != inactive && d.State != active && d.Kind == "disk":
		return api.Storage{}, api.Errorf(api.Conflict, "%s cannot be activated: %s", d.Name, d.Reason)
	}
	err = s.configure(d, func(c *config.Storage) {
		c.Inactive = false
		if how.Name != "" {
			c.Name = how.Name
		}
	})
	if err != nil {
		return api.Storage{}, err
	}
	s.look()
	ctx, cancel := context.WithTimeout(ctx, letGoTime)
	defer cancel()
	s.awaitEngine(ctx) // an engine that takes longer gets there
	return s.result(d, active, "cannot be activated")
}

func unlockError(d *device, err error) error {
	if errors.Is(err, disk.ErrNoProgram) {
		return &api.Error{Kind: api.NotSupported, Text: "encrypted devices cannot be opened here: " + err.Error()}
	}
	if errors.Is(err, disk.ErrPassword) {
		return api.Errorf(api.Conflict, "%s does not open with this password", d.Name)
	}
	return api.Errorf(api.Conflict, "%s does not open: %v", d.Name, err)
}

// isFormatted reports whether a disk is being formatted now.
func (s *storage) isFormatted(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.formats[id] != nil
}

// forgive forgets that a disk could not be formatted.
func (s *storage) forgive(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.wrong, id)
}

// result returns a device again after something was done with it, or an error if that did not lead to the state that it should have.
func (s *storage) result(was *device, state, cannot string) (api.Storage, error) {
	d, err := s.again(was)
	if err != nil {
		return api.Storage{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if d.State != state {
		return api.Storage{}, api.Errorf(api.Conflict, "%s %s: %s", d.Name, cannot, d.Reason)
	}
	return s.show(d), nil
}

// again finds a device whose name may have changed: a directory's id is its name.
func (s *storage) again(was *device) (*device, error) {
	s.mu.Lock()
	for _, d := range s.seen {
		if d.Kind == was.Kind && (d.Kind == "disk" && d.ID == was.ID || d.Kind == "directory" && d.Path == was.Path) {
			s.mu.Unlock()
			return d, nil
		}
	}
	s.mu.Unlock()
	return s.get(was.ID)
}

// configure changes the entry of a device in the configuration, or makes one.
func (s *storage) configure(d *device, change func(*config.Storage)) error {
	return configError(s.store.ChangeStorage(entry(d, change)))
}

// checkName says what is wrong with an alias, before anything is done to the device that cannot be undone.
func (s *storage) checkName(d *device, name string) error {
	if name == "" {
		return nil
	}
	return configError(s.store.CheckStorage(entry(d, func(c *config.Storage) { c.Name = name })))
}

// entry returns what changes the entry of a device, or appends one.
func entry(d *device, change func(*config.Storage)) func([]config.Storage) []config.Storage {
	return func(all []config.Storage) []config.Storage {
		for i := range all {
			ours := d.is != nil && all[i].Directory == d.is.Directory && all[i].Disk == d.is.Disk
			if ours || d.disk != nil && all[i].Disk == d.disk.Name() { // perhaps since d was looked at
				change(&all[i])
				return all
			}
		}
		c := config.Storage{Name: unusedName(all, alias(d.Name)), Disk: d.disk.Name()}
		change(&c)
		return append(all, c)
	}
}

func configError(err error) error {
	var wrong *config.Error
	if errors.As(err, &wrong) {
		return &api.Error{Kind: api.BadRequest, Text: wrong.Text}
	}
	return err
}

// alias makes a name for the configuration of what a disk calls itself.
func alias(name string) string {
	name = strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || strings.ContainsRune(" ._-", r) {
			return r
		}
		return '_'
	}, name)
	name = strings.TrimLeft(name, " ._-")
	if name == "" {
		name = "disk"
	}
	return name[:min(len(name), 60)]
}

func unusedName(all []config.Storage, name string) string {
	candidate := name
	for i := 2; ; i++ {
		free := true
		for _, o := range all {
			free = free && o.Name != candidate
		}
		if free {
			return candidate
		}
		candidate = fmt.Sprintf("%s %d", name, i)
	}
}

// deactivate takes a device out of use: when it returns nil the engine has closed everything there, and a disk can be pulled.
func (s *storage) deactivate(ctx context.Context, id string) (api.Storage, error) {
	d, err := s.get(id)
	if err != nil {
		return api.Storage{}, err
	}
	if d.is == nil {
		return api.Storage{}, api.Errorf(api.Conflict, "%s is not active", d.Name)
	}
	if err := s.configure(d, func(c *config.Storage) { c.Inactive = true }); err != nil {
		return api.Storage{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, letGoTime)
	defer cancel()
	for {
		s.look()
		closed := s.awaitEngine(ctx)
		if closed {
			s.look() // now a disk can be unmounted
		}
		now, err := s.again(d)
		if err != nil {
			return api.Storage{}, err
		}
		if closed && (now.Reason == "" || now.State != inactive) {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.show(now), nil
		}
		select {
		case <-ctx.Done():
			if !closed {
				return api.Storage{}, api.Errorf(api.Conflict, "%s: the engine has not closed its files there within %v; it will be let go as soon as it has", d.Name, letGoTime)
			}
			return api.Storage{}, api.Errorf(api.Conflict, "%s: %s", d.Name, now.Reason)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// format begins to format a disk. It is active when that is done.
func (s *storage) format(id string, how api.FormatRequest) (api.Storage, error) {
	d, err := s.get(id)
	if err != nil {
		return api.Storage{}, err
	}
	switch {
	case d.Kind == "directory":
		return api.Storage{}, api.Errorf(api.Conflict, "%s is a directory: there is nothing to format", d.Name)
	case how.Confirm != d.Name:
		return api.Storage{}, &api.Error{Kind: api.BadRequest, Text: "formatting deletes everything on the device: confirm it with the device's name, " + d.Name, Expected: []string{d.Name}}
	case how.Encrypt && how.Password == "":
		return api.Storage{}, &api.Error{Kind: api.BadRequest, Text: "an encrypted device needs a password"}
	case !how.Encrypt && how.Password != "":
		return api.Storage{}, &api.Error{Kind: api.BadRequest, Text: "a password is for an encrypted device: say encrypt too, or leave the password out"}
	case d.disk == nil || d.State == inSystem || d.State == formatting:
		return api.Storage{}, api.Errorf(api.Conflict, "%s cannot be formatted: %s", d.Name, d.Reason)
	case d.disk.ReadOnly:
		return api.Storage{}, api.Errorf(api.Conflict, "%s cannot be formatted: it is read-only", d.Name)
	case d.State == active:
		return api.Storage{}, api.Errorf(api.Conflict, "%s is active: deactivate it before it is formatted", d.Name)
	}
	if err := s.checkName(d, how.Name); err != nil {
		return api.Storage{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.formats[d.ID] != nil {
		return api.Storage{}, api.Errorf(api.Conflict, "%s is being formatted", d.Name)
	}
	delete(s.wrong, d.ID)
	s.formats[d.ID] = &job{}
	s.jobs.Go(func() { s.runFormat(d, how) })
	return s.show(d), nil
}

// runFormat formats the disk of d. It is not broken off when the service ends: half a file system helps nobody.
func (s *storage) runFormat(d *device, how api.FormatRequest) {
	slog.Warn("format", "id", d.ID, "encrypted", how.Encrypt)
	f := disk.Format{Label: "galvo"}
	if how.Encrypt {
		f.Password = how.Password
	}
	err := s.machine.Close(context.Background(), d.ID)
	if err == nil {
		err = s.machine.Format(context.Background(), d.disk, f, func(percent int) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.formats[d.ID].percent = percent
		})
	}
	if err == nil {
		err = s.configure(d, func(c *config.Storage) {
			c.Inactive, c.RingPercent = false, how.RingShare
			if how.Name != "" {
				c.Name = how.Name
			}
		})
	}
	s.mu.Lock()
	delete(s.formats, d.ID)
	if err != nil {
		slog.Error("format", "id", d.ID, "error", err)
		s.wrong[d.ID] = err.Error()
	}
	s.mu.Unlock()
	s.poke()
}
