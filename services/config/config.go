// Package config is the schema of the configuration: types, defaults, limits, checks, differences, and reading and writing TOML.
//
// The doc comment of each field is its manual and is written into the file. A tag `takes` says when a change is in effect: live, restart (of the
// processing), or reboot. A tag `limit` holds the least and the greatest value of a number, or of each number in a list. The package keeps no state;
// `galvo host` is the only writer, through Store.
package config

// A Config is the whole configuration. The zero value is not valid; Default returns one.
type Config struct {
	Device     Device     `toml:"device"`
	Management Management `toml:"management"`
	Clock      Clock      `toml:"clock"`

	Ports    []Port    `toml:"port"`
	Links    []Link    `toml:"link"`
	Groups   []Group   `toml:"group"`
	Storage  []Storage `toml:"storage"`
	Captures Captures  `toml:"captures"`
	Rings    Rings     `toml:"rings"`
	Analysis Analysis  `toml:"analysis"`
	Engine   Engine    `toml:"engine"`
	Filter   Filter    `toml:"filter"`
}

// Device names the device.
type Device struct {
	// Name is the host name, which the page shows: letters, digits and hyphens, at most 63. Empty is galvo- with the last four digits of the
	// management port's MAC address, and galvo on a plain host. A device with a management port is found as Name.local.
	Name string `toml:"name" takes:"live"`
	// RescueConsole lets a person with the password of admin in at the consoles of an appliance, its serial line and its screen.
	RescueConsole bool `toml:"rescueConsole" takes:"live"`
}

// Management is how the device is reached. On an appliance everything has its default; on a plain host nothing of the network is touched unless
// a port is named here. A change of this table that is made through the API is undone after 60 seconds, and by a restart before that, unless it is
// confirmed with POST /api/v1/config/confirm, which must come from who reaches the device as it is then.
type Management struct {
	// Port is the link, by its name, MAC or PCI address. Empty is the one that the board names, and none on a plain host.
	Port string `toml:"port" takes:"live"`
	// IPv4 is dhcp, static, link-local or off. Where no DHCP server answers the port has a link-local address (169.254.x.x) meanwhile.
	IPv4 string `toml:"ipv4" takes:"live"`
	// Address is that of IPv4 = static, with the length of its network: 192.0.2.10/24.
	Address string `toml:"address" takes:"live"`
	// Gateway is the router of Address, and may be empty.
	Gateway string `toml:"gateway" takes:"live"`
	// IPv6 is auto, by router advertisements, static, link-local or off. A link-local address is there in all cases but off.
	IPv6 string `toml:"ipv6" takes:"live"`
	// Address6 is that of IPv6 = static, with the length of its network: 2001:db8::10/64.
	Address6 string `toml:"address6" takes:"live"`
	// Gateway6 is the router of Address6, and may be empty.
	Gateway6 string `toml:"gateway6" takes:"live"`
	// DNS are the addresses of name servers, at most 3; empty is what DHCP says.
	DNS []string `toml:"dns" takes:"live" limit:"0..3"`
}

// Clock is where the time comes from.
type Clock struct {
	// NTP keeps the clock right by time servers. On a plain host the clock is the host's own, unless Servers are named.
	NTP bool `toml:"ntp" takes:"live"`
	// Servers are names or addresses of time servers, which are asked by NTP; at most 8; empty is what DHCP says.
	Servers []string `toml:"servers" takes:"live" limit:"0..8"`
	// TimeZone is where the names of files take their local time from, as in Europe/Berlin; empty is that of the machine.
	TimeZone string `toml:"timeZone" takes:"restart"`
}

