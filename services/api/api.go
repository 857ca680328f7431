// Package api is what Galvo's processes and its clients say to each other: requests, replies, events, errors, the table of
// operations, and a client over a unix socket.
//
// It holds plain values and no behaviour of the product. Field names are those of the JSON under /api/v1/; times are microseconds
// since the epoch, sizes are bytes, rates are bit/s.
package api

// A Counters is the five counters of a capture, with one meaning everywhere. Over a capture's span their sum is the number of frames
// that the ports received.
type Counters struct {
	Captured uint64 `json:"captured" doc:"Frames that matched and were delivered."`
	Dropped  uint64 `json:"dropped" doc:"Frames that matched, and the destination was too slow or full."`
	Ignored  uint64 `json:"ignored" doc:"Frames that the filter did not match, or had no answer for yet."`
	Held     uint64 `json:"held" doc:"Frames that wait for the verdict of their flow."`
	Lost     uint64 `json:"lost" doc:"Frames that were gone before any filter saw them."`
}

// A Sink is a capture's destination. The sink discard only counts: it says how much a filter would take.
type Sink struct {
	Type         string  `json:"type" enum:"http,discard,disk,interface,erspan,sftp" default:"http"`
	Device       string  `json:"device,omitempty" maxLength:"255" doc:"disk: id or name of a storage device; the only active one may be left out."`
	Directory    string  `json:"directory,omitempty" maxLength:"4096" doc:"disk: directory on the device, which must exist; empty is its top."`
	SplitBytes   *uint64 `json:"splitBytes,omitempty" doc:"disk: begin a new file before one would exceed so many bytes; 0 is never. The setting captures.splitBytes if left out."`
	SplitSeconds *uint64 `json:"splitSeconds,omitempty" maximum:"1000000000" doc:"disk: begin a new file every so many seconds from the start on; 0 is never. The setting captures.splitSeconds if left out."`
}

// AnyRing as a capture's source is the only ring that there is.
const AnyRing = "*"

// A CaptureRequest asks for a capture. The zero value captures everything, live, to an HTTP stream, until it is stopped.
type CaptureRequest struct {
	Expression         string `json:"expression,omitempty" maxLength:"65536" doc:"Expert filter; empty for everything."`
	Undecided          string `json:"undecided,omitempty" enum:"skip,hold" doc:"What happens to packets whose flow has no layer-7 verdict yet."`
	Source             string `json:"source,omitempty" default:"live" doc:"live, a ring's name, * for the only ring there is, or a slot as :1."`
	Sink               Sink   `json:"sink,omitzero"`
	StartTime          int64  `json:"startTime,omitempty" minimum:"0" maximum:"4611686018427387" doc:"Microseconds since the epoch; 0 is now. A live capture with one that has passed begins at once, and has nothing from before: that is in a ring."`
	EndTime            int64  `json:"endTime,omitempty" minimum:"0" maximum:"4611686018427387" doc:"Microseconds since the epoch; 0 is no end."`
	MaxBytes           uint64 `json:"maxBytes,omitempty" doc:"Ends the capture before the output would exceed so many bytes of packets; 0 is no limit."`
	MaxPackets         uint64 `json:"maxPackets,omitempty" doc:"Ends the capture after so many matching packets; 0 is no limit."`
	MaxSeconds         uint64 `json:"maxSeconds,omitempty" maximum:"1000000000" doc:"Ends the capture so many seconds after its start; 0 is no limit."`
	SnapLength         uint32 `json:"snapLength,omitempty" maximum:"65535" doc:"Bytes kept of each packet, on layer 2 without FCS; 0 or 65535 is all."`
	Profile            string `json:"profile,omitempty" doc:"Capture profile that decides the snap length; none is defined yet, so only empty is accepted."`
	Format             string `json:"format,omitempty" enum:"pcapng,pcap,pcap-ns" default:"pcapng"`
	UseSingleInterface bool   `json:"useSingleInterface,omitempty" doc:"Write one interface and treat all packets as received there."`
	FileName           string `json:"fileName,omitempty" maxLength:"255" doc:"Name of the file, with strftime fields of the start time."`
	Comment            string `json:"comment,omitempty" maxLength:"65535" doc:"Comment in the file's section header."`
	DeviceInfo         bool   `json:"deviceInfo,omitempty" doc:"Add name, version, memory and filter to the comment."`
}

