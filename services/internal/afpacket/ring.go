package afpacket

import (
	"encoding/binary"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"galvo/services/internal/packet"
	"galvo/services/internal/pcapng"
)

// fcsBytes is the length of Ethernet's frame check sequence.
const fcsBytes = 4

// headroom is kept free before each frame (PACKET_RESERVE) for the VLAN tag that is put back.
const headroom = 4

// Where the kernel writes things, from linux/if_packet.h:
//
//	Frame structure of TPACKET_V3:
//	- Start. Frame must be aligned to TPACKET_ALIGNMENT=16
//	- struct tpacket3_hdr
//	- pad to TPACKET_ALIGNMENT=16
//	- struct sockaddr_ll
//	- Gap, chosen so that packet data (Start+tp_net) aligns to TPACKET_ALIGNMENT=16
//	- Start+tp_mac: [ Optional MAC header ]
const (
	blockHeader = 8                                           // struct tpacket_hdr_v1 in struct tpacket_block_desc
	pktTypeAt   = int(unsafe.Sizeof(unix.Tpacket3Hdr{})) + 10 // sockaddr_ll.sll_pkttype
)

// A ring is the TPACKET_V3 ring of one port and worker. Its fields belong to the worker, but those that say otherwise.
type ring struct {
	port *Port // constant
	fd   int   // constant
	mem  []byte

	block   int // index of the current block: the one being read, or waited for
	base    unsafe.Pointer
	at      uint32 // next frame in the current block
	left    uint32 // frames left in it
	ahead   uint32 // how far it was read ahead
	end     uint32 // of its frames
	touched byte   // what was read there; means nothing
	read    int    // blocks before the current one whose frames are in the last batch
	pending bool   // the ring has a ready block
	dropped bool   // the worker has let go of the ring

	takenFrames, takenBytes uint64

	frames atomic.Uint64 // what was taken, for others to read: the worker writes it once a batch
	bytes  atomic.Uint64
	gone   chan struct{} // closed when the worker has let go of the ring
}

