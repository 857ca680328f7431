package api

// A RingRequest asks for a packet ring buffer.
type RingRequest struct {
	Name        string     `json:"name" minLength:"1" maxLength:"63" pattern:"^[A-Za-z0-9][A-Za-z0-9._-]*$" patternDescription:"letters, digits, dots, hyphens and underlines, of which a letter or digit comes first"`
	Devices     []string   `json:"devices,omitempty" maxItems:"64" doc:"Storage devices, by id or name, over which its blocks are spread; empty is the only active one."`
	SizeBytes   uint64     `json:"sizeBytes" maximum:"1000000000000000000" doc:"What it takes on all devices together."`
	Replication int        `json:"replication,omitempty" minimum:"0" maximum:"1" doc:"Copies of each block beside the first, on other devices."`
	QueueBytes  uint64     `json:"queueBytes,omitempty" doc:"Memory for what its disks have not taken yet; 0, and whatever is more than the memory plan grants, is what that grants."`
	Rules       []RingRule `json:"rules,omitempty" maxItems:"64" doc:"The first one that matches a packet says what is kept of it; what none matches is kept in full."`
}

// A RingRule says what a ring keeps of some packets.
type RingRule struct {
	Type       string `json:"type" enum:"all,mac,ip,port,l7,vlan,interface,sip,group,filter" doc:"What value is; vlan is the outer tag, sip a number in From or To, filter an expert filter."`
	Value      string `json:"value,omitempty" maxLength:"65536" doc:"As in the filter language, lists too; none for all."`
	Negate     bool   `json:"negate,omitempty" doc:"The rule is for all other packets."`
	Action     string `json:"action" enum:"full,snap,l2,l3,l4,discard" doc:"Keep all of a packet, its first snapLength bytes, everything up to the end of the header of layer 2 (with tags and labels), 3 (IP with its options and extensions, or ARP) or 4, or nothing. Where a packet does not have the layer, the one below counts. A packet that is cut keeps the length that it had on the wire: len means that one."`
	SnapLength int    `json:"snapLength,omitempty" minimum:"0" maximum:"65535"`
}

// A Ring is a packet ring buffer and how it does.
type Ring struct {
	RingRequest
	State        string            `json:"state" doc:"creating; recording; stopped, which can be read, but no device takes packets; waiting, for its devices or because of rings.max; or failed"`
	Reason       string            `json:"reason,omitempty"`
	Progress     int               `json:"progress,omitempty" doc:"Percentage of the creation that is done."`
	UsableBytes  uint64            `json:"usableBytes" doc:"For packets and their indexes, of one copy."`
	UsedBytes    uint64            `json:"usedBytes" doc:"Of usableBytes."`
	TotalBytes   uint64            `json:"totalBytes" doc:"Of packets recorded since the ring was created; more than usedBytes once the oldest were overwritten."`
	Packets      uint64            `json:"packets" doc:"Recorded since the ring was opened: when the processing started, or when a storage device of its own came or went."`
	Discarded    uint64            `json:"discarded" doc:"Left out by rules, since the ring was created."`
	Dropped      map[string]uint64 `json:"dropped" doc:"Frames that are missing, by cause: queue, the disks were too slow; disk, none took them; pinned, all that could be overwritten is protected; format, their interface could not be described."`
	Oldest       int64             `json:"oldest,omitempty" doc:"Time of the oldest packet from which on nothing was overwritten."`
	Newest       int64             `json:"newest,omitempty"`
	ByteRate     uint64            `json:"byteRate" doc:"Bytes per second over the last seconds."`
	DeviceStates []RingDevice      `json:"deviceStates"`
	Pins         []RingPin         `json:"pins"`
	Problems     []string          `json:"problems" doc:"What went wrong since the ring was opened, oldest first."`
}

// A RingDevice is a ring's part on one storage device.
type RingDevice struct {
	Device    string `json:"device"`
	State     string `json:"state" doc:"active, absent, or failed"`
	Reason    string `json:"reason,omitempty"`
	SizeBytes uint64 `json:"sizeBytes"`
	UsedBytes uint64 `json:"usedBytes" doc:"Of blocks that are complete: the ring's own usedBytes has those in the making, too."`
}

// A RingPin protects the packets of a time from being overwritten.
type RingPin struct {
	StartTime int64  `json:"startTime" minimum:"0" maximum:"4611686018427387"`
	EndTime   int64  `json:"endTime" minimum:"0" maximum:"4611686018427387"`
	Until     int64  `json:"until" minimum:"0" maximum:"4611686018427387" doc:"When the protection ends; a time that has passed ends it."`
	Bytes     uint64 `json:"bytes,omitempty" doc:"That are protected: whole segments."`
}

// A RingList is all rings, in the order of their creation.
type RingList struct {
	Rings []Ring `json:"rings"`
}

// A RingInterval is a part of what a ring has.
type RingInterval struct {
	Name      string `json:"name" maxLength:"63"`
	StartTime int64  `json:"startTime,omitempty" minimum:"0" maximum:"4611686018427387" doc:"Microseconds since the epoch; 0 is the oldest packet."`
	EndTime   int64  `json:"endTime,omitempty" minimum:"0" maximum:"4611686018427387" doc:"0 is now."`
}

