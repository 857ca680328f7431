// Package handover carries packet sockets, and what the engine must know of the machine, from `galvo host` to `galvo engine`.
//
// The two speak over one SOCK_SEQPACKET unix socket: every message is one JSON value of at most MaxMessage bytes, and the sockets of a port's workers
// travel beside it as SCM_RIGHTS (unix(7)). The conversation:
//
//	host -> engine   config  first, and again after each change; of a later one only the fields that take effect live are to be followed
//	engine -> host   ready   then, once, with the number of workers that it has
//	host -> engine   port    each port of the configuration: with a fresh socket per worker, or without any and why; again when that changes, and
//	                         then the sockets that came before are to be closed
//	host -> engine   gone    a port's link was removed: its sockets receive nothing any more
//	host -> engine   stats   counters and state of each port that has a link, once a second
//	host -> engine   storage the storage devices, after the first config and again after each change
//	engine -> host   stored  it follows these storage devices: the new ones are open, and nothing is on the others
//	engine -> host   usage   what it uses of the memory plan, once a second
//	host -> engine   restart the engine is to end, so that it is started anew
//
// A link that goes down and up again, or loses its carrier, keeps its sockets.
//
// A member of a fanout group cannot be bound again, and a copy kept by the sender would go on taking frames from its group. So sockets are made anew
// for every engine and every return of a port, Send closes the sender's copies whether it succeeds or not, and the receiver of a message owns its sockets.
//
// The package opens no packet socket and reads none.
package handover

import (
	"net/netip"

	"galvo/services/config"
	"galvo/services/internal/transceiver"
)

// MaxMessage is the most bytes that a message may have. It is above what the longest valid configuration takes.
const MaxMessage = 1 << 20

// maxSockets is the most descriptors that Linux takes with one message (SCM_MAX_FD).
const maxSockets = 253

// A Message is one of its fields; the others are nil.
type Message struct {
	Ready  *Ready  `json:",omitempty"`
	Config *Config `json:",omitempty"`
	Port   *Port   `json:",omitempty"`
	Gone   *Gone   `json:",omitempty"`
	Stats  *Stats  `json:",omitempty"`

	Storage *Storage `json:",omitempty"`
	Stored  *Stored  `json:",omitempty"`
	Restart *Restart `json:",omitempty"`
	Usage   *Usage   `json:",omitempty"`
}

// Ready asks for the configuration and the ports.
type Ready struct {
	Workers int // sockets wanted per port, 1 to 253
}

// A Config is what the engine may know of the configuration.
type Config struct {
	Config config.Config
	// Listen is where the device's own services listen. Frames of TCP connections with one of these are Galvo's own.
	Listen []netip.AddrPort
	// Instance is the same for every engine and host of one `galvo run`, and another for the next one: what an engine left behind
	// means something only within one.
	Instance uint64
}

// A Port is a port of the configuration as it is now.
type Port struct {
	ID        int    // from 1, in the order of the configuration
	Name      string // the kernel's name of the link; the configuration's wording while it is absent
	Index     int    // the kernel's index of the link; 0 while it is absent
	Driver    string
	MAC       string
	SpeedMbps int    // 0 is unknown
	Duplex    string // half, full, or empty
	MTU       int    // bytes on layer 3
	Mode      string // sink or bridge: what really happens
	Module    *transceiver.Module
	Link      int          // ports with the same number form a link; 0 is none
	Direction string       // in or both, never empty
	Addresses []netip.Addr // the port's own
	CanFCS    bool         // frames arrive with their FCS, and bad ones too
	State     string       // up, down, absent, or failed
	Reason    string       // why it is not up, or what its NIC cannot do

	// Stats are the counters of the link at the moment before the sockets began to receive.
	Stats Stats

	// Sockets are the descriptors of the packet sockets, one per worker and in worker order, and bound to the link.
	Sockets []int `json:"-"`
}

// Gone says that a port's link was removed.
type Gone struct {
	ID     int
	Reason string
}

// Storage is all storage devices. One that is not active any more is to be let go.
type Storage struct {
	Number  uint64 // for the answer
	Devices []Device
}

// Stored says that the storage devices of the message with this number are followed.
type Stored struct{ Number uint64 }

// A Device is a storage device.
type Device struct {
	ID        string
	Name      string
	Directory string // its file system, or its part of one, below the state directory
	Identity  string // tells what is there now from what else was, or will be, at the same place
	Active    bool
	RingShare int // percentage that rings may take
}

// Usage is how much of the memory plan's parts the engine uses, in bytes by their names.
type Usage struct{ Bytes map[string]uint64 }

// Restart asks the engine to end.
type Restart struct{ Reason string }

// Stats are the state of a link, and its counters from when it was made.
type Stats struct {
	ID        int
	Time      int64  // ns since the epoch
	State     string // up or down
	Reason    string // why it is not up, or what its NIC cannot do
	SpeedMbps int    // 0 is unknown
	Duplex    string // as in Port, like the next ones
	MTU       int
	Mode      string
	Module    *transceiver.Module
	RxPackets uint64
	RxBytes   uint64
	// NicDrops are frames that the NIC had no room for; they are not in RxPackets. The kernel's rx_dropped is no part of it: that counts tagged
	// frames of unknown protocols too, which packet sockets did get.
	NicDrops uint64
}