// setUp makes the ring and starts the socket behind a filter that takes nothing.
func (r *ring) setUp(ifindex int, o Options) error {
	if err := setProgram(r.fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, takeNothing); err != nil {
		return err
	}
	ignore := 0
	if o.Direction == In {
		ignore = 1
	}
	for _, option := range [...]struct{ name, value int }{
		{unix.PACKET_VERSION, unix.TPACKET_V3},
		{unix.PACKET_RESERVE, headroom},
		{unix.PACKET_TIMESTAMP, unix.SOF_TIMESTAMPING_RAW_HARDWARE}, // where the NIC has none the kernel's own stamp is taken
		{unix.PACKET_IGNORE_OUTGOING, ignore},
	} {
		if err := unix.SetsockoptInt(r.fd, unix.SOL_PACKET, option.name, option.value); err != nil {
			return err
		}
	}
	const frameSize = 2048 // TPACKET_V3 packs frames whatever this says, but wants it consistent
	err := unix.SetsockoptTpacketReq3(r.fd, unix.SOL_PACKET, unix.PACKET_RX_RING, &unix.TpacketReq3{
		Block_size:     BlockSize,
		Block_nr:       uint32(o.Blocks),
		Frame_size:     frameSize,
		Frame_nr:       uint32(o.Blocks * (BlockSize / frameSize)),
		Retire_blk_tov: uint32(retire / time.Millisecond),
	})
	if err != nil {
		return err
	}
	r.mem, err = unix.Mmap(r.fd, 0, o.Blocks*BlockSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	return unix.Bind(r.fd, &unix.SockaddrLinklayer{Ifindex: ifindex, Protocol: networkOrder(unix.ETH_P_ALL)})
}

// networkOrder returns what has the bytes of v in network byte order in memory, as sockaddr_ll wants them.
func networkOrder(v uint16) uint16 {
	return binary.NativeEndian.Uint16([]byte{byte(v >> 8), byte(v)})
}

func (r *ring) close() {
	if r.mem != nil {
		_ = unix.Munmap(r.mem) // can only fail for memory that is not mapped
		r.mem = nil
	}
	unix.Close(r.fd)
}

// header returns the header of block i, counted on around the ring.
func (r *ring) header(i int) *unix.TpacketHdrV1 {
	return (*unix.TpacketHdrV1)(unsafe.Pointer(&r.mem[i*BlockSize+blockHeader]))
}

// ready reports whether there are frames.
func (r *ring) ready() bool {
	// When every block is read and none is released yet the current one is the first of those.
	for !r.pending && r.read*BlockSize < len(r.mem) {
		h := r.header(r.block)
		if atomic.LoadUint32(&h.Block_status)&unix.TP_STATUS_USER == 0 {
			break // the kernel sets the status after everything else in the block
		}
		r.base = unsafe.Pointer(&r.mem[r.block*BlockSize])
		r.at, r.left = h.Offset_to_first_pkt, h.Num_pkts
		r.ahead, r.end = r.at, h.Blk_len
		r.pending = true
		if r.left == 0 {
			r.advance()
		}
	}
	return r.pending
}

// advance goes on to the next block, and keeps the current one until release.
func (r *ring) advance() {
	r.pending = false
	r.read++
	r.block++
	if r.block*BlockSize == len(r.mem) {
		r.block = 0
	}
}

// release gives the blocks back whose frames were read.
func (r *ring) release() {
	for ; r.read > 0; r.read-- {
		i := r.block - r.read
		if i < 0 {
			i += len(r.mem) / BlockSize
		}
		h := r.header(i)
		atomic.StoreUint32(&h.Num_pkts, 0) // else filling would find frames until the kernel takes the block
		atomic.StoreUint32(&h.Block_status, unix.TP_STATUS_KERNEL)
	}
}

// filling returns the time of the first frame in the block that the kernel fills; or no if there is none. The kernel ends such a block after 20 ms, or when the
// processor that it should do that on has time. The kernel counts a frame before it writes its stamp: until then the stamp is that of a frame from an
// earlier round, or none, both of which are earlier.
func (r *ring) filling() (first int64, ok bool) {
	if r.pending {
		return r.nextTime(), true
	}
	if r.read*BlockSize >= len(r.mem) {
		return 0, false
	}
	h := r.header(r.block)
	if at := atomic.LoadUint32(&h.Offset_to_first_pkt); atomic.LoadUint32(&h.Num_pkts) != 0 && at <= BlockSize-uint32(unsafe.Sizeof(unix.Tpacket3Hdr{})) {
		return stamp((*unix.Tpacket3Hdr)(unsafe.Pointer(&r.mem[r.block*BlockSize+int(at)]))), true
	}
	return 0, false
}

// nextTime returns the time of the next frame; the ring must be ready.
func (r *ring) nextTime() int64 { return stamp((*unix.Tpacket3Hdr)(unsafe.Add(r.base, r.at))) }

func stamp(h *unix.Tpacket3Hdr) int64 { return int64(h.Sec)*1e9 + int64(h.Nsec) }

// take moves frames of the current block into packets, up to the last one that is not after limit, and returns how many.
func (r *ring) take(packets []packet.Packet, limit int64) int {
	var bytes uint64
	n := 0
	iface, base, at := r.port.Iface, r.base, r.at
	for n < len(packets) && r.left > 0 {
		r.touchAhead(at)
		start := unsafe.Add(base, at)
		h := (*unix.Tpacket3Hdr)(start)
		t := stamp(h)
		if t > limit {
			break
		}
		f := &packets[n].Frame
		data, size := unsafe.Add(start, h.Mac), h.Snaplen
		f.Len, f.Iface, f.Time = h.Len, iface, t
		f.Flags = packet.DirIn
		if *(*uint8)(unsafe.Add(start, pktTypeAt)) == unix.PACKET_OUTGOING {
			f.Flags = packet.DirOut
		}
		if h.Status&(unix.TP_STATUS_VLAN_VALID|unix.TP_STATUS_TS_RAW_HARDWARE) != 0 {
			if h.Status&unix.TP_STATUS_TS_RAW_HARDWARE != 0 {
				f.Flags |= packet.HWStamp
			}
			if h.Status&unix.TP_STATUS_VLAN_VALID != 0 && size >= 12 {
				data = restoreTag(data, h)
				size += 4
				f.Len += 4
			}
		}
		f.Data = unsafe.Slice((*byte)(data), size)
		if r.port.fcs && f.Flags&packet.DirMask == packet.DirIn {
			pcapng.StripFCS(f, fcsBytes, true)
		}
		bytes += uint64(f.Len)
		at += h.Next_offset
		r.left--
		n++
	}
	r.at = at
	if r.left == 0 {
		r.advance()
	}
	r.takenFrames += uint64(n)
	r.takenBytes += bytes
	return n
}

// touchAhead reads a byte of each cache line up to 4 KiB ahead in the block. Frames are a chain that tells where the next one is only
// when this one is there, and each was written by another processor: walking it costs 85 ns per frame (mixed traffic, full ring). Reading
// line after line lets the processor fetch them early: 27 ns, and decoding saves as much again.
func (r *ring) touchAhead(at uint32) {
	var sum byte
	for end := min(at+4096, r.end); r.ahead < end; r.ahead += 64 {
		sum += *(*byte)(unsafe.Add(r.base, r.ahead))
	}
	r.touched = sum // else the compiler would leave the reading out
}

// publish lets others see what was taken.
func (r *ring) publish() {
	if r.takenFrames != r.frames.Load() {
		r.frames.Store(r.takenFrames)
		r.bytes.Store(r.takenBytes)
	}
}

// restoreTag puts the VLAN tag back that the kernel took out of the frame at data, and returns where the frame begins now.
func restoreTag(data unsafe.Pointer, h *unix.Tpacket3Hdr) unsafe.Pointer {
	tpid := uint16(unix.ETH_P_8021Q)
	if h.Status&unix.TP_STATUS_VLAN_TPID_VALID != 0 {
		tpid = h.Hv1.Vlan_tpid
	}
	begin := unsafe.Add(data, -headroom)
	macs := *(*[12]byte)(data)
	*(*[12]byte)(begin) = macs
	tci := h.Hv1.Vlan_tci
	*(*[4]byte)(unsafe.Add(begin, 12)) = [4]byte{byte(tpid >> 8), byte(tpid), byte(tci >> 8), byte(tci)}
	return begin
}
