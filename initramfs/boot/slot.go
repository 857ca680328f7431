package boot

import (
	"errors"
	"fmt"
	"time"

	"galvo/services/api"
)

func (m *machine) readBoard() error {
	b, err := m.options.Board()
	if err != nil {
		return err
	}
	m.board = b
	return nil
}

// lookAtSlot says what becomes of the image if it does not work.
func (m *machine) lookAtSlot() error {
	left, counted, err := m.options.Slots.TriesLeft()
	if err != nil {
		return err
	}
	if m.onTrial = counted; counted {
		m.say("this image is on trial: it is confirmed when engine and web answer, and started %d times more otherwise", left)
	}
	return nil
}

// confirm makes an image on trial the one to stay, once web and engine answer.
func (m *machine) confirm() error {
	if !m.onTrial {
		return nil
	}
	if !well(time.Now(), m.health.get(api.ServiceWeb), m.health.get(api.ServiceEngine)) {
		return errors.New("web and engine do not both answer, so that the image stays on trial")
	}
	if _, err := m.options.Slots.Confirm(); err != nil {
		return fmt.Errorf("mark the image as good: %w", err)
	}
	m.onTrial = false
	m.say("the running image is confirmed")
	return nil
}
