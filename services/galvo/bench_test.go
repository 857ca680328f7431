package main

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"galvo/ci/rig"
)

// BenchmarkRead is `galvo read` over mixed traffic: processor time of the whole process per frame.
func BenchmarkRead(b *testing.B) {
	const n = 200_000
	file := filepath.Join(b.TempDir(), "mix.pcap")
	if err := rig.WritePcap(file, rig.Mix(1, n)); err != nil {
		b.Fatal(err)
	}
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer null.Close()
	for _, c := range []struct {
		name string
		args []string
	}{
		{"host", []string{"-filter", "ip==10.16.0.10", "-w", os.DevNull}},
		{"everything", []string{"-w", os.DevNull}},
		{"summary", nil},
		{"flows", []string{"-flows"}},
	} {
		b.Run(c.name, func(b *testing.B) {
			before := [2]*os.File{os.Stdout, os.Stderr}
			os.Stdout, os.Stderr = null, null
			defer func() { os.Stdout, os.Stderr = before[0], before[1] }()
			start := processTime(b)
			for b.Loop() {
				if err := read(context.Background(), append(c.args, file)); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(processTime(b)-start)/float64(b.N)/n, "cpu-ns/frame")
		})
	}
}

func processTime(b *testing.B) int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &ts); err != nil {
		b.Fatal(err)
	}
	return ts.Nano()
}
