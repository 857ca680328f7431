package ring

import (
	"bytes"
	"context"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"galvo/services/internal/filter"
	"galvo/services/internal/packet"
	"galvo/services/internal/ring/block"
	"galvo/services/internal/ring/files"
	"galvo/services/internal/ring/index"
)

// A chunkSpan is where packets lie that are lost together.
type chunkSpan struct {
	from, to int // bytes of the segment
	ids      []uint64
}

// A blockSpan is a block on a device, and its packets.
type blockSpan struct {
	file            string
	at              int // byte of the segment
	header          block.Header
	chunks          []chunkSpan
	first, flows, z int // of the segment: its first packet, its flow table, the end of that
}

func (b *blockSpan) all() (ids []uint64) {
	for _, c := range b.chunks {
		ids = append(ids, c.ids...)
	}
	return ids
}

// frameID is what stamp has written.
func frameID(data []byte) uint64 { return le.Uint64(data) }

// blocksOn finds the blocks of a ring on a device.
func blocksOn(t *testing.T, d *testDisk) (list []blockSpan) {
	t.Helper()
	for name, f := range d.files {
		if !strings.HasSuffix(name, ".pcapng") {
			continue
		}
		for at := 0; at < index.DataBlocks(int64(len(f.b)))*block.Size; at += block.Size {
			buf := f.b[at : at+block.Size]
			h, err := block.Check(buf)
			if err != nil {
				t.Fatal(name, at, err)
			}
			if h.Seq == 0 {
				continue
			}
			s := blockSpan{file: name, at: at, header: h, first: at + int(h.DataStart), flows: at + int(h.DataEnd), z: at + int(h.FlowsEnd)}
			w, err := (&block.Reader{Buf: buf, Header: h, Chunks: block.All}).Walk(&block.Tables{})
			if err != nil {
				t.Fatal(err)
			}
			last := -1
			for {
				more, err := w.Next()
				if err != nil {
					t.Fatal(err)
				}
				if !more {
					break
				}
				begin := int(uintptr(unsafe.Pointer(&w.Packet.Data[0]))-uintptr(unsafe.Pointer(&buf[0]))) - 28
				end := begin + int(le.Uint32(buf[begin+4:]))
				if c := begin / block.ChunkSize; c != last {
					s.chunks, last = append(s.chunks, chunkSpan{from: at + begin}), c
				}
				c := &s.chunks[len(s.chunks)-1]
				c.to, c.ids = at+end, append(c.ids, frameID(w.Packet.Data))
			}
			list = append(list, s)
		}
	}
	return list
}

// A wreck is a ring to be damaged, as it was closed.
type wreck struct {
	set    *setting
	files  map[string]map[string][]byte // of each device
	blocks map[string][]blockSpan
	whole  []got
	frames map[uint64]*got
}

// newWreck records what wraps a ring, and keeps its files.
func newWreck(t *testing.T, devices, copies int, seed uint64, rounds int) *wreck {
	t.Helper()
	w := &wreck{set: newSetting(t, devices, 24<<20), files: make(map[string]map[string][]byte), blocks: make(map[string][]blockSpan)}
	w.set.cfg.Replicas, w.set.cfg.Workers = copies, 2
	w.set.create(t)
	r := w.set.open(t)
	stages := []Stage{r.Stage(0, table), r.Stage(1, table)}
	players := []*player{newPlayer(stages[0]), newPlayer(stages[1])}
	base := mix(seed, 8000)
	for round := range rounds {
		frames := stamp(base, round, time.Microsecond)
		for i, p := range players {
			p.play(t, frames[i*len(frames)/2:(i+1)*len(frames)/2])
		}
		waitIdle(t, r)
	}
	for _, s := range stages {
		s.Finish()
	}
	closeRing(t, r)
	w.keep(t)
	return w
}

