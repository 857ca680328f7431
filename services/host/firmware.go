package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"sync"

	"galvo/firmware/bundle"
	"galvo/firmware/slot"
	"galvo/services/api"
)

// A firmware answers the calls about an appliance's own images.
type firmware struct {
	device slot.Device
	mu     sync.Mutex // held while the system partition is in use
}

// appliance returns where things are. The disk that the device was started from is up by now.
func appliance() slot.Device {
	d := slot.Appliance()
	d.Patience = 0
	return d
}

// install takes an update as the request's body. It goes to a nameless file first: nothing is written to the system partition before all of it was verified.
func (f *firmware) install(w http.ResponseWriter, r *http.Request) {
	reply, err := f.take(http.MaxBytesReader(w, r.Body, api.MaxFirmwareBytes))
	if err != nil {
		api.WriteError(w, firmwareError(err))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(reply)
}

func (f *firmware) take(body io.Reader) (*api.Firmware, error) {
	if !f.mu.TryLock() {
		return nil, &api.Error{Text: "an update is being installed: wait until it is done", Kind: api.Conflict}
	}
	defer f.mu.Unlock()
	// A machine that is no appliance need not take all of it to say so.
	if _, err := f.device.Release(); err != nil {
		return nil, err
	}
	file, err := os.CreateTemp(".", ".firmware-*")
	if err != nil {
		return nil, fmt.Errorf("keep the update until it is verified: %w", err)
	}
	defer file.Close()
	if err := os.Remove(file.Name()); err != nil {
		return nil, err
	}
	size, err := io.Copy(file, body)
	if err != nil {
		return nil, fmt.Errorf("receive the update: %w", err)
	}
	s, err := f.device.Install(file, size)
	if err != nil {
		slog.Warn("an update was refused", "error", err)
		return nil, err
	}
	slog.Info("an update was installed; the next start tries it", "version", s.Release.Version, "file", s.File)
	return f.look()
}

// firmwareError returns what a caller is told.
func firmwareError(err error) *api.Error {
	var refusal *slot.Refusal
	var tooLarge *http.MaxBytesError
	e := &api.Error{Text: err.Error(), Kind: api.Internal, Expected: []string{}}
	switch {
	case errors.As(err, &refusal):
		e.Kind = api.BadFirmware
	case errors.As(err, &tooLarge):
		e.Kind, e.Text = api.TooLarge, fmt.Sprintf("an update has at most %d bytes", tooLarge.Limit)
	case errors.Is(err, slot.ErrNotAppliance):
		e.Kind = api.NotSupported
	case errors.Is(err, slot.ErrElsewhere), errors.Is(err, slot.ErrSame), errors.Is(err, slot.ErrUnconfirmed):
		e.Kind = api.Conflict
	default:
		return api.ErrorOf(err)
	}
	return e
}

func (f *firmware) get(context.Context, *api.Nothing) (*api.Reply[api.Firmware], error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	reply, err := f.look()
	if err != nil {
		return nil, firmwareError(err)
	}
	return &api.Reply[api.Firmware]{Body: *reply}, nil
}

// look says what runs and what is on the disk.
func (f *firmware) look() (*api.Firmware, error) {
	now, err := f.device.Release()
	if err != nil {
		return nil, err
	}
	reply := &api.Firmware{Board: now.Board, Version: now.Version, Minimum: now.Minimum, Images: []api.FirmwareImage{}}
	err = f.device.System(func(p *slot.Partition, now bundle.Release) error {
		if reply.Minimum, err = p.Floor(now); err != nil {
			return err
		}
		slots, err := p.Slots()
		next, _ := slot.Next(slots)
		for _, s := range slots {
			reply.Images = append(reply.Images, api.FirmwareImage{Version: s.Release.Version, Running: s.Release.Build == now.Build, Next: s.File == next.File,
				State: stateOf(s), TriesLeft: s.TriesLeft, Bytes: s.Bytes})
		}
		return err
	})
	if errors.Is(err, slot.ErrElsewhere) {
		err = nil
	}
	return reply, err
}

func stateOf(s slot.Slot) api.FirmwareImageState {
	switch {
	case !s.Counted:
		return api.FirmwareConfirmed
	case s.TriesLeft > 0:
		return api.FirmwareTrial
	}
	return api.FirmwareFailed
}
