package flow

// StreamReach is how many bytes before a packet's first new byte, and behind its last one, are looked at for what its stream has: longer than what people look for,
// short enough to be kept for many streams.
const StreamReach = 1024

// A Stream says where the payload of a TCP packet lies in what its sender sends (package stream). Of the payload, New bytes from Skip on did not come before; the
// others were sent again. Before and After are what touches the new bytes and came earlier, as far as it is kept, and without a hole in between.
type Stream struct {
	Before, After []byte
	Skip, New     int
	Open          bool // there is more in front of Before, whose first byte is there only to tell what precedes the others
	More          bool // likewise behind After, whose last byte tells what follows
	Forgotten     bool // something that touches the new bytes may have come before, and was not kept for want of memory
}
