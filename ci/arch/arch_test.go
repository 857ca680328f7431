// Package arch holds the rules of the architecture, as tests.
package arch

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A pkg is what `go list` says of a package.
type pkg struct {
	ImportPath  string
	Dir         string
	GoFiles     []string
	TestGoFiles []string
	Imports     []string
}

func packages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Dir,GoFiles,TestGoFiles,Imports", "galvo/...")
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("go list: %s", exit.Stderr)
		}
		t.Fatal(err)
	}
	var pkgs []pkg
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := d.Decode(&p); err == io.EOF {
			return pkgs
		} else if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
}

// allowed is the import table: what a package may import of this module, with the reason for the rows that might surprise. A package
// that is not here may not be imported by anybody but a main package, and may import nothing of the module.
var allowed = map[string][]string{
	// Pure: no I/O, no goroutines, no clock.
	"services/internal/packet":   {},
	"services/internal/flow":     {"services/internal/hugepage", "services/internal/packet"},
	"services/internal/hugepage": {},
	"services/internal/l7":       {"services/internal/flow", "services/internal/packet", "services/internal/l7/call", "services/internal/l7/dissect", "services/internal/l7/expect", "services/internal/l7/header", "services/internal/l7/protocol", "services/internal/l7/signature", "services/internal/l7/store"},
	"services/internal/spelling": {},

	// Of l7 only the engine, l7 itself, knows what becomes of a flow. What it asks is below it, and none of these knows who asks.
	"services/internal/l7/hostname":  {},
	"services/internal/l7/signature": {},
	"services/internal/l7/protocol":  {"services/internal/spelling", "services/internal/l7/hostname", "services/internal/l7/signature"},
	"services/internal/l7/header":    {"services/internal/packet", "services/internal/l7/protocol"},
	"services/internal/l7/text":      {},
	"services/internal/l7/store":     {"services/internal/hugepage", "services/internal/l7/protocol"},
	"services/internal/l7/expect":    {"services/internal/l7/protocol", "services/internal/l7/signature"},
	"services/internal/l7/call":      {"services/internal/flow", "services/internal/l7/expect", "services/internal/l7/protocol", "services/internal/l7/signature", "services/internal/l7/text"},
	"services/internal/l7/dissect":   {"services/internal/flow", "services/internal/l7/call", "services/internal/l7/expect", "services/internal/l7/header", "services/internal/l7/hostname", "services/internal/l7/protocol", "services/internal/l7/signature", "services/internal/l7/store", "services/internal/l7/text"},

	"services/internal/stream":  {"services/internal/flow", "services/internal/hugepage", "services/internal/packet"},
	"services/internal/regexp":  {},
	"services/internal/country": {},
	"services/internal/filter":  {"services/internal/spelling", "services/internal/flow", "services/internal/l7", "services/internal/l7/call", "services/internal/l7/header", "services/internal/l7/protocol", "services/internal/packet", "services/internal/regexp", "services/internal/country"},
	"services/internal/pcapng":  {"services/internal/packet"},

	// One device or one store each.
	"services/internal/memory":   {"services/config"},
	"services/internal/savefile": {"services/internal/packet", "services/internal/pcapng", "services/internal/pipeline"},
	"services/internal/afpacket": {"services/internal/packet", "services/internal/pcapng", "services/internal/pipeline"},
	"services/internal/handover": {"services/config", "services/internal/transceiver"},
	"services/internal/sandbox":  {},
	"services/internal/gate":     {},
	"services/internal/dhcp":     {},
	"services/internal/clock":    {},

	"services/internal/linklocal":   {},
	"services/internal/management":  {"services/config", "services/durable", "services/internal/dhcp", "services/internal/linklocal"},
	"services/internal/transceiver": {},
	"services/internal/disk":        {},
	"services/internal/volume":      {"services/api", "services/internal/handover"},

	// Behaviour. The pipeline owns batches and stages; what is a stage imports it, never the other way round.
	"services/internal/pipeline": {"services/internal/flow", "services/internal/l7", "services/internal/packet", "services/internal/stream"},
	"services/internal/ring": {"services/internal/filter", "services/internal/flow", "services/internal/l7", "services/internal/packet", "services/internal/pipeline",
		"services/internal/ring/aio", "services/internal/ring/block", "services/internal/ring/files", "services/internal/ring/index", "services/internal/ring/rule", "services/internal/ring/state"},
	"services/internal/ring/block": {"services/internal/filter", "services/internal/flow", "services/internal/l7", "services/internal/l7/protocol", "services/internal/packet", "services/internal/pcapng", "services/internal/pipeline",
		"services/internal/ring/opentable", "services/internal/ring/sum"},
	"services/internal/ring/files":     {},
	"services/internal/ring/index":     {"services/internal/filter", "services/internal/packet", "services/internal/pipeline", "services/internal/ring/aio", "services/internal/ring/block", "services/internal/ring/files", "services/internal/ring/opentable", "services/internal/ring/sum"},
	"services/internal/ring/opentable": {},
	"services/internal/ring/sum":       {},
	"services/internal/ring/rule":      {"services/internal/filter", "services/internal/flow", "services/internal/packet", "services/internal/pipeline"},
	"services/internal/ring/state":     {"services/internal/ring/block", "services/internal/ring/files", "services/internal/ring/index", "services/internal/ring/sum"},
	"services/internal/ring/aio":       {"services/internal/ring/files"},
	"services/internal/ring/uring":     {"services/internal/ring/files"},
	"services/internal/stats":          {"services/api", "services/internal/l7", "services/internal/l7/header", "services/internal/l7/protocol", "services/internal/packet", "services/internal/pipeline"},
	"services/internal/sink":           {"services/api", "services/internal/volume"},
	"services/internal/capture": {"services/api", "services/durable", "services/internal/filter", "services/internal/flow", "services/internal/l7", "services/internal/packet",
		"services/internal/pcapng", "services/internal/pipeline", "services/internal/sink"},
	"services/internal/rings": {"services/api", "services/durable", "services/internal/filter", "services/internal/pipeline", "services/internal/ring", "services/internal/ring/files",
		"services/internal/ring/rule", "services/internal/volume"},

	"services/internal/analysis": {"services/api", "services/internal/capture", "services/internal/flow", "services/internal/l7", "services/internal/pipeline",
		"services/internal/savefile", "services/internal/stats", "services/internal/stream"},

	// Processes. web reaches the others only over their sockets, so that what parses requests from the network shares no code with what parses frames.
	"services/api":       {},
	"services/durable":   {},
	"services/config":    {"services/api", "services/durable", "services/internal/spelling", "services/tomltext"},
	"services/supervise": {"services/api", "services/config"},
	"services/host": {"board", "firmware/bundle", "firmware/slot", "services/api", "services/config", "services/durable", "services/internal/afpacket", "services/internal/clock", "services/internal/disk", "services/internal/gate",
		"services/internal/handover", "services/internal/management", "services/internal/memory", "services/internal/transceiver", "services/internal/volume"},
	"services/engine": {"services/api", "services/config", "services/durable", "services/internal/afpacket", "services/internal/capture", "services/internal/country", "services/internal/filter",
		"services/internal/flow", "services/internal/handover", "services/internal/l7", "services/internal/l7/call", "services/internal/l7/protocol", "services/internal/memory", "services/internal/packet",
		"services/internal/pipeline", "services/internal/savefile", "services/internal/sink", "services/internal/stats", "services/internal/transceiver", "services/internal/volume", "services/internal/analysis", "services/internal/ring",
		"services/internal/ring/uring", "services/internal/rings", "services/internal/stream"},
	"webui":      {},
	"webui/mdns": {},

	// What boots. init supervises as galvo run does.
	"initramfs/module": {},
	"initramfs/rescue": {},
	"initramfs/boot":   {"board", "initramfs/module", "services/api", "services/supervise"},

	"webui/server": {"services/api", "services/config", "services/durable", "webui/mdns"},
	"ci/need":      {},
	"ci/pace":      {},
	"ci/rig":       {"ci/need"},
	"ci/device":    {"ci/need", "ci/rig"},
	"qemu":         {"ci/need", "services/api"},

	// Images and updates.
	"board":                 {"services/tomltext"},
	"services/tomltext":     {},
	"initramfs/image":       {},
	"firmware/lock":         {},
	"firmware/debian":       {"firmware/lock"},
	"firmware/kernel":       {},
	"firmware/program":      {},
	"firmware/uki":          {},
	"firmware/gpt":          {},
	"firmware/fat":          {},
	"firmware/disk":         {"firmware/fat", "firmware/gpt"},
	"firmware/version":      {},
	"firmware/authenticode": {},
	"firmware/bundle":       {"firmware/uki", "firmware/version"},
	"firmware/slot":         {"firmware/bundle", "firmware/disk", "firmware/fat", "firmware/uki", "firmware/version"},
	"firmware/uki/ukitest":  {"firmware/uki"},
	"firmware": {"board", "firmware/bundle", "firmware/debian", "firmware/disk", "firmware/kernel", "firmware/lock", "firmware/program", "firmware/slot", "firmware/uki",
		"firmware/version", "initramfs/image"},

	// What tests of several packages share.
	"services/internal/country/countrytest": {"services/internal/country"},
	"services/internal/packet/packettest":   {"services/internal/packet"},
	"services/internal/l7/l7test":           {"services/internal/l7/protocol"},
}

