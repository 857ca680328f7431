// Package transceiver reads what a pluggable module (SFP, QSFP and their kin) says of itself, from the memory that `ethtool -m` shows.
//
// It knows SFF-8472 (SFP), SFF-8636 (QSFP) and the identification of CMIS (QSFP-DD, OSFP). It is pure and total: what is not there, or
// makes no sense, stays empty.
package transceiver

import (
	"encoding/binary"
	"math"
	"strings"
)

// A Module is a transceiver. Measured values are there only if Measured is set.
type Module struct {
	Type   string // as in SFF-8024: SFP, QSFP+, QSFP28, QSFP-DD, OSFP
	Vendor string
	Part   string
	Serial string

	Measured     bool
	TemperatureC float64
	RxPowerDBm   float64 // of the first lane; -40 is no light
	TxPowerDBm   float64
}

// A layout is where a family of modules keeps what they are called.
type layout struct {
	name                 string
	vendor, part, serial int // of 16 bytes each
}

// layouts are by the first byte (SFF-8024, table 4-1).
var layouts = map[byte]layout{
	0x03: {"SFP", 20, 40, 68},
	0x0c: {"QSFP", 148, 168, 196},
	0x0d: {"QSFP+", 148, 168, 196},
	0x11: {"QSFP28", 148, 168, 196},
	0x18: {"QSFP-DD", 129, 148, 166},
	0x19: {"OSFP", 129, 148, 166},
	0x1e: {"QSFP+ (CMIS)", 129, 148, 166},
}

// Parse reads a module's memory, and returns nil if it is of no kind that is known.
func Parse(b []byte) *Module {
	if len(b) == 0 {
		return nil
	}
	l, ok := layouts[b[0]]
	if !ok {
		return nil
	}
	m := &Module{Type: l.name, Vendor: text(b, l.vendor), Part: text(b, l.part), Serial: text(b, l.serial)}
	switch b[0] {
	case 0x03:
		m.measureSFP(b)
	case 0x0d, 0x11:
		m.measureQSFP(b)
	}
	return m
}

// text returns 16 bytes of ASCII without padding.
func text(b []byte, at int) string {
	if len(b) < at+16 {
		return ""
	}
	printable := strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, string(b[at:at+16]))
	return strings.TrimSpace(printable)
}

// measureSFP reads the page at A2h, which follows the first 256 bytes, if the module calibrates itself (byte 92).
func (m *Module) measureSFP(b []byte) {
	const page, present, calibrated = 256, 1 << 6, 1 << 5
	if len(b) < page+106 || b[92]&(present|calibrated) != present|calibrated {
		return
	}
	m.measure(b[page+96:], b[page+104:], b[page+102:])
}

// measureQSFP reads the lower page (SFF-8636, bytes 22, 34 and 50). Data that is not ready (byte 2) is left out.
func (m *Module) measureQSFP(b []byte) {
	if len(b) < 52 || b[2]&1 != 0 {
		return
	}
	m.measure(b[22:], b[34:], b[50:])
}

// measure takes a temperature in 1/256 degrees and powers in 0.1 uW.
func (m *Module) measure(temperature, rx, tx []byte) {
	m.Measured = true
	m.TemperatureC = float64(int16(binary.BigEndian.Uint16(temperature))) / 256
	m.RxPowerDBm, m.TxPowerDBm = dBm(binary.BigEndian.Uint16(rx)), dBm(binary.BigEndian.Uint16(tx))
}

// dBm rounds to a hundredth; nothing is -40, as the smallest step is.
func dBm(tenthsOfMicrowatt uint16) float64 {
	if tenthsOfMicrowatt == 0 {
		return -40
	}
	return math.Round(1000*math.Log10(float64(tenthsOfMicrowatt)/10_000)) / 100
}
