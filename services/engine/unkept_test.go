package engine

import (
	"bytes"
	"log/slog"
	"os"
	"strings"
	"testing"

	"galvo/services/config"
	"galvo/services/internal/capture"
	"galvo/services/internal/filter"
	"galvo/services/internal/handover"
)

// A capture whose counters cannot be kept, as on a full disk, goes on, and the log says what a restart would cost.
func TestUnkeptCaptureIsTold(t *testing.T) {
	state := t.TempDir()
	c := config.Default()
	c.Engine.Workers = 1
	e, err := newEngine(Options{State: state}, &handover.Config{Config: *c})
	if err != nil {
		t.Fatal(err)
	}
	defer e.ports.close()
	defer e.volumes.Close()
	defer e.rings.Close()
	if err := os.RemoveAll(state); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	defer slog.SetDefault(before)
	all, err := filter.Compile("", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.captures.Start(capture.Spec{Sink: "http", Source: "live", Filter: all, Format: "pcapng", QueueBytes: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), "is not kept") {
		t.Errorf("the log says %q", log.String())
	}
}
