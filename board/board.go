// Package board describes the machines that Galvo is an appliance on: one strict TOML file each, which the image builder reads for the kernel, modules and
// command line, and which init and host read on the running appliance from Path for ports, watchdog and lamps.
//
// Adding a machine means adding a file to this folder. The package does no I/O beside reading a file that it is told to.
package board

import (
	"embed"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Path is where the image carries its board's file.
const Path = "/etc/galvo/board.toml"

// A Board is one machine, or a family of machines that one image serves.
type Board struct {
	Name               string   `toml:"-"`                   // of the file, without .toml; also the family that an update must be for
	Summary            string   `toml:"summary"`             // one line for a person
	Architecture       string   `toml:"architecture"`        // amd64 or arm64
	Kernel             string   `toml:"kernel"`              // Debian package that depends on the newest kernel
	Consoles           []string `toml:"consoles"`            // tty devices without /dev/, with options as in ttyS0,115200; the last one is /dev/console
	Arguments          []string `toml:"arguments"`           // kernel arguments beside the consoles
	Modules            []string `toml:"modules"`             // kernel modules in the image; what they depend on comes with them
	Load               []string `toml:"load"`                // modules that are loaded at boot, in order, whatever hardware there is
	Firmware           []string `toml:"firmware"`            // files below /lib/firmware that drivers ask for; a pattern as of path.Match
	MemoryFloorBytes   int64    `toml:"memory_floor_bytes"`  // with less, of what the kernel can give out, the device does not start
	ImageBudgetBytes   int64    `toml:"image_budget_bytes"`  // at most so large is the disk image; 0 is no limit
	SystemBytes        int64    `toml:"system_bytes"`        // size to which the system partition grows at the first boot
	Ports              []Port   `toml:"port"`                // in this order
	Watchdog           Watchdog `toml:"watchdog"`            // zero where there is none
	Lamps              []Lamp   `toml:"led"`                 // LEDs that show the state
	ManagementFallback string   `toml:"management_fallback"` // "first": if no rule finds a management port, the first NIC is one; "none": the device has none then
}

// A Port is a rule that says which NICs have a role. A NIC belongs to the first rule that names it; NICs without a rule are left alone.
type Port struct {
	Role   Role   `toml:"role"`   // management or capture
	Driver string `toml:"driver"` // only NICs of this driver; empty is any
	Path   string `toml:"path"`   // only NICs at this place of /sys/devices, the last elements of it, as 0000:03:00.0; a pattern as of path.Match
	Order  int    `toml:"order"`  // only the n-th of those, in order of place, from 1; 0 is all
	Link   int    `toml:"link"`   // capture ports with the same number form a link; 0 is none
	Pairs  bool   `toml:"pairs"`  // the NICs of this rule form links two by two, in order of place
}

// A Role is what a port is for.
type Role string

// The roles.
const (
	Management Role = "management"
	Capture    Role = "capture"
)

// A Watchdog is the hardware that restarts a machine that hangs.
type Watchdog struct {
	Modules []string `toml:"modules"` // tried in order until there is /dev/watchdog
	Seconds int      `toml:"seconds"` // without feeding until the restart
}

// A Lamp is an LED below /sys/class/leds.
type Lamp struct {
	Name  string    `toml:"name"`
	Shows LampState `toml:"shows"`
	Line  int       `toml:"-"` // of the file, for whoever finds that there is no such LED
}

// A LampState is what a lamp shows by being on.
type LampState string

// The states.
const (
	LampReady     LampState = "ready"     // page and engine answer
	LampDegraded  LampState = "degraded"  // something is wrong: page and console say what
	LampCapturing LampState = "capturing" // a capture runs
)

// LampStates returns all states.
func LampStates() []LampState { return []LampState{LampReady, LampDegraded, LampCapturing} }

// Fallback is what a machine is taken for whose own file cannot be read: it is managed through its first NIC, so that somebody reaches it and learns what is wrong.
func Fallback() *Board {
	return &Board{Name: "unknown", Ports: []Port{{Role: Management, Order: 1}}}
}

// ConsoleArguments returns the kernel arguments for the consoles.
func (b *Board) ConsoleArguments() []string {
	var out []string
	for _, c := range b.Consoles {
		out = append(out, "console="+c)
	}
	return out
}

// CommandLine returns the kernel's command line, without extra arguments.
func (b *Board) CommandLine() string {
	return strings.Join(slices.Concat(b.ConsoleArguments(), b.Arguments), " ")
}

// AllModules returns every module that the board names, each once, in order.
func (b *Board) AllModules() []string {
	var out []string
	for _, m := range slices.Concat(b.Load, b.Watchdog.Modules, b.Modules) {
		if !slices.Contains(out, m) {
			out = append(out, m)
		}
	}
	return out
}

//go:embed *.toml
var files embed.FS

// Names returns the boards that there are, sorted.
func Names() []string {
	entries, err := files.ReadDir(".")
	if err != nil {
		panic(err) // of an embedded folder
	}
	var out []string
	for _, e := range entries {
		out = append(out, strings.TrimSuffix(e.Name(), ".toml"))
	}
	return out
}

// Text returns the file of the named board.
func Text(name string) ([]byte, error) {
	text, err := files.ReadFile(name + ".toml")
	if err != nil {
		return nil, fmt.Errorf("there is no board %q: there are %s", name, strings.Join(Names(), ", "))
	}
	return text, nil
}

// Load returns the named board.
func Load(name string) (*Board, error) {
	text, err := Text(name)
	if err != nil {
		return nil, err
	}
	b, err := Parse(name, text)
	if err != nil {
		return nil, fmt.Errorf("board/%s.toml: %w", name, err)
	}
	return b, nil
}

// Read returns the board of the file at path. Its name is the first line's, as the image builder writes it: `# board NAME`.
func Read(path string) (*Board, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the board's description: %w", err)
	}
	name := strings.TrimSuffix(filepath.Base(path), ".toml")
	first, _, _ := strings.Cut(string(text), "\n")
	if n, ok := strings.CutPrefix(first, namePrefix); ok {
		name = strings.TrimSpace(n)
	}
	b, err := Parse(name, text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return b, nil
}

const namePrefix = "# board "

// Named returns text with the first line that Read takes the name from.
func Named(name string, text []byte) []byte {
	return append([]byte(namePrefix+name+"\n"), text...)
}
