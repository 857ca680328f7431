package supervise

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/cap"

	"galvo/services/config"
)

// An identity is whom a role runs as.
type identity struct{ user, group int }

// Users of a host that has none for the roles, from the range that Debian leaves free (policy 9.2.2).
const (
	engineID = 64210
	webID    = 64211
)

// places are the directories of one run.
type places struct {
	root        bool   // this process may give the roles their own users
	apart       bool   // this process may give a role its own network namespace
	raw         bool   // this process may open packet sockets
	state       string // absolute
	config      string
	run         string // sockets; short, since a socket's path has at most 107 bytes
	engine, web identity

	lock *os.File
}

// prepare makes the directories. Each role's part of the state belongs to its user alone; the directory of a socket lets its group, who calls
// there, pass through.
func prepare(state, configFile string) (*places, error) {
	abs, err := filepath.Abs(state)
	if err != nil {
		return nil, fmt.Errorf("state directory %s: %w", state, err)
	}
	p := &places{root: os.Geteuid() == 0, apart: may(cap.SYS_ADMIN), raw: may(cap.NET_RAW), state: abs, config: configFile}
	if p.config == "" {
		p.config = filepath.Join(abs, "config.toml")
	} else if p.config, err = filepath.Abs(configFile); err != nil {
		return nil, fmt.Errorf("configuration %s: %w", configFile, err)
	}
	self := identity{os.Getuid(), os.Getgid()}
	p.engine, p.web = self, self
	if p.root {
		p.engine, p.web = lookup("galvo-engine", engineID), lookup("galvo-web", webID)
	}
	if err := os.MkdirAll(abs, 0o711); err != nil {
		return nil, fmt.Errorf("make the state directory: %w", err)
	}
	if err := p.takeLock(); err != nil {
		return nil, err
	}
	if err := p.makeAll(self); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// may says whether this process has a capability (capabilities(7)): in a container root has not all of them, and elsewhere others may have some.
func may(c cap.Value) bool {
	has, err := cap.GetProc().GetFlag(cap.Effective, c)
	return err == nil && has
}

// lacks says what is not as it should be for want of rights.
func (p *places) lacks() []string {
	var lacks []string
	if !p.root {
		lacks = append(lacks, "without root all services run as one user")
	}
	switch {
	case p.raw:
	case p.root:
		lacks = append(lacks, "without the capability NET_RAW there are no live ports: a container needs NET_RAW and NET_ADMIN to capture from a network")
	default:
		lacks = append(lacks, "without root there are no live ports: start with sudo to capture from a network")
	}
	if p.root && !p.apart {
		lacks = append(lacks, "without the capability SYS_ADMIN the engine has no network namespace of its own: its system call filter alone keeps it from the network")
	}
	return lacks
}

func lookup(name string, fallback int) identity {
	u, err := user.Lookup(name)
	if err != nil {
		return identity{fallback, fallback}
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	if err1 != nil || err2 != nil || uid <= 0 || gid <= 0 {
		return identity{fallback, fallback}
	}
	return identity{uid, gid}
}

// takeLock keeps a second run out of the same state.
func (p *places) takeLock() error {
	f, err := os.OpenFile(filepath.Join(p.state, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("lock the state directory: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return fmt.Errorf("another galvo runs with the state directory %s: end it, or choose another one with -state", p.state)
	}
	p.lock = f
	return nil
}

func (p *places) makeAll(self identity) error {
	if err := p.makeRun(); err != nil {
		return fmt.Errorf("make the runtime directory: %w", err)
	}
	dirs := []struct {
		path  string
		owner identity
		mode  os.FileMode
	}{
		{filepath.Join(p.state, "host"), self, 0o700},
		{filepath.Join(p.state, "engine"), p.engine, 0o700},
		{filepath.Join(p.state, "web"), p.web, 0o700},
		{filepath.Join(p.run, "host"), identity{self.user, p.web.group}, 0o710 | os.ModeSetgid},
		{filepath.Join(p.run, "engine"), identity{p.engine.user, p.web.group}, 0o710 | os.ModeSetgid},
		{filepath.Join(p.run, "handover"), identity{self.user, p.engine.group}, 0o710 | os.ModeSetgid},
	}
	for _, d := range dirs {
		if err := os.Mkdir(d.path, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
			return fmt.Errorf("make directory: %w", err)
		}
		err := os.Chown(d.path, d.owner.user, d.owner.group)
		if err = errors.Join(err, os.Chmod(d.path, d.mode)); err != nil {
			return fmt.Errorf("give directory %s to its role: %w", d.path, err)
		}
	}
	return nil
}

// makeRun makes the runtime directory: one of the same name for each run with the same state, so that nothing piles up after a crash.
func (p *places) makeRun() error {
	base := "/run/galvo"
	if !p.root {
		if base = os.Getenv("XDG_RUNTIME_DIR"); base == "" {
			base = os.TempDir()
		}
		base = filepath.Join(base, fmt.Sprintf("galvo-%d", os.Getuid()))
	}
	p.run = filepath.Join(base, fmt.Sprintf("%x", sha256.Sum256([]byte(p.state)))[:12])
	err := makeShared(p.run, os.MkdirAll)
	if err == nil && p.root {
		err = errors.Join(os.Chmod(base, 0o711), os.Chmod(p.run, 0o711))
	}
	if err == nil {
		err = ownedBySelf(base)
	}
	if err != nil && p.root {
		// Without a writable /run: a new directory that nobody else can have made.
		if p.run, err = os.MkdirTemp("", "galvo-"); err == nil {
			err = os.Chmod(p.run, 0o711)
		}
	}
	return err
}

// makeShared makes a directory in one that other runs make and remove, too: a run that ends may remove it between the two steps of this one.
func makeShared(path string, mkdirAll func(string, os.FileMode) error) (err error) {
	for range 100 {
		if err = mkdirAll(path, 0o711); !errors.Is(err, os.ErrNotExist) {
			break
		}
	}
	return err
}

// ownedBySelf refuses a directory that somebody else put in the place of ours.
func ownedBySelf(path string) error {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return err
	}
	if int(st.Uid) != os.Geteuid() || st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return fmt.Errorf("%s belongs to another user", path)
	}
	return nil
}

// close removes the runtime directory and lets another run have the state.
func (p *places) close() {
	if p.run != "" {
		os.RemoveAll(p.run)
		if base := filepath.Dir(p.run); strings.HasPrefix(filepath.Base(base), "galvo") {
			os.Remove(base) // stays while another run uses it
		}
	}
	p.lock.Close()
}

// portCount returns how many ports there will be: those of the command line, or the configuration's.
func (p *places) portCount(interfaces []string) int {
	if len(interfaces) > 0 {
		return len(interfaces)
	}
	text, err := os.ReadFile(p.config)
	if err != nil {
		return 0
	}
	c, err := config.Parse(text)
	if err != nil {
		return 0
	}
	return len(c.Ports)
}