// keep takes note of what is on the disks, which nothing has damaged.
func (w *wreck) keep(t *testing.T) {
	w.frames = make(map[uint64]*got)
	for dir, d := range w.set.disks {
		w.files[dir] = make(map[string][]byte)
		for name, f := range d.files {
			w.files[dir][name] = slices.Clone(f.b)
		}
		w.blocks[dir] = blocksOn(t, d)
	}
	r := w.reopen(t)
	w.whole, _ = collect(t, r, everything)
	closeRing(t, r)
	for i := range w.whole {
		w.frames[frameID(w.whole[i].Data)] = &w.whole[i]
	}
}

// reset makes the files what they were.
func (w *wreck) reset() {
	for dir, d := range w.set.disks {
		d.files, d.fail = make(map[string]*diskFile), nil
		for name, b := range w.files[dir] {
			d.files[name] = &diskFile{disk: d, name: name, b: slices.Clone(b)}
		}
	}
}

func (w *wreck) reopen(t *testing.T) *Ring {
	t.Helper()
	w.reset()
	return w.set.open(t)
}

// lost returns the packets that bytes of a file are needed for.
func (w *wreck) lost(dir, file string, from, to int) (ids []uint64) {
	for i := range w.blocks[dir] {
		b := &w.blocks[dir][i]
		if b.file != file || to <= b.at || from >= b.at+block.Size {
			continue
		}
		trailer := b.at + theTrailer
		if from < b.z && to > b.flows || to > trailer || from < b.first && to > b.at {
			ids = append(ids, b.all()...)
			continue
		}
		for _, c := range b.chunks {
			if from < c.to && to > c.from {
				ids = append(ids, c.ids...)
			}
		}
	}
	return ids
}

// A damage is done to a device's files, and says which packets it is about. What it may cost in vain is in may.
type damage struct {
	name      string
	ids       []uint64
	may       []uint64 // beside, which need not be lost
	unnoticed bool     // nobody need say anything
	only      string   // device that is damaged
}

// bytesAt damages bytes of a file.
func (w *wreck) bytesAt(rng *rand.Rand, dir string) damage {
	var names []string
	for name := range w.files[dir] {
		names = append(names, name)
	}
	slices.Sort(names)
	name := names[rng.IntN(len(names))]
	b := w.set.disks[dir].files[name].b
	from, n := rng.IntN(len(b)), 1
	how := "flip"
	if rng.IntN(2) == 0 { // where there is something to damage
		if spans := w.blocks[dir]; len(spans) > 0 {
			s := &spans[rng.IntN(len(spans))]
			name = s.file
			b = w.set.disks[dir].files[name].b
			places := [][2]int{{s.at, s.first}, {s.first, s.flows}, {s.flows, s.z}, {s.at + theTrailer, s.at + theTrailer + theChunks}, {s.at + theTrailer + theChunks, s.at + theTrailer + theBloom}, {s.at + theTrailer + theBloom, s.at + block.Size}}
			p := places[rng.IntN(len(places))]
			from = p[0] + rng.IntN(max(1, p[1]-p[0]))
		}
	}
	switch rng.IntN(4) {
	case 0:
		how, n = "zero a page", files.PageSize
		from = from &^ (files.PageSize - 1)
		clear(b[from : from+n])
	case 1:
		how = "zero pages"
		from = from &^ (files.PageSize - 1)
		n = min(files.PageSize*(1+rng.IntN(300)), len(b)-from)
		clear(b[from : from+n])
	default:
		b[from] ^= 1 << rng.IntN(8)
	}
	same := bytes.Equal(b, w.files[dir][name])
	d := damage{name: fmt.Sprintf("%s at %d (block %d + %d) of %s/%s, %d bytes", how, from, from/block.Size, from%block.Size, dir, name, n), unnoticed: same, only: dir}
	if strings.HasSuffix(name, ".pcapng") {
		if !same {
			d.ids = w.lost(dir, name, from, from+n)
			for i := range w.blocks[dir] { // zeros over zeros are no damage
				s := &w.blocks[dir][i]
				if s.file == name && bytes.Equal(b[s.at:s.at+block.Size], w.files[dir][name][s.at:s.at+block.Size]) {
					for _, id := range s.all() {
						d.ids = slices.DeleteFunc(d.ids, func(o uint64) bool { return o == id })
					}
				}
			}
			d.may, d.ids = d.ids, w.surely(dir, name, from, n)
			d.unnoticed = same || len(d.may) == 0 // what is not packets is padding, or an index, of which not every page is used
		}
	} else {
		d.unnoticed = true
	}
	return d
}