// A CaptureCreated answers a CaptureRequest.
type CaptureCreated struct {
	ID       string `json:"id"`
	Stream   string `json:"stream,omitempty" doc:"Path to fetch with GET within 30 seconds, for an http sink."`
	FileName string `json:"fileName,omitempty" doc:"For a disk sink of the first file."`
	FilePlace
}

// A FilePlace is where a capture to disk writes.
type FilePlace struct {
	Device    string `json:"device,omitempty" doc:"Id of the storage device that the file is on."`
	Directory string `json:"directory,omitempty" doc:"Directory on the device; empty is its top."`
}

// A Capture is one that runs, waits for its start time, or has finished.
type Capture struct {
	ID         string `json:"id"`
	User       string `json:"user"`
	Client     string `json:"client" doc:"Address and port of the client."`
	Sink       string `json:"sink" doc:"http, disk, interface, erspan, sftp"`
	Source     string `json:"source"`
	Expression string `json:"expression" doc:"Canonical form of the filter."`
	Undecided  string `json:"undecided" doc:"skip or hold: what happens to packets whose flow has no layer-7 verdict yet."`
	Format     string `json:"format"`
	FileName   string `json:"fileName,omitempty" doc:"Of several files the latest."`
	FilePlace
	Files     uint64 `json:"files,omitempty" doc:"How many files a capture to disk has begun."`
	State     string `json:"state" doc:"waiting, running, finished, interrupted, failed"`
	Reason    string `json:"reason,omitempty" doc:"Why it ended."`
	StartTime int64  `json:"startTime" doc:"When the capture began, or will."`
	EndTime   int64  `json:"endTime,omitempty" doc:"When it ended, or will."`
	Counters
	Bytes   uint64 `json:"bytes" doc:"Bytes of captured packets after snapping."`
	BitRate uint64 `json:"bitRate" doc:"Of captured packets: over the last second, or the average of a finished capture."`
	Scan    *Scan  `json:"scan,omitempty" doc:"What a capture from a ring looked at."`
	Empty   string `json:"empty,omitempty" doc:"Why there is no packet in one that has finished; of a capture from a ring scan says it."`

	Forgotten uint64 `json:"forgotten,omitempty" doc:"TCP packets that streamRegexp judged without what came before in their stream, because there was no memory to keep that."`
}

// A Port is a NIC port that Galvo captures from.
type Port struct {
	ID         int      `json:"id" doc:"From 1, in the order of the configuration."`
	Name       string   `json:"name"`
	Driver     string   `json:"driver"`
	MAC        string   `json:"mac"`
	Link       int      `json:"link" doc:"Ports with the same number form a link; 0 is none."`
	Mode       string   `json:"mode" doc:"sink or bridge"`
	Direction  string   `json:"direction" doc:"in or both"`
	State      string   `json:"state" doc:"up, down, absent, or failed"`
	Reason     string   `json:"reason,omitempty" doc:"Why it is not up, or what its NIC cannot do."`
	SpeedMbps  int      `json:"speedMbps" doc:"0 is unknown."`
	Duplex     string   `json:"duplex,omitempty" doc:"half or full; empty is unknown."`
	MTU        int      `json:"mtu" doc:"Bytes on layer 3."`
	FCS        bool     `json:"fcs" doc:"Frames come with their frame check sequence, wrong ones too, so that badCRC has an answer."`
	Module     *Module  `json:"module,omitempty" doc:"What the pluggable module says of itself."`
	RxPackets  uint64   `json:"rxPackets" doc:"Frames received since the processing started, lost ones not counted."`
	RxBytes    uint64   `json:"rxBytes"`
	LostNic    uint64   `json:"lostNic" doc:"Frames that the NIC dropped."`
	LostKernel uint64   `json:"lostKernel" doc:"Frames that found the engine's ring full, or no engine."`
	OwnPackets uint64   `json:"ownPackets" doc:"Frames of Galvo's own connections, left out on ports with an address."`
	BitRate    uint64   `json:"bitRate"`
	PacketRate uint64   `json:"packetRate" doc:"Frames per second."`
	Gaps       []Gap    `json:"gaps" doc:"Latest intervals in which frames were lost, newest last."`
	Sizes      []uint64 `json:"sizes" doc:"Frames by length on the wire: up to 64, 128, 256, 512, 1024, 1518 bytes, and above."`
}

