package l7_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"testing"

	"galvo/services/internal/flow"
	"galvo/services/internal/l7"
	"galvo/services/internal/l7/protocol"
	"galvo/services/internal/packet"
	"galvo/services/internal/pipeline"
	"galvo/services/internal/savefile"
)

// A row is a flow of a savefile as the engine saw it.
type row struct {
	id           uint64
	proto        uint8
	addr         [2]netip.Addr
	port         [2]uint16
	verdict      l7.Verdict
	host         string
	dpi          int
	packets      uint32
	bytes        uint64
	first, named int // frame numbers, of the first packet and of the one with the verdict
}

func (r *row) String() string {
	return fmt.Sprintf("%d %v:%d-%v:%d %s/%s %q", r.proto, r.addr[0], r.port[0], r.addr[1], r.port[1], protocol.Name(r.verdict.Proto), protocol.Name(r.verdict.App), r.host)
}

// A run classifies the flows of savefiles.
type run struct {
	flows  []row
	frames []uint64     // flow of each frame, from 1; 0 = none
	links  []l7.Verdict // of each frame
}

// classify runs a savefile through decoding, flows and the engine. Damage ends the file quietly.
func classify(tb testing.TB, config l7.Config, name string) *run {
	return classifySome(tb, config, name, func(int) bool { return true })
}

// classifySome is classify without the frames (counted from 1) that keep does not want.
func classifySome(tb testing.TB, config l7.Config, name string, keep func(frame int) bool) *run {
	tb.Helper()
	source, err := savefile.Open([]string{name}, nil)
	if err != nil {
		return &run{}
	}
	defer source.Close()
	out := &run{frames: []uint64{0}, links: []l7.Verdict{{}}}
	engine := l7.New(config)
	rows := make(map[uint64]*row)
	end := func(r *flow.Record) {
		if r.Flags&flow.Outside == 0 {
			out.flows = append(out.flows, finish(engine, r, rows[r.ID]))
		}
		engine.End(r)
	}
	table := flow.New(flow.Config{OnEnd: end})
	var batch pipeline.Batch
	batch.Packets = make([]packet.Packet, 0, pipeline.BatchSize)
	for {
		err := source.Next(context.Background(), &batch)
		if errors.Is(err, io.EOF) || err != nil {
			break
		}
		links := source.Interfaces()
		table.Begin()
		engine.Begin()
		for i := range batch.Packets {
			p := &batch.Packets[i]
			if !keep(len(out.frames)) {
				out.frames, out.links = append(out.frames, 0), append(out.links, l7.Verdict{})
				continue
			}
			p.Decode(links[p.Iface].Link)
			ref := table.Find(p)
			v := engine.Inspect(p, table.Innermost(p), &ref)
			out.links = append(out.links, v)
			if ref.Flow == nil {
				out.frames = append(out.frames, 0)
				continue
			}
			out.frames = append(out.frames, ref.Flow.ID)
			r := rows[ref.Flow.ID]
			if r == nil {
				r = &row{first: len(out.frames) - 1}
				rows[ref.Flow.ID] = r
			}
			if r.named == 0 && v.Proto != 0 {
				r.named = len(out.frames) - 1
			}
		}
	}
	for r := range table.All() {
		end(r)
	}
	slices.SortFunc(out.flows, func(a, b row) int { return cmp.Compare(a.id, b.id) })
	return out
}

func finish(engine *l7.Engine, r *flow.Record, seen *row) row {
	out := row{id: r.ID, proto: r.Proto, port: r.Port, verdict: engine.Finish(r), dpi: l7.DPIPackets(r), packets: r.Packets[0] + r.Packets[1], bytes: r.Bytes(0) + r.Bytes(1)}
	out.host = string(engine.HostName(r))
	if seen != nil {
		out.first, out.named = seen.first, seen.named
	}
	for i := range out.addr {
		if r.Flags&flow.V6 != 0 {
			out.addr[i] = netip.AddrFrom16(r.Addr[i])
		} else {
			out.addr[i] = netip.AddrFrom4([4]byte(r.Addr[i][:4]))
		}
	}
	return out
}
