package flow

// CallIDs is how many identifiers of calls are kept of a packet.
const CallIDs = 8

// A Call says which calls a packet belongs to, as package l7 learnt it: it carries a part of a SIP message, or media that SDP negotiated.
type Call struct {
	IDs       [CallIDs]uint64 // hashes of the calls' identifiers (call.ID), first those of the message that the packet goes on with; 0 = none
	Own       uint8           // how many of them are that message's
	Media     bool            // media, and no message
	Pending   bool            // the packet begins a message whose identifiers come with a later packet
	Message   uint32          // with Pending: number of that message within the flow
	Continues uint32          // number of the message that the packet goes on with; its identifiers are known now. 0 = none
	Codec     uint32          // hash of the name that SDP gave the packet's RTP payload type (call.CodecID); 0 = none
}

// Add notes an identifier, once. What is beyond the room is left out.
func (c *Call) Add(id uint64) {
	if id == 0 {
		return
	}
	for i := range c.IDs {
		switch c.IDs[i] {
		case id:
			return
		case 0:
			c.IDs[i] = id
			return
		}
	}
}

// Has reports whether the packet belongs to the call with an identifier.
func (c *Call) Has(id uint64) bool {
	for _, have := range c.IDs {
		if have == id {
			return true
		}
	}
	return false
}