// A Module is a pluggable transceiver.
type Module struct {
	Type         string  `json:"type" doc:"SFP, QSFP28, ..."`
	Vendor       string  `json:"vendor"`
	Part         string  `json:"part"`
	Serial       string  `json:"serial"`
	Measured     bool    `json:"measured" doc:"Whether the next values were measured."`
	TemperatureC float64 `json:"temperatureC"`
	RxPowerDBm   float64 `json:"rxPowerDBm" doc:"Of the first lane; -40 is no light."`
	TxPowerDBm   float64 `json:"txPowerDBm"`
}

// A Gap is an interval in which a port lost frames.
type Gap struct {
	Start int64  `json:"start"`
	End   int64  `json:"end"`
	Lost  uint64 `json:"lost"`
	Cause string `json:"cause" doc:"nic, kernel, engine, or port"`
}

// A ProtocolCount is the traffic of one protocol.
type ProtocolCount struct {
	Layer    string `json:"layer" doc:"mac, l4, or l7"`
	Name     string `json:"name"`
	Packets  uint64 `json:"packets"`
	Bytes    uint64 `json:"bytes"`
	BitRate  uint64 `json:"bitRate"`
	Category string `json:"category,omitempty"`
	Filter   string `json:"filter" doc:"Expert filter that captures it."`

	PacketRate uint64   `json:"packetRate" doc:"Packets a second."`
	OSILayer   int      `json:"osiLayer,omitempty" doc:"Where a protocol of l7 is at home: 2 the link, 3 the network, 7 the application."`
	By         []string `json:"by,omitempty" doc:"How it is recognised, of layer 7: link, ip protocol, signature, dissector, host name, port guess."`
}

// A Word of a filter, for an editor: what stands where.
type Word struct {
	Pos  int    `json:"pos" doc:"0-based byte."`
	Len  int    `json:"len"`
	Kind string `json:"kind" doc:"operand, operator, value, logic, parenthesis"`
}

// A FilterCheck says what an expression means, or what is wrong with it.
type FilterCheck struct {
	Canonical string `json:"canonical"`
	Words     string `json:"words" doc:"The filter in plain words."`
	NeedsL7   bool   `json:"needsL7" doc:"Packets that come before their flow's verdict are skipped, or held."`
	Error     *Error `json:"error,omitempty"`
}

// A Status is the state of the device.
type Status struct {
	Name        string          `json:"name"`
	Version     string          `json:"version"`
	Time        int64           `json:"time"`
	Uptime      int64           `json:"uptime" doc:"Seconds."`
	State       string          `json:"state" doc:"ok or degraded"`
	Network     Network         `json:"network"`
	Fingerprint string          `json:"fingerprint" doc:"SHA-256 of the device's certificate, as browsers show it."`
	Services    []ServiceStatus `json:"services"`
	Problems    []string        `json:"problems" doc:"What is wrong, and what to do about it."`
	Role        Role            `json:"role" doc:"Of who asks: viewer, capture, or admin."`
}

// A ServiceStatus is the state of one process.
type ServiceStatus struct {
	Name   string `json:"name" doc:"host, engine, web"`
	State  string `json:"state" doc:"ok or down"`
	Reason string `json:"reason,omitempty"`
}

// A MemoryPart is a named share of the memory plan.
type MemoryPart struct {
	Name  string  `json:"name"`
	Want  uint64  `json:"want" doc:"Bytes that the settings ask for."`
	Bytes uint64  `json:"bytes" doc:"Bytes granted."`
	Used  *uint64 `json:"used,omitempty" doc:"Bytes in use now. Not said of the program: its code, stacks and heaps cannot be told from the tables that fill up inside of the same processes; they count with kernel and system, which is what the machine uses beyond the other parts."`
	Why   string  `json:"why,omitempty" doc:"Why less than wanted was granted."`
}