// surely returns the packets of a file that cannot be read any more: those of chunks that have changed, or of whose block what all of it needs has.
func (w *wreck) surely(dir, name string, from, n int) (ids []uint64) {
	now, was := w.set.disks[dir].files[name].b, w.files[dir][name]
	changed := func(from, to int) bool { return !bytes.Equal(now[from:to], was[from:to]) }
	for i := range w.blocks[dir] {
		s := &w.blocks[dir][i]
		if s.file != name {
			continue
		}
		if changed(s.flows, s.z) || changed(s.at+theTrailer, s.at+block.Size) {
			ids = append(ids, s.all()...)
			continue
		}
		for _, c := range s.chunks {
			if changed(c.from, c.to) {
				ids = append(ids, c.ids...)
			}
		}
	}
	return ids
}

func (w *wreck) segmentNames(dir string) (names []string) {
	for name := range w.files[dir] {
		if strings.HasSuffix(name, ".pcapng") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func (w *wreck) ofFile(dir, name string) (ids []uint64) {
	for i := range w.blocks[dir] {
		if s := &w.blocks[dir][i]; s.file == name {
			ids = append(ids, s.all()...)
		}
	}
	return ids
}

// swap puts a block to another's place.
func (w *wreck) swap(rng *rand.Rand, dir string) damage {
	a, b := &w.blocks[dir][rng.IntN(len(w.blocks[dir]))], &w.blocks[dir][rng.IntN(len(w.blocks[dir]))]
	x, y := w.set.disks[dir].files[a.file].b[a.at:][:block.Size], w.set.disks[dir].files[b.file].b[b.at:][:block.Size]
	was := slices.Clone(x)
	copy(x, y)
	copy(y, was)
	return damage{name: fmt.Sprintf("swap %s+%d (%d) and %s+%d (%d)", a.file, a.at/block.Size, a.header.Seq, b.file, b.at/block.Size, b.header.Seq), may: slices.Concat(a.all(), b.all()), unnoticed: a == b, only: dir}
}

// cut shortens or removes a segment.
func (w *wreck) cut(rng *rand.Rand, dir string) damage {
	names := w.segmentNames(dir)
	name := names[rng.IntN(len(names))]
	d := w.set.disks[dir]
	b := d.files[name].b
	n := rng.IntN(len(b))
	if rng.IntN(3) == 0 {
		delete(d.files, name)
		return damage{name: "remove " + name, ids: w.ofFile(dir, name), only: dir}
	}
	d.files[name].b = b[:n:n]
	return damage{name: fmt.Sprintf("cut %s at %d", name, n), ids: w.lost(dir, name, n, len(b)), may: w.ofFile(dir, name), only: dir}
}

// replace puts another file to the place of a segment.
func (w *wreck) replace(rng *rand.Rand, dir, what string, from map[string][]byte) damage {
	names := w.segmentNames(dir)
	name := names[rng.IntN(len(names))]
	b := w.set.disks[dir].files[name].b
	same := bytes.Equal(b, from[name])
	copy(b, from[name])
	return damage{name: fmt.Sprintf("%s in place of %s", what, name), ids: w.ofFile(dir, name), may: w.ofFile(dir, name), unnoticed: same, only: dir}
}

var damageFilters = []string{"", "port == 53", "port == 443", "l7Protocol == TLS", "mac == 00:11:00:00:00:00/16", "l4Protocol == ICMP", "ip == 10.0.0.0/9", "port == 22 or port == 25", "macProtocol == IPv6"}

// check asks a damaged ring, and holds what it says against what is damaged.
func (w *wreck) check(t *testing.T, d damage, copies int) {
	t.Helper()
	r, err := Open(w.set.cfg)
	if err != nil {
		t.Errorf("%s: %v", d.name, err)
		return
	}
	defer r.Close()
	// A narrow query comes first: the ring may not know yet how its blocks begin.
	filters := append(slices.Clone(damageFilters), w.rare(d)...)
	type answer struct {
		ids  []uint64
		scan Scan
	}
	ask := func(f *filter.Filter, all bool) answer {
		q := everything
		q.Filter, q.Hold, q.everything = f, true, all
		have, scan := collect(t, r, q)
		a := answer{scan: scan}
		for i := range have {
			id := frameID(have[i].Data)
			if f := w.frames[id]; f != nil && (!bytes.Equal(f.Data, have[i].Data) || f.Time != have[i].Time) {
				t.Fatalf("%s: packet %d is not as it was", d.name, id)
			}
			a.ids = append(a.ids, id)
		}
		return a
	}
	for _, text := range filters {
		f := mustFilter(t, text)
		narrow := ask(f, false)
		wide := ask(f, true)
		if !slices.Equal(narrow.ids, wide.ids) {
			t.Errorf("%s: %q brings %d packets, gaps %v, and read as a whole %d, gaps %v", d.name, text, len(narrow.ids), short(narrow.scan.Gaps), len(wide.ids), short(wide.scan.Gaps))
		}
	}
	all := ask(nil, false)
	have := make(map[uint64]int)
	for _, id := range all.ids {
		if have[id]++; have[id] > 1 {
			t.Errorf("%s: packet %d comes twice", d.name, id)
			break
		}
	}
	must, may := make(map[uint64]bool), make(map[uint64]bool)
	if copies == 0 {
		for _, id := range d.ids {
			must[id], may[id] = true, true
		}
		for _, id := range d.may {
			may[id] = true
		}
	}
	missing, silent, innocent := 0, 0, 0
	for id, f := range w.frames {
		if have[id] > 0 {
			continue
		}
		missing++
		if !may[id] {
			innocent++
		}
		if !slices.ContainsFunc(all.scan.Gaps, func(g Gap) bool { return g.From <= f.Time && f.Time <= g.To && g.Why == whyDamaged }) {
			silent++
		}
	}
	problems := strings.Join(r.State().Problems, "; ")
	if innocent > 0 || silent > 0 {
		t.Errorf("%s: of %d packets %d are missing, %d of these are not damaged (%d are), %d are in no gap: %v; %s", d.name, len(w.frames), missing, innocent, len(must), silent, short(all.scan.Gaps), problems)
	}
	if missing == 0 && slices.ContainsFunc(all.scan.Gaps, func(g Gap) bool { return g.Why == whyDamaged }) && copies > 0 {
		t.Errorf("%s: nothing is missing, and there are gaps %v", d.name, short(all.scan.Gaps))
	}
	v, err := r.Verify(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if v.Found == 0 && !d.unnoticed {
		t.Errorf("%s: it verifies; %s", d.name, problems)
	}
}

// short says gaps for people.
func short(gaps []Gap) (list []string) {
	for _, g := range gaps {
		list = append(list, fmt.Sprintf("%d+%d %s", g.From-epoch, g.To-g.From, g.Why))
	}
	return list
}

// rare returns filters for packets next to the damage and in it.
func (w *wreck) rare(d damage) (filters []string) {
	for _, ids := range [][]uint64{d.ids, d.may} {
		for _, k := range []int{0, len(ids) / 2, len(ids) - 1} {
			if k < 0 || k >= len(ids) || w.frames[ids[k]] == nil {
				continue
			}
			for _, id := range []uint64{ids[k], ids[k] + 1, ids[k] + 50, ids[k] - 20} {
				if f := w.frames[id]; f != nil {
					filters = append(filters, fmt.Sprintf("mac == %x:%x:%x:%x:%x:%x", f.Data[0], f.Data[1], f.Data[2], f.Data[3], f.Data[4], f.Data[5]))
				}
			}
		}
	}
	return filters[:min(len(filters), mostRare)]
}

// mostRare is how many rare packets are looked for after each damage.
const mostRare = 6

// TestDamage damages rings in many ways. Opening does not fail; what is not damaged is there, once; what is missing is in a gap; a narrow query, which reads parts of blocks,
// finds what one that reads all of them does; and verifying names it.
func TestDamage(t *testing.T) {
	for _, test := range []struct{ devices, copies int }{{1, 0}, {2, 0}, {2, 1}} {
		if test.devices > test.copies+1 && damages < 10 {
			continue // a long one
		}
		t.Run(fmt.Sprint(test.devices, " devices, ", test.copies, " copies"), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(uint64(test.devices), uint64(test.copies)))
			w := newWreck(t, test.devices, test.copies, 77, 20)
			other := newWreck(t, test.devices, test.copies, 78, 20)
			// An older state of the same ring: the files before a part of what was recorded.
			older := make(map[string][]byte)
			for name, b := range w.files["a"] {
				older[name] = b
			}
			w.later(t)
			for i := range damages {
				w.reset()
				var d damage
				switch i % 6 {
				case 0:
					d = w.swap(rng, "a")
				case 1:
					d = w.cut(rng, "a")
				case 2:
					d = w.replace(rng, "a", "a segment of another ring", other.files["a"])
				case 3:
					d = w.replace(rng, "a", "an older segment", older)
				default:
					d = w.bytesAt(rng, "a")
				}
				w.check(t, d, test.copies)
			}
		})
	}
}

// later records more in a ring, and keeps what its files are then.
func (w *wreck) later(t *testing.T) {
	t.Helper()
	r := w.reopen(t)
	s := r.Stage(0, table)
	var frames []packet.Frame
	for round := 100; round < 103; round++ {
		frames = append(frames, stamp(mix(79, 8000), round, time.Microsecond)...)
	}
	newPlayer(s).play(t, frames)
	s.Finish()
	closeRing(t, r)
	w.keep(t)
}

// TestOlderState damages the newer page of what the state says of segments, of those that were overwritten since: what is in them now is there.
func TestOlderState(t *testing.T) {
	w := newWreck(t, 1, 0, 80, 10)
	for i := range 12 {
		page := 2 * (i % 2) // the description, the segments
		w.reset()
		r := w.set.open(t)
		s := r.Stage(0, table)
		frames := stamp(mix(81, 2000+1000*i), 100, time.Microsecond)
		newPlayer(s).play(t, frames)
		generation := r.d.Generation
		s.Finish()
		closeRing(t, r)
		b, was := w.set.disks["a"].files[files.StateName].b[page*files.PageSize:], w.files["a"][files.StateName][page*files.PageSize:]
		older, newer := b[:files.PageSize], b[files.PageSize:2*files.PageSize]
		if le.Uint64(older[8:]) > le.Uint64(newer[8:]) {
			older, newer = newer, older
		}
		if page > 0 { // as it was before the segments were opened
			if le.Uint64(was[8:]) < le.Uint64(was[files.PageSize+8:]) {
				was = was[files.PageSize:]
			}
			copy(older[16:], was[16:files.PageSize])
			le.PutUint32(older, crc32.Checksum(older[4:], crc32.MakeTable(crc32.Castagnoli)))
		}
		newer[100] ^= 1
		for range 2 {
			r = w.set.open(t)
			have, scan := collect(t, r, Query{From: frames[0].Time, To: frames[len(frames)-1].Time + 1})
			sameFrames(t, frames, have)
			if slices.ContainsFunc(scan.Gaps, func(g Gap) bool { return g.Why != whyOverwritten && g.Why != whyPaused }) {
				t.Errorf("gaps %v", short(scan.Gaps))
			}
			if r.d.Generation <= generation {
				t.Errorf("generation %d after %d", r.d.Generation, generation)
			}
			generation = r.d.Generation
			closeRing(t, r)
		}
	}
}