// A Port is a NIC port to capture from, found by exactly one of name, MAC address and PCI address. The order gives the ids, from 1; at most 64.
type Port struct {
	// Name is the kernel's name of the link, such as eth1.
	Name string `toml:"name,omitempty" takes:"live"`
	// MAC is the permanent address of the NIC, such as 02:00:00:00:00:01.
	MAC string `toml:"mac,omitempty" takes:"live"`
	// PCI is the address of the NIC on its bus, such as 0000:01:00.0.
	PCI string `toml:"pci,omitempty" takes:"live"`
	// Link is the number, 1 to 32, that the two ports of a link share; 0 is none.
	Link int `toml:"link,omitempty" takes:"live" limit:"0..32"`
	// Direction is in, received frames only, or both. Empty is both for a port with an address and in for any other.
	Direction string `toml:"direction,omitempty" takes:"live"`
	// FCS lets frames with a wrong frame check sequence in, and tells them, where the NIC can (rx-all and rx-fcs): the filter's badCRC needs it. The port of a
	// link in bridge mode cannot: it would send them on as good ones.
	FCS bool `toml:"fcs,omitempty" takes:"live"`
	// MTU is the largest frame on layer 3, 68 to 65535 bytes; 0 leaves it as it is. Most NICs drop what is longer.
	MTU int `toml:"mtu,omitempty" takes:"live" limit:"0..65535"`
}

// A Link says what the two ports with its number do beside being captured. A link that is not here is in sink mode; at most 32.
type Link struct {
	// Number is the link of the two ports.
	Number int `toml:"number" takes:"live" limit:"1..32"`
	// Mode is sink, which only receives, or bridge, which sends each frame on through the other port.
	Mode string `toml:"mode" takes:"live"`
}

// A Group gives a name to traffic: what matches one of the values of every key that is not empty. The first group that matches wins; at most 100.
type Group struct {
	// Name is what the filter's operand group compares; it is unique, and not default, which is the traffic of no group.
	Name string `toml:"name" takes:"live"`
	// Interfaces are ids of ports.
	Interfaces []int `toml:"interfaces,omitempty" takes:"live" limit:"1..64"`
	// Links are numbers of links.
	Links []int `toml:"links,omitempty" takes:"live" limit:"1..32"`
	// VLANs are tags, inner and outer ones.
	VLANs []int `toml:"vlans,omitempty" takes:"live" limit:"0..4095"`
	// MPLS are labels.
	MPLS []int `toml:"mpls,omitempty" takes:"live" limit:"0..1048575"`
}

// A Storage is a directory or a disk for captures and rings; at most 32. The line storage = [] at the top of the file stands for none at all.
type Storage struct {
	// Name is what captures and rings call it; it is unique.
	Name string `toml:"name" takes:"live"`
	// Directory lies below the state directory, where it is made. A storage has a directory or a disk.
	Directory string `toml:"directory,omitempty" takes:"live"`
	// Disk is a whole disk, as /dev/disk/by-id/... It is mounted if it has an ext4 file system, on itself or on its first partition.
	Disk string `toml:"disk,omitempty" takes:"live"`
	// Inactive takes the device out of use.
	Inactive bool `toml:"inactive,omitempty" takes:"live"`
	// RingPercent is the share of the device that rings may take, 0 to 100; with 100 there is no room for files.
	RingPercent int `toml:"ringPercent,omitempty" takes:"live" limit:"0..100"`
}

// Captures are the settings of captures.
type Captures struct {
	// Max is how many captures may run or wait at once, 4 to 64. Each costs QueueBytes of memory.
	Max int `toml:"max" takes:"live" limit:"4..64"`
	// SplitBytes begins a new file on disk before one would become larger than so many bytes; 0 is never.
	SplitBytes uint64 `toml:"splitBytes" takes:"live" limit:"0..9000000000000000000"`
	// SplitSeconds begins a new file on disk every so many seconds, counted from the capture's start; 0 is never.
	SplitSeconds uint64 `toml:"splitSeconds" takes:"live" limit:"0..1000000000"`
	// QueueBytes is the room for packets that a capture's destination has not taken yet, at least 1 MB.
	QueueBytes uint64 `toml:"queueBytes" takes:"live" limit:"1000000..1000000000000"`
	// HoldBytes is the room of each capture for packets that wait for the verdict of their flow.
	HoldBytes uint64 `toml:"holdBytes" takes:"live" limit:"0..1000000000000"`
	// StallSeconds ends a capture whose client took nothing for so long, 1 to 86400.
	StallSeconds uint64 `toml:"stallSeconds" takes:"live" limit:"1..86400"`
}