// A Memory is the memory plan.
type Memory struct {
	Total  uint64       `json:"total" doc:"Bytes that the machine has."`
	Kernel uint64       `json:"kernel" doc:"Bytes reserved for the kernel and other programs."`
	Share  uint64       `json:"share" doc:"Bytes that Galvo may use."`
	Parts  []MemoryPart `json:"parts"`
}

// A Snapshot is what GET /events sends: the state of everything that changes by itself.
type Snapshot struct {
	Time      int64           `json:"time"`
	Ports     []Port          `json:"ports"`
	Captures  []Capture       `json:"captures"`
	Finished  []Capture       `json:"finished,omitzero" doc:"Left out while it is the same as in the event before."`
	Protocols []ProtocolCount `json:"protocols"`
	Rings     []Ring          `json:"rings"`
	Slots     []Slot          `json:"slots"`
	Panics    uint64          `json:"panics" doc:"Packets whose application protocol was not looked for, because of a fault in Galvo that is in its log."`
}

// A ConfigChange is one field that a new configuration changes.
type ConfigChange struct {
	Field string `json:"field"`
	Old   string `json:"old"`
	New   string `json:"new"`
	Takes string `json:"takes" enum:"live,restart,reboot" doc:"When the change is in effect."`
}

// A ConfigCheck says what a configuration would change, or what is wrong with it.
type ConfigCheck struct {
	Changes        []ConfigChange `json:"changes"`
	ConfirmSeconds int            `json:"confirmSeconds,omitempty" doc:"The management settings change: within so many seconds POST /config/confirm must come, or they are undone."`
	Memory         *Memory        `json:"memory,omitempty" doc:"How memory would be shared out."`
	Error          *Error         `json:"error,omitempty"`
}

// A Generation is a former configuration. 1 is the latest.
type Generation struct {
	Number  int            `json:"number"`
	Time    int64          `json:"time" doc:"When it came into effect."`
	Changes []ConfigChange `json:"changes" doc:"What would change if it were restored."`
	Error   string         `json:"error,omitempty" doc:"Why it cannot be read."`
}

// A Reset brings settings back to how they were at a first start.
type Reset struct {
	Keep []string `json:"keep,omitempty" maxItems:"32" doc:"What stays: parts of the configuration (management, port, ...), and for a factory reset users too."`
}

// A Network is how the device is reached, and where its time comes from.
type Network struct {
	Name           string     `json:"name" doc:"Host name, without a domain."`
	Appliance      bool       `json:"appliance"`
	Port           string     `json:"port,omitempty" doc:"Management port; empty on a plain host that looks after its network itself."`
	Index          int        `json:"index,omitempty" doc:"The kernel's number of the management port."`
	Source         string     `json:"source,omitempty" doc:"Of its IPv4 address: dhcp, static, or link-local."`
	Addresses      []string   `json:"addresses" doc:"Of the management port, or of a plain host."`
	Router         string     `json:"router,omitempty"`
	DNS            []string   `json:"dns"`
	LeaseServer    string     `json:"leaseServer,omitempty"`
	LeaseEnd       int64      `json:"leaseEnd,omitempty"`
	ConfirmSeconds int        `json:"confirmSeconds,omitempty" doc:"Time left to confirm changed management settings."`
	Clock          ClockState `json:"clock"`
	Problems       []string   `json:"problems" doc:"What is wrong, and what to do about it."`
}

// A ClockState is where the time comes from.
type ClockState struct {
	Source  string `json:"source" doc:"NTP server, or empty while the machine's clock runs by itself."`
	Synced  bool   `json:"synced"`
	Offset  int64  `json:"offset" doc:"Microseconds that the clock was behind at the last answer."`
	Last    int64  `json:"last,omitempty" doc:"When that was."`
	Problem string `json:"problem,omitempty"`
}

// A Token lets a program in without a password. Secret is shown once, when it is made.
type Token struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Role    Role   `json:"role" enum:"viewer,capture,admin"`
	Secret  string `json:"secret,omitempty"`
	Created int64  `json:"created"`
	Used    int64  `json:"used,omitempty" doc:"Last use."`
}
