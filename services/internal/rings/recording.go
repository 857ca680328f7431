package rings

import (
	"sync/atomic"

	"galvo/services/internal/pipeline"
	"galvo/services/internal/ring"
)

// A recording is the stage of a worker: it gives each batch to every ring that records.
type recording struct{ rings atomic.Pointer[[]ring.Stage] }

// Process implements pipeline.Stage.
func (r *recording) Process(b *pipeline.Batch) {
	for _, s := range *r.rings.Load() {
		s.Process(b)
	}
}

// StreamReach implements pipeline.StreamStage.
func (r *recording) StreamReach() (reach int) {
	for _, s := range *r.rings.Load() {
		reach = max(reach, s.StreamReach())
	}
	return reach
}

// Stage returns the stage of a worker, counted from 0.
func (rs *Set) Stage(worker int) pipeline.StreamStage { return rs.workers[worker] }

// publish tells the workers which rings record.
func (rs *Set) publish() {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	for w, to := range rs.workers {
		var stages []ring.Stage
		for _, r := range rs.list {
			if r.ring != nil {
				stages = append(stages, r.stages[w])
			}
		}
		to.rings.Store(&stages)
	}
}
