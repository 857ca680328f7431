// Package need says what a test needs of its machine: root, a tool, the corpus.
//
// Where it is missing the test is skipped with a reason of one form, so that the closing table of make test can count them. The environment
// variable GALVO_REQUIRE lists what must not be missing: there a missing thing is a failure. It may name a tool, or root, corpus (savefiles beside the checkout), qemu
// (a program of QEMU's, or an image to boot), archive (Debian's packages), npm (the page's packages), tor-geoipdb, libc (a dynamic program), loop (loop devices),
// mount, io_uring, direct (O_DIRECT for temporary files), xattr (attributes of them). .ci/run names what its machine can give.
package need

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Root skips the test unless it runs as root with the right to make network namespaces.
func Root(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		Missing(t, "root", "the test does not run as root")
	}
}

// Tool returns the path of a program.
func Tool(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		Missing(t, name, "no "+name+" in PATH")
	}
	return path
}

// QEMU skips the test unless a program of QEMU is there.
func QEMU(t testing.TB, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		Missing(t, "qemu", "no "+program+" in PATH")
	}
}

// Corpus returns the folder with the corpora of savefiles that lies beside the checkout.
func Corpus(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	for err == nil && dir != "/" {
		corpus := filepath.Join(dir, "shared", "corpus")
		if _, err := os.Stat(corpus); err == nil {
			return corpus
		}
		dir = filepath.Dir(dir)
	}
	Missing(t, "corpus", "no shared/corpus beside the checkout")
	return ""
}

// Missing skips the test for want of something else that GALVO_REQUIRE may name, such as a package of data, and says why.
func Missing(t testing.TB, what, why string) {
	t.Helper()
	if slices.Contains(strings.Split(os.Getenv("GALVO_REQUIRE"), ","), what) {
		t.Fatalf("needs %s: %s, and GALVO_REQUIRE names it", what, why)
	}
	t.Skipf("needs %s: %s", what, why)
}
