package disk

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// inspect finds out what is on the disk and who uses it. The file system is looked for on the disk itself and on its first partition.
func (m *Machine) inspect(d *Disk, dir string, uses map[string]string) {
	partitions := m.partitions(dir)
	for _, p := range append([]string{""}, partitions...) {
		if use := m.use(filepath.Join(dir, p), uses); use != "" {
			d.InUse = use
		}
	}
	d.Target = d.Path
	var blank bool
	var err error
	d.FileSystem, blank, err = m.identify(d.Path)
	if d.FileSystem == "" && len(partitions) > 0 {
		d.Target = filepath.Join(m.Dev, partitions[0])
		d.FileSystem, _, err = m.identify(d.Target)
		blank = false
	}
	if err != nil {
		d.Unreadable = err.Error()
	}
	d.Blank = blank && d.FileSystem == ""
}

// partitions returns the kernel's names of the partitions of a disk, by their numbers.
func (m *Machine) partitions(dir string) []string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	numbers := map[string]int{}
	var names []string
	for _, e := range entries {
		if n, err := strconv.Atoi(m.attribute(dir, filepath.Join(e.Name(), "partition"))); err == nil {
			numbers[e.Name()] = n
			names = append(names, e.Name())
		}
	}
	slices.SortFunc(names, func(a, b string) int { return numbers[a] - numbers[b] })
	return names
}

// use says what of the machine uses a disk or a partition: a mount, swap, or a mapping on top of it.
func (m *Machine) use(dir string, uses map[string]string) string {
	if use := uses[m.attribute(dir, "dev")]; use != "" {
		return use
	}
	if use := uses[filepath.Base(dir)]; use != "" {
		return use
	}
	holders, err := os.ReadDir(filepath.Join(dir, "holders"))
	if err != nil || len(holders) == 0 {
		return ""
	}
	if name := m.attribute(filepath.Join(m.Sys, "block", holders[0].Name()), "dm/name"); strings.HasPrefix(name, mapping("")) {
		return "" // our own
	}
	return "part of " + holders[0].Name()
}

// uses returns what the machine mounts, by MAJOR:MINOR, and where it swaps, by the name of the device. Mounts below own are left out.
func (m *Machine) uses(own string) (map[string]string, error) {
	f, err := os.Open(filepath.Join(m.Proc, "self", "mountinfo"))
	if err != nil {
		return nil, fmt.Errorf("list what is mounted: %w", err)
	}
	defer f.Close()
	uses := map[string]string{}
	for _, mount := range readMounts(f) {
		if own != "" && strings.HasPrefix(mount.point, own+"/") {
			continue
		}
		if uses[mount.device] == "" {
			uses[mount.device] = "mounted at " + mount.point
		}
	}
	swaps, err := os.ReadFile(filepath.Join(m.Proc, "swaps"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list where the machine swaps to: %w", err)
	}
	for line := range strings.Lines(string(swaps)) {
		if f := strings.Fields(line); len(f) > 1 && f[1] == "partition" {
			uses[filepath.Base(f[0])] = "swap space"
		}
	}
	return uses, nil
}

type mount struct {
	device string // MAJOR:MINOR
	point  string
	source string

	options []string // of the mount and of the file system
}

// readMounts reads mountinfo (proc_pid_mountinfo(5)).
func readMounts(r io.Reader) (mounts []mount) {
	for in := bufio.NewScanner(r); in.Scan(); {
		before, after, _ := strings.Cut(in.Text(), " - ")
		f, g := strings.Fields(before), strings.Fields(after)
		if len(f) >= 6 && len(g) >= 3 {
			mounts = append(mounts, mount{f[2], unescape(f[4]), unescape(g[1]), strings.Split(f[5]+","+g[2], ",")})
		}
	}
	return mounts
}

// unescape reads the octal escapes of blanks in mountinfo.
func unescape(s string) string {
	for _, e := range []struct{ code, char string }{{`\040`, " "}, {`\011`, "\t"}, {`\012`, "\n"}, {`\134`, `\`}} {
		s = strings.ReplaceAll(s, e.code, e.char)
	}
	return s
}

// ReadOnly reports whether nothing can be written at the place where something is mounted: since somebody wanted it so, or since the kernel came upon something
// that was wrong, which it calls emergency_ro.
func (m *Machine) ReadOnly(point string) (yes bool) {
	f, err := os.Open(filepath.Join(m.Proc, "self", "mountinfo"))
	if err != nil {
		return false
	}
	defer f.Close()
	for _, mount := range readMounts(f) {
		if mount.point == point {
			yes = slices.Contains(mount.options, "ro") || slices.Contains(mount.options, "emergency_ro")
		}
	}
	return yes
}

// Mounted returns the device that is mounted at a point, or nothing.
func (m *Machine) Mounted(point string) (source string) {
	f, err := os.Open(filepath.Join(m.Proc, "self", "mountinfo"))
	if err != nil {
		return ""
	}
	defer f.Close()
	for _, mount := range readMounts(f) {
		if mount.point == point {
			source = mount.source
		}
	}
	return source
}

// identify returns the kind of file system on a device, and whether its first bytes are all zero.
func (m *Machine) identify(path string) (kind string, blank bool, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", false, err
	}
	defer f.Close()
	head := make([]byte, headBytes)
	n, err := io.ReadFull(f, head)
	if err != nil && err != io.ErrUnexpectedEOF {
		return "", false, err
	}
	kind, blank = Identify(head[:n])
	return kind, blank, nil
}

// headBytes is how much of a device Identify looks at: up to the superblock of btrfs.
const headBytes = 0x10048

// A signature is the magic number of something that disks hold.
type signature struct {
	kind  string
	at    int
	magic string
}

// signatures are what is told apart, from libblkid's superblocks.
var signatures = []signature{
	{"luks", 0, "LUKS\xba\xbe"},
	{"xfs", 0, "XFSB"},
	{"ntfs", 3, "NTFS    "},
	{"exfat", 3, "EXFAT   "},
	{"vfat", 82, "FAT32   "},
	{"vfat", 54, "FAT1"},
	{"lvm", 536, "LVM2 001"},
	{"swap", 4086, "SWAPSPACE2"},
	{"iso9660", 32769, "CD001"},
	{"btrfs", 0x10040, "_BHRfS_M"},
}

// Identify returns the kind of file system that begins with head, empty if it is none that is known, and whether head is all zero.
func Identify(head []byte) (kind string, blank bool) {
	for _, s := range signatures {
		if len(head) >= s.at+len(s.magic) && string(head[s.at:s.at+len(s.magic)]) == s.magic {
			return s.kind, false
		}
	}
	if kind := extended(head); kind != "" {
		return kind, false
	}
	return "", len(bytes.Trim(head, "\x00")) == 0
}

// extended tells ext2, ext3 and ext4 apart (ext4(5), fs/ext4/ext4.h): the magic number at 56 of the superblock, features at 92.
func extended(head []byte) string {
	const superblock, extents64bitAndLater, journal = 1024, 0x02c0, 0x0004
	if len(head) < superblock+100 || binary.LittleEndian.Uint16(head[superblock+56:]) != 0xef53 {
		return ""
	}
	compatible := binary.LittleEndian.Uint32(head[superblock+92:])
	incompatible := binary.LittleEndian.Uint32(head[superblock+96:])
	switch {
	case incompatible&extents64bitAndLater != 0:
		return "ext4"
	case compatible&journal != 0:
		return "ext3"
	}
	return "ext2"
}
