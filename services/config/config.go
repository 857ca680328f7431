// Package config is the schema of the configuration: types, defaults, limits, checks, differences, and reading and writing TOML.
//
// The doc comment of each field is its manual and is written into the file. A tag `takes` says when a change is in effect: live, restart (of the
// processing), or reboot. The package opens no files and keeps no state; `galvo host` is the only writer.
package config

// A Config is the whole configuration. The zero value is not valid; Default returns one.
type Config struct {
	Device   Device    `toml:"device"`
	Ports    []Port    `toml:"port"`
	Groups   []Group   `toml:"group"`
	Storage  []Storage `toml:"storage"`
	Captures Captures  `toml:"captures"`
	Rings    Rings     `toml:"rings"`
	Engine   Engine    `toml:"engine"`
}

// Device names the device.
type Device struct {
	// Name is the host name, which the page shows: letters, digits and hyphens, at most 63.
	Name string `toml:"name" takes:"live"`
}

// A Port is a NIC port to capture from, found by exactly one of name, MAC address and PCI address. The order gives the ids, from 1.
type Port struct {
	Name string `toml:"name,omitempty" takes:"live"`
	MAC  string `toml:"mac,omitempty" takes:"live"`
	PCI  string `toml:"pci,omitempty" takes:"live"`
	// Link is the number that the two ports of a link share; 0 is none.
	Link int `toml:"link,omitempty" takes:"live"`
	// Direction is in, received frames only, or both. Empty is both for a port with an address and in for any other.
	Direction string `toml:"direction,omitempty" takes:"live"`
}

// A Group gives a name to traffic: what matches one of the values of every key that is not empty. The first group that matches wins.
type Group struct {
	Name       string `toml:"name" takes:"live"`
	Interfaces []int  `toml:"interfaces,omitempty" takes:"live"`
	Links      []int  `toml:"links,omitempty" takes:"live"`
	VLANs      []int  `toml:"vlans,omitempty" takes:"live"`
	MPLS       []int  `toml:"mpls,omitempty" takes:"live"`
}

// A Storage is a directory or a disk for captures and rings.
type Storage struct {
	Name      string `toml:"name" takes:"live"`
	Directory string `toml:"directory,omitempty" takes:"live"`
	Disk      string `toml:"disk,omitempty" takes:"live"`
}

// Captures are the settings of captures.
type Captures struct {
	// Max is how many captures may run or wait at once, 4 to 64. Each costs QueueBytes of memory.
	Max int `toml:"max" takes:"live"`
	// SplitBytes begins a new file on disk after so many bytes; 0 is never.
	SplitBytes uint64 `toml:"splitBytes" takes:"live"`
	// SplitSeconds begins a new file on disk after so many seconds; 0 is never.
	SplitSeconds uint64 `toml:"splitSeconds" takes:"live"`
	// QueueBytes is the room for packets that a capture's destination has not taken yet.
	QueueBytes uint64 `toml:"queueBytes" takes:"live"`
	// HoldBytes is the room of each capture for packets that wait for the verdict of their flow.
	HoldBytes uint64 `toml:"holdBytes" takes:"live"`
	// StallSeconds ends a capture whose client took nothing for so long.
	StallSeconds uint64 `toml:"stallSeconds" takes:"live"`
}

// Rings are the settings of packet ring buffers.
type Rings struct {
	Max          int    `toml:"max" takes:"restart"`
	QueueBytes   uint64 `toml:"queueBytes" takes:"restart"`
	ReorderBytes uint64 `toml:"reorderBytes" takes:"live"`
}

// Engine are the settings of the processing.
type Engine struct {
	// Workers is how many cores receive and analyse; 0 is one fewer than the machine has, at least 1.
	Workers int `toml:"workers" takes:"restart"`
	// MemoryPercent is the share of the machine's memory that Galvo may use.
	MemoryPercent int `toml:"memoryPercent" takes:"restart"`
	// Flows is the size of the flow table over all workers; 0 is what the memory plan gives.
	Flows int `toml:"flows" takes:"restart"`
	// L7 recognises application protocols. Without it the filter's l7Protocol has no answer.
	L7 bool `toml:"l7" takes:"restart"`
	// Geoip is the folder with the files geoip and geoip6 of Debian's tor-geoipdb; empty is the usual places.
	Geoip string `toml:"geoip" takes:"restart"`
}

// Default returns the configuration of a first start.
func Default() *Config {
	return &Config{
		Device:   Device{Name: "galvo"},
		Captures: Captures{Max: 4, QueueBytes: 64_000_000, HoldBytes: 16_000_000, StallSeconds: 600},
		Rings:    Rings{Max: 1, QueueBytes: 256_000_000, ReorderBytes: 512_000_000},
		Engine:   Engine{MemoryPercent: 50, L7: true},
	}
}