// mains only wire: they may import whatever Go lets them.
var mains = []string{"services/galvo", "ci/bench", "ci/rig/play", "ci/tally", "firmware/mkimage", "qemu/vm"}

func TestImportTable(t *testing.T) {
	for _, p := range packages(t) {
		name := strings.TrimPrefix(p.ImportPath, "galvo/")
		if slices.Contains(mains, name) || len(p.GoFiles) == 0 {
			continue
		}
		may, ok := allowed[name]
		if !ok {
			t.Errorf("%s is not in the import table: give it a row that says what it may import", name)
			continue
		}
		for _, i := range p.Imports {
			if rest, ours := strings.CutPrefix(i, "galvo/"); ours && !slices.Contains(may, rest) {
				t.Errorf("%s imports %s: the import table does not allow it", name, rest)
			}
		}
		for _, m := range may {
			if !slices.Contains(p.Imports, "galvo/"+m) {
				t.Errorf("%s does not import %s any more: take it out of the import table, so that it shows what is", name, m)
			}
		}
	}
}

// The table and the list of mains name packages that there are.
func TestTablesNamePackages(t *testing.T) {
	var names []string
	for _, p := range packages(t) {
		names = append(names, strings.TrimPrefix(p.ImportPath, "galvo/"))
	}
	for _, name := range slices.Concat(slices.Collect(maps.Keys(allowed)), mains) {
		if !slices.Contains(names, name) {
			t.Errorf("there is no package %s", name)
		}
	}
}