// Rings are the settings of packet ring buffers.
type Rings struct {
	// Max is how many rings may record at once, 0 to 16. Each costs QueueBytes of memory.
	Max int `toml:"max" takes:"restart" limit:"0..16"`
	// QueueBytes is the room for packets that a ring's disks have not taken yet, at least 1 MB.
	QueueBytes uint64 `toml:"queueBytes" takes:"restart" limit:"1000000..1000000000000"`
	// ReorderBytes is the room in which a reader of rings restores the order of packets, at least 1 MB.
	ReorderBytes uint64 `toml:"reorderBytes" takes:"live" limit:"1000000..1000000000000"`
	// IOUring says that rings are written through io_uring, which takes less of the processors, where the kernel has it; else with pwrite.
	IOUring bool `toml:"ioUring" takes:"restart"`
}

// Analysis are the settings of the slots in which savefiles are analysed beside the live traffic.
type Analysis struct {
	// Slots is how many analyses there may be at once, 0 to 8. They share MemoryPercent.
	Slots int `toml:"slots" takes:"restart" limit:"0..8"`
	// MemoryPercent is the part of Galvo's memory that all slots share, 1 to 50.
	MemoryPercent int `toml:"memoryPercent" takes:"restart" limit:"1..50"`
	// UploadBytes is the size of the largest file that may be uploaded; 0 is as much as there is room for.
	UploadBytes uint64 `toml:"uploadBytes" takes:"live" limit:"0..9000000000000000000"`
}

// Engine are the settings of the processing.
type Engine struct {
	// Workers is how many cores receive and analyse, at most 64; 0 is all that the machine has.
	Workers int `toml:"workers" takes:"restart" limit:"0..64"`
	// MemoryPercent is the share of the machine's memory that Galvo may use, 5 to 90; 0 is 50 on a plain host and 90 on an appliance.
	MemoryPercent int `toml:"memoryPercent" takes:"restart" limit:"0..90"`
	// Flows is the size of the flow table over all workers; 0 is what the memory plan gives.
	Flows int `toml:"flows" takes:"restart" limit:"0..1000000000"`
	// L7 recognises application protocols. Without it the filter's l7Protocol has no answer.
	L7 bool `toml:"l7" takes:"restart"`
	// Geoip is the folder with the files geoip and geoip6 of Debian's tor-geoipdb; empty is the usual places.
	Geoip string `toml:"geoip" takes:"restart"`
	// Hosts is a file with names of servers and the applications that they belong to, beside those that Galvo knows: an application's name on a line of its
	// own, and below it, with a blank before them, names as example.com, or example.* for all countries. Empty is none.
	Hosts string `toml:"hosts" takes:"restart"`
	// Guesses lets a filter take what was guessed by port or address for a verdict; else such flows are unknown to it.
	Guesses bool `toml:"guesses" takes:"live"`
}

// Filter says how expressions meet tunnels, fragments and SCTP.
type Filter struct {
	// TunnelView is which headers of a tunnelled packet the operands look at: outer, what the wire carries; inner, the innermost ones; or any, where ==
	// holds if it holds for those of any level, and != is the complement.
	TunnelView string `toml:"tunnelView" takes:"live"`
	// Fragments is what ports the later fragments of a datagram have: first, those of its first one, if that was seen; or none.
	Fragments string `toml:"fragments" takes:"live"`
	// SCTPPorts lets port operands take SCTP beside TCP and UDP.
	SCTPPorts bool `toml:"sctpPorts" takes:"live"`
}

// Default returns the configuration of a first start.
func Default() *Config {
	return &Config{
		Device:     Device{RescueConsole: true},
		Management: Management{IPv4: "dhcp", IPv6: "auto"},
		Clock:      Clock{NTP: true},

		Storage:  []Storage{{Name: "data", Directory: "data"}},
		Captures: Captures{Max: 4, QueueBytes: 64_000_000, HoldBytes: 16_000_000, StallSeconds: 600},
		Rings:    Rings{Max: 1, QueueBytes: 256_000_000, ReorderBytes: 512_000_000, IOUring: true},
		Analysis: Analysis{Slots: 1, MemoryPercent: 10},
		Engine:   Engine{L7: true},
		Filter:   Filter{TunnelView: "outer", Fragments: "first"},
	}
}
