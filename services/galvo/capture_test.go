package main

import (
	"strings"
	"testing"
	"time"
)

func TestParseTime(t *testing.T) {
	now := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"now": 0, "now-10m": -10 * time.Minute, "now+1h30m": 90 * time.Minute, "now-1d": -24 * time.Hour, "now-1d12h": -36 * time.Hour, "now+2d": 48 * time.Hour,
		"2026-03-04T05:06:08.25Z": 1250 * time.Millisecond, "1772600767000001": time.Microsecond,
	} {
		if got, err := parseTime(text, now); err != nil || got != now.Add(want).UnixMicro() {
			t.Errorf("%s: %d, %v, want %d", text, got, err, now.Add(want).UnixMicro())
		}
	}
	for _, text := range []string{"now-", "now-1x", "nowadays", "now-d", "now-99999d", "now1d1", "yesterday", "-5", "now-100000d"} {
		if got, err := parseTime(text, now); err == nil {
			t.Errorf("%s: %d, %v", text, got, err)
		}
	}
}

// A length of time that is none is refused with one that is, before any device is asked.
func TestWrongDurations(t *testing.T) {
	for _, text := range []string{"1", "abc", "", "-1s", "1d1", "5 min"} {
		err := remoteCapture(t.Context(), []string{"-d", "https://127.0.0.1:1", "-duration", text})
		if err == nil || !strings.Contains(err.Error(), "is not a time such as 30s, 5m or 1d12h") {
			t.Errorf("-duration %q: %v", text, err)
		}
	}
}
