package api

// MaxFirmwareBytes is the largest update that an appliance takes, in bytes. A device without a disk for its state keeps so much in memory meanwhile.
const MaxFirmwareBytes = 192 << 20

// Firmware is what an appliance runs, and what its disk holds.
type Firmware struct {
	Board   string          `json:"board"`   // for which updates must be
	Version string          `json:"version"` // that runs
	Minimum string          `json:"minimum"` // the lowest version that is taken
	Images  []FirmwareImage `json:"images"`  // newest first; empty on a device that was not started from its disk
}

// A FirmwareImage is an image on the system partition.
type FirmwareImage struct {
	Version   string             `json:"version"`
	Running   bool               `json:"running"`
	Next      bool               `json:"next"` // it is what the next start takes
	State     FirmwareImageState `json:"state" enum:"confirmed,trial,failed"`
	TriesLeft int                `json:"triesLeft"` // starts before the one before is taken again; 0 of a confirmed one
	Bytes     int64              `json:"bytes"`
}

// A FirmwareImageState says how far an image got.
type FirmwareImageState string

// The states.
const (
	FirmwareConfirmed FirmwareImageState = "confirmed" // it has worked
	FirmwareTrial     FirmwareImageState = "trial"     // it is new
	FirmwareFailed    FirmwareImageState = "failed"    // it was given up
)
