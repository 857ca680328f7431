// Package l7 recognises the application protocol of a flow from its payload.
//
// An Engine belongs to one worker. Its state of a flow lives in the flow's record and in a bounded store of side buffers, which are
// given back at the verdict. A port alone never decides.
package l7

// An ID names a protocol or an application; 0 is none. Names and IDs come from the protocol table.
type ID uint16

// A State says how much is known about a flow's protocol.
type State uint8

// The states. Only Pending may still become any other; Partial may become Final.
const (
	NoFlow  State = iota // the packet has no flow: nothing can ever be said, and no protocol is equal
	Pending              // not yet recognised
	Partial              // carrier known, application may follow
	Final                // recognised
	Guessed              // gave up, fallback by port or cache
	Unknown              // gave up; will not change
)

// A Verdict is what is known about the flow of a packet at the moment the packet was seen, the packet itself included.
type Verdict struct {
	Proto ID    // carrier or master: TLS, HTTP, DNS, ...
	App   ID    // what it carries, if known
	State State //
}

// String returns the state's name as exports spell it; "" for NoFlow.
func (s State) String() string {
	return [...]string{"", "pending", "partial", "final", "guessed", "unknown"}[min(s, Unknown)]
}
