// Package script runs stories: what a person types, and what the one binary answers. A story is a file in testdata; testscript's own commands
// and these are there:
//
//	galvo ARGS...        the binary under test
//	image FILE VERSION   writes a unified kernel image for the board generic-amd64, which would not boot
//	mix FILE SEED N      writes a savefile of N frames of mixed traffic that the seed decides
//	lastline FILE REGEXP the last line of a file matches
package script

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"galvo/ci/rig"
	"galvo/firmware/uki/ukitest"
)

// binary is the folder of the binary under test.
var binary string

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	var err error
	if binary, err = os.MkdirTemp("", "galvo"); err != nil {
		panic(err)
	}
	defer os.RemoveAll(binary)
	build := exec.Command("go", "build", "-o", filepath.Join(binary, "galvo"), "galvo/services/galvo")
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	if err := build.Run(); err != nil {
		return 1
	}
	return m.Run()
}

func TestStories(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			e.Setenv("PATH", binary+string(os.PathListSeparator)+e.Getenv("PATH"))
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"galvo":    galvo,
			"image":    image,
			"mix":      mix,
			"lastline": lastLine,
		},
	})
}

func galvo(ts *testscript.TestScript, neg bool, args []string) {
	err := ts.Exec(filepath.Join(binary, "galvo"), args...)
	if (err != nil) != neg {
		ts.Fatalf("galvo %s: %v", strings.Join(args, " "), err)
	}
}

func image(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: image FILE VERSION")
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), ukitest.Image("generic-amd64", args[1], "1.0", "build of "+args[1], []byte("initramfs")), 0o600))
}

func mix(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: mix FILE SEED N")
	}
	seed, err := strconv.ParseUint(args[1], 10, 64)
	ts.Check(err)
	n, err := strconv.Atoi(args[2])
	ts.Check(err)
	ts.Check(rig.WritePcap(ts.MkAbs(args[0]), rig.Mix(seed, n)))
}

func lastLine(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: lastline FILE REGEXP")
	}
	lines := strings.Split(strings.TrimRight(ts.ReadFile(args[0]), "\n"), "\n")
	last := lines[len(lines)-1]
	if regexp.MustCompile(args[1]).MatchString(last) == neg {
		ts.Fatalf("the last line is %q", last)
	}
}
