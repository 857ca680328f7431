// Command tally reads the output of go test -json on standard input and prints what a person wants to know of it: one line a package, the
// output of what failed, a table of the skipped tests by reason, and a closing line with the counts. It exits 1 if anything failed, or if
// no test ran.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
)

// An event is one line of test2json's output.
type event struct {
	Action  string
	Package string
	Test    string
	Output  string
	Elapsed float64
}

type tally struct {
	passed, failed, skipped int
	output                  map[string][]string // by package and test, until its result is known
	reasons                 map[string]int      // of skips
	out                     io.Writer
}

func main() {
	t := &tally{output: map[string][]string{}, reasons: map[string]int{}, out: os.Stdout}
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 16<<20)
	for in.Scan() {
		var e event
		if err := json.Unmarshal(in.Bytes(), &e); err != nil {
			fmt.Fprintln(t.out, in.Text()) // what the compiler says is not JSON
			continue
		}
		t.add(e)
	}
	t.close()
	if t.failed > 0 || t.passed == 0 || in.Err() != nil {
		os.Exit(1)
	}
}

func (t *tally) add(e event) {
	key := e.Package + " " + e.Test
	switch e.Action {
	case "output", "build-output":
		t.output[key] = append(t.output[key], e.Output)
	case "build-fail":
		t.failed++
	case "pass", "fail", "skip":
		t.result(e, t.output[key])
		delete(t.output, key)
	}
	if e.Action == "build-output" {
		fmt.Fprint(t.out, e.Output)
	}
}

func (t *tally) result(e event, output []string) {
	if e.Test == "" {
		if e.Action == "fail" {
			t.failed++
			t.print(output)
		}
		fmt.Fprintf(t.out, "%-4s %s %.1fs\n", e.Action, e.Package, e.Elapsed)
		return
	}
	switch e.Action {
	case "pass":
		t.passed++
	case "skip":
		t.skipped++
		t.reasons[reason(output)]++
	case "fail":
		t.failed++
		t.print(output)
	}
}

func (t *tally) print(output []string) {
	for _, line := range output {
		fmt.Fprint(t.out, "     ", line)
	}
}

// reason finds what t.Skip said: the last line of output of the form "file.go:12: reason".
func reason(output []string) string {
	for _, line := range slices.Backward(output) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "---") || strings.HasPrefix(line, "===") || line == "" {
			continue
		}
		if _, after, ok := strings.Cut(line, ".go:"); ok {
			if _, text, ok := strings.Cut(after, ": "); ok {
				return text
			}
		}
		return line
	}
	return "no reason given"
}

func (t *tally) close() {
	if len(t.reasons) > 0 {
		fmt.Fprintln(t.out, "\nSkipped tests by reason:")
		for _, r := range slices.Sorted(maps.Keys(t.reasons)) {
			fmt.Fprintf(t.out, "%6d  %s\n", t.reasons[r], r)
		}
	} else {
		fmt.Fprintln(t.out, "\nNo test was skipped.")
	}
	fmt.Fprintf(t.out, "\n%d passed, %d failed, %d skipped\n", t.passed, t.failed, t.skipped)
}
