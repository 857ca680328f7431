package boot

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// becomeReaper makes this process the one that gets orphans, as init is (prctl(2)).
func becomeReaper(t *testing.T) {
	t.Helper()
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
}

// zombiesOrChildren counts the children of this process.
func zombiesOrChildren() (n int) {
	lists, _ := filepath.Glob("/proc/self/task/*/children")
	for _, l := range lists {
		text, _ := os.ReadFile(l)
		n += len(strings.Fields(string(text)))
	}
	return n
}