// A DryRunRequest asks what a capture from a ring would bring.
type DryRunRequest struct {
	Expression string `json:"expression,omitempty" maxLength:"65536"`
	StartTime  int64  `json:"startTime,omitempty" minimum:"0" maximum:"4611686018427387" doc:"Microseconds since the epoch; 0 is the oldest packet."`
	EndTime    int64  `json:"endTime,omitempty" minimum:"0" maximum:"4611686018427387" doc:"0 is now."`
}

// A DryRun is what a capture from a ring would bring.
type DryRun struct {
	Blocks    uint64  `json:"blocks" doc:"Of 1 MiB, that would be read."`
	Packets   uint64  `json:"packets" doc:"That would match, about."`
	Error     uint64  `json:"error" doc:"That packets is off by, at most, 19 times of 20: as far as the blocks that were looked at tell."`
	Bytes     uint64  `json:"bytes" doc:"Of these, about."`
	Seconds   float64 `json:"seconds" doc:"That it would take, about, if nobody slows it down."`
	Sampled   uint64  `json:"sampled" doc:"Blocks that were looked at for this answer."`
	Exact     bool    `json:"exact" doc:"All blocks were looked at, and each packet was judged as the capture would. Of callIdMedia and names of rtpPayloadType that SDP gives the dry run misses the media, of streamRegexp what is spread over several segments."`
	StartTime int64   `json:"startTime,omitempty" doc:"Where what the ring has of the interval begins."`
	EndTime   int64   `json:"endTime,omitempty" doc:"Where it ends."`
	Empty     string  `json:"empty,omitempty" doc:"Why nothing would match."`
}

// A Scan says what a capture from a ring looked at.
type Scan struct {
	Blocks    uint64    `json:"blocks" doc:"Of 1 MiB, that the ring has in the interval."`
	Read      uint64    `json:"read" doc:"Of these, blocks that were read: the others cannot hold what was asked for."`
	Bytes     uint64    `json:"bytes" doc:"That were read, from the devices or from memory."`
	Packets   uint64    `json:"packets" doc:"That were looked at."`
	Matched   uint64    `json:"matched"`
	Undecided uint64    `json:"undecided" doc:"Left out because their flow never got a verdict on which the filter could decide."`
	Disorder  uint64    `json:"disorder" doc:"Delivered after a later one, because the reorder buffer was too small."`
	Dropped   uint64    `json:"dropped" doc:"That the ring did not take in the interval, about, because the disk or the queue was full; whether they would have matched is not known."`
	Lost      uint64    `json:"lost" doc:"That ports lost in the interval, about, before the ring: the counters of the ports say where."`
	StartTime int64     `json:"startTime,omitempty" doc:"Where what the ring has of the interval begins."`
	EndTime   int64     `json:"endTime,omitempty" doc:"Where it ends."`
	Until     int64     `json:"until,omitempty" doc:"Up to when the interval was looked at by now, or when the capture ended: what is later was not searched."`
	Gaps      []ScanGap `json:"gaps" doc:"Times of which packets may be missing."`
	Empty     string    `json:"empty,omitempty" doc:"Why nothing matched."`

	Passed uint64 `json:"-"` // packets that were not wanted, none later than what was delivered
	Held   uint64 `json:"-"` // packets that wait for the verdict of their flow
}

// A ScanGap is a time of which packets may be missing in a capture.
type ScanGap struct {
	StartTime int64  `json:"startTime"`
	EndTime   int64  `json:"endTime"`
	Reason    string `json:"reason"`
}

// Inputs of the operations on rings.
type (
	// A NameInput names a ring.
	NameInput struct {
		Caller
		Name string `path:"name"`
	}

	// A DryRunInput asks a ring.
	DryRunInput struct {
		NameInput
		Body DryRunRequest
	}

	// A RulesInput has a ring's rules.
	RulesInput struct {
		NameInput
		Body struct {
			Rules []RingRule `json:"rules" maxItems:"64" doc:"In the place of all that the ring has; none keeps everything in full."`
		}
	}

	// A PinInput protects a time of a ring.
	PinInput struct {
		NameInput
		Body RingPin
	}
)

// The operations on rings.
var (
	ListRings  = operation[Nothing, Reply[RingList]](ServiceEngine, RoleViewer, "GET", "/api/v1/rings", "List the packet ring buffers")
	MakeRing   = operation[Request[RingRequest], Created[Ring]](ServiceEngine, RoleAdmin, "POST", "/api/v1/rings", "Create a packet ring buffer")
	GetRing    = operation[NameInput, Reply[Ring]](ServiceEngine, RoleViewer, "GET", "/api/v1/rings/{name}", "Show a packet ring buffer")
	DeleteRing = operation[NameInput, Nothing](ServiceEngine, RoleAdmin, "DELETE", "/api/v1/rings/{name}", "Delete a packet ring buffer and all its packets")
	DryRunRing = operation[DryRunInput, Reply[DryRun]](ServiceEngine, RoleViewer, "POST", "/api/v1/rings/{name}/dryrun", "Say what a capture from a ring would bring")
	SetRules   = operation[RulesInput, Reply[Ring]](ServiceEngine, RoleAdmin, "PUT", "/api/v1/rings/{name}/rules", "Replace the rules of a packet ring buffer; what was recorded stays as it is")
	PinRing    = operation[PinInput, Reply[[]RingPin]](ServiceEngine, RoleCapture, "POST", "/api/v1/rings/{name}/pins", "Protect the packets of a time from being overwritten")
)
