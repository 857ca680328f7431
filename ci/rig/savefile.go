package rig

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
)

// ReadFile reads the Ethernet frames of a pcap or pcapng file. Times are relative to the first frame. Frames that the file has only the
// beginning of are given as short as they are.
func ReadFile(name string) ([]Frame, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	frames, err := readFrames(bufio.NewReaderSize(f, 1<<20))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return frames, nil
}

func readFrames(r *bufio.Reader) ([]Frame, error) {
	source, err := newReader(r)
	if err != nil {
		return nil, err
	}
	if link := source.LinkType(); link != layers.LinkTypeEthernet {
		return nil, fmt.Errorf("link type %s instead of Ethernet", link)
	}
	var frames []Frame
	var start time.Time
	for {
		data, info, err := source.ReadPacketData()
		if errors.Is(err, io.EOF) {
			return frames, nil
		}
		if err != nil {
			return nil, fmt.Errorf("frame %d: %w", len(frames)+1, err)
		}
		if len(frames) == 0 {
			start = info.Timestamp
		}
		frames = append(frames, Frame{data, info.Timestamp.Sub(start)})
	}
}

type reader interface {
	gopacket.PacketDataSource
	LinkType() layers.LinkType
}

func newReader(r *bufio.Reader) (reader, error) {
	magic, err := r.Peek(4)
	if err != nil {
		return nil, err
	}
	if string(magic) == "\x0a\x0d\x0d\x0a" {
		return pcapgo.NewNgReader(r, pcapgo.DefaultNgReaderOptions)
	}
	return pcapgo.NewReader(r)
}

// WritePcap writes frames to a pcap file with nanosecond times, beginning in 2026.
func WritePcap(name string, frames []Frame) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	if err := writeFrames(f, frames); err != nil {
		f.Close()
		return fmt.Errorf("write %s: %w", name, err)
	}
	return f.Close()
}

func writeFrames(w io.Writer, frames []Frame) error {
	buffered := bufio.NewWriterSize(w, 1<<20)
	out := pcapgo.NewWriterNanos(buffered)
	if err := out.WriteFileHeader(262144, layers.LinkTypeEthernet); err != nil {
		return err
	}
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, f := range frames {
		info := gopacket.CaptureInfo{Timestamp: start.Add(f.Time), CaptureLength: len(f.Data), Length: len(f.Data)}
		if err := out.WritePacket(info, f.Data); err != nil {
			return err
		}
	}
	return buffered.Flush()
}
