package l7

import (
	"testing"

	"galvo/services/internal/flow"
	"galvo/services/internal/l7/protocol"
)

// TestFamily: what belongs to a family is the family too.
func TestFamily(t *testing.T) {
	if v := (Verdict{Proto: protocol.PTPv2, State: Final}); !v.Is(protocol.PTP) || !v.Is(protocol.PTPv2) || v.Is(protocol.DNS) || v.Is(0) {
		t.Error("a verdict of PTPv2 is PTPv2 and PTP, and nothing else")
	}
}

func TestRecordFits(t *testing.T) {
	var r flow.Record
	if len(r.L7) != len(state{}) {
		t.Errorf("a state has %d bytes, a record has room for %d", len(state{}), len(r.L7))
	}
}