// forbidden names imports that a group of packages must not have, and why.
var forbidden = []struct{ under, imported, why string }{
	{"services/", "github.com/google/gopacket", "it panics on random input, so it never parses a byte of traffic in the product"},
	{"webui/", "github.com/google/gopacket", "it panics on random input, so it never parses a byte of traffic in the product"},
	{"services/internal/packet", "unsafe", "unsafe stands only in afpacket and hugepage"},
	{"services/internal/flow", "unsafe", "unsafe stands only in afpacket and hugepage"},
	{"services/internal/filter", "unsafe", "unsafe stands only in afpacket and hugepage"},
	{"services/internal/pcapng", "unsafe", "unsafe stands only in afpacket and hugepage"},
	{"services/internal/packet", "time", "pure packages have no clock"},
	{"services/internal/pcapng", "time", "pure packages have no clock"},
	{"services/internal/packet", "os", "pure packages do no I/O"},
	{"services/internal/flow", "os", "pure packages do no I/O"},
	{"services/internal/l7", "os", "pure packages do no I/O"},
	{"services/internal/filter", "os", "pure packages do no I/O"},
	{"services/internal/pcapng", "os", "pure packages do no I/O"},
	{"", "C", "the product is built without cgo"},
}

func TestForbiddenImports(t *testing.T) {
	for _, p := range packages(t) {
		name := strings.TrimPrefix(p.ImportPath, "galvo/")
		for _, f := range forbidden {
			if !strings.HasPrefix(name, f.under) {
				continue
			}
			for _, i := range p.Imports {
				if i == f.imported || strings.HasPrefix(i, f.imported+"/") {
					t.Errorf("%s imports %s: %s", name, i, f.why)
				}
			}
		}
	}
}

// A package says what it is for, in exactly one file, beginning as godoc wants it.
func TestEveryPackageHasOneComment(t *testing.T) {
	for _, p := range packages(t) {
		var comments []string
		files := p.GoFiles
		if len(files) == 0 {
			files = p.TestGoFiles
		}
		for _, f := range files {
			parsed, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, f), nil, parser.PackageClauseOnly|parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			if parsed.Doc == nil || strings.HasPrefix(parsed.Doc.Text(), "go:build") {
				continue
			}
			comments = append(comments, f)
			text := parsed.Doc.Text()
			if parsed.Name.Name != "main" && !strings.HasPrefix(text, "Package "+parsed.Name.Name+" ") {
				t.Errorf("%s/%s: the package comment does not begin with %q", p.ImportPath, f, "Package "+parsed.Name.Name)
			}
		}
		if len(comments) != 1 {
			t.Errorf("%s has %d package comments (%s), want 1", p.ImportPath, len(comments), strings.Join(comments, ", "))
		}
	}
}

// No package has a name that would become a drawer.
func TestNoDrawers(t *testing.T) {
	for _, p := range packages(t) {
		base := filepath.Base(p.ImportPath)
		if slices.Contains([]string{"util", "utils", "common", "base", "helpers", "manager", "types", "misc"}, base) {
			t.Errorf("%s: name the package after its noun", p.ImportPath)
		}
	}
}

// No package has work in init: tables that cost time are built at first use.
func TestNoInit(t *testing.T) {
	for _, p := range packages(t) {
		for _, f := range p.GoFiles {
			parsed, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, f), nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range parsed.Decls {
				if isInit(d) {
					t.Errorf("%s/%s has an init function", p.ImportPath, f)
				}
			}
		}
	}
}

func isInit(d any) bool {
	fn, ok := d.(*ast.FuncDecl)
	return ok && fn.Recv == nil && fn.Name.Name == "init"
}
