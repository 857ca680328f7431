package ring

import "testing"

// What a ring has is said while its first block is unfinished, without anybody having asked for packets.
func TestSpanOfUnfinishedBlock(t *testing.T) {
	set := newSetting(t, 1, 16<<20)
	set.create(t)
	r := set.open(t)
	defer r.Close()
	stage := r.Stage(0, table)
	defer stage.Finish()
	if s := r.State(); s.Oldest != 0 || s.Newest != 0 {
		t.Errorf("an empty ring has packets of %d to %d", s.Oldest, s.Newest)
	}
	frames := mix(4, 40)
	newPlayer(stage).play(t, frames)
	if s := r.State(); s.Oldest != frames[0].Time || s.Newest != frames[len(frames)-1].Time || s.Packets != uint64(len(frames)) {
		t.Errorf("%d packets of %d to %d, want %d of %d to %d", s.Packets, s.Oldest, s.Newest, len(frames), frames[0].Time, frames[len(frames)-1].Time)
	}
}
