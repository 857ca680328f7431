package boot

import (
	"encoding/binary"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// From linux/input-event-codes.h.
const (
	evKey    = 0x01
	keyPower = 116
	// eventBytes is struct input_event on 64-bit machines: two longs of time, type, code, value.
	eventBytes = 24
)

// watchButtons waits for the power button on every input device that has one.
func (m *machine) watchButtons() error {
	found, err := filepath.Glob("/dev/input/event*")
	for _, path := range found {
		go guard("button", func() { m.watchButton(path) })
	}
	return err
}

// watchButton ends the machine in order when the power key of an input device is pressed. It returns when the device is gone, or has no such key.
func (m *machine) watchButton(path string) {
	keys, err := os.ReadFile(filepath.Join("/sys/class/input", filepath.Base(path), "device/capabilities/key"))
	if err != nil || !hasKey(string(keys), keyPower) {
		return
	}
	f, err := os.Open(path)
	if err != nil {
		slog.Warn("the power button is not heard", "device", path, "error", err)
		return
	}
	defer f.Close()
	for b := make([]byte, eventBytes); ; {
		if _, err := io.ReadFull(f, b); err != nil {
			return
		}
		if pressed(b, keyPower) {
			m.power <- request{poweroff, "the power button was pressed"}
			return
		}
	}
}

// hasKey reports whether a bitmap as in sysfs, words of 64 bits in hexadecimal with the highest first, has a key.
func hasKey(bitmap string, key int) bool {
	words := strings.Fields(bitmap)
	i := len(words) - 1 - key/64
	if i < 0 {
		return false
	}
	w, err := strconv.ParseUint(words[i], 16, 64)
	return err == nil && w>>(key%64)&1 == 1
}

// pressed reports whether an input_event says that a key went down.
func pressed(b []byte, key uint16) bool {
	return binary.NativeEndian.Uint16(b[16:]) == evKey && binary.NativeEndian.Uint16(b[18:]) == key && binary.NativeEndian.Uint32(b[20:]) == 1
}
