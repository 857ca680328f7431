package kernel

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// object returns an ELF file with the section .modinfo.
func object(fields ...string) []byte {
	info := []byte(strings.Join(fields, "\x00") + "\x00")
	names := []byte("\x00.modinfo\x00.shstrtab\x00")
	const header, section = 64, 64
	var b bytes.Buffer
	le := binary.LittleEndian
	at := uint64(header)
	binary.Write(&b, le, elf.Header64{
		Ident: [16]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), 1}, Type: uint16(elf.ET_REL), Machine: uint16(elf.EM_X86_64), Version: 1,
		Shoff: at + uint64(len(info)+len(names)), Ehsize: header, Shentsize: section, Shnum: 3, Shstrndx: 2,
	})
	b.Write(info)
	b.Write(names)
	binary.Write(&b, le, []elf.Section64{
		{},
		{Name: 1, Type: uint32(elf.SHT_PROGBITS), Off: at, Size: uint64(len(info))},
		{Name: 10, Type: uint32(elf.SHT_STRTAB), Off: at + uint64(len(info)), Size: uint64(len(names))},
	})
	return b.Bytes()
}

// tree returns an unpacked kernel package with some modules.
func tree(t *testing.T) *Tree {
	t.Helper()
	root := t.TempDir()
	for name, content := range map[string][]byte{
		"modules.builtin":                      []byte("kernel/drivers/rtc/rtc-cmos.ko\nkernel/lib/built-in.ko\n"),
		"kernel/fs/ext4/ext4.ko":               object("license=GPL", "softdep=pre: crypto-crc32c nowhere", "depends=jbd2,crc16,built-in", "alias=fs-ext4"),
		"kernel/fs/jbd2/jbd2.ko":               object("depends=crc16"),
		"kernel/lib/crc16.ko":                  object("depends="),
		"kernel/crypto/crc32c_generic.ko":      object("alias=crypto-crc32c", "alias=crc32c"),
		"kernel/arch/x86/crypto/crc32c-x86.ko": object("alias=crypto-crc32c"),
		"kernel/drivers/net/igb.ko":            object("depends=", "alias=pci:v00008086d00001521sv*", "firmware=igb/a.fw"),
		"kernel/drivers/net/odd.ko":            object("depends=gone"),
	} {
		path := filepath.Join(root, "lib/modules/6.12", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	k, err := Open(root)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestClose(t *testing.T) {
	k := tree(t)
	s, err := k.Close([]string{"ext4", "igb", "rtc-cmos"})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range s.Modules {
		names = append(names, m.Name)
	}
	want := []string{"crc32c_x86", "crc32c_generic", "igb", "ext4", "jbd2", "crc16"}
	if !slices.Equal(names, want) {
		t.Errorf("modules %q, want %q", names, want)
	}
	for _, c := range []struct{ got, want string }{
		{string(s.Dep()), "kernel/arch/x86/crypto/crc32c-x86.ko:\nkernel/crypto/crc32c_generic.ko:\nkernel/drivers/net/igb.ko:\n" +
			"kernel/fs/ext4/ext4.ko: kernel/fs/jbd2/jbd2.ko kernel/lib/crc16.ko\nkernel/fs/jbd2/jbd2.ko: kernel/lib/crc16.ko\nkernel/lib/crc16.ko:\n"},
		{string(s.Alias()), "alias crypto-crc32c crc32c_x86\nalias crc32c crc32c_generic\nalias crypto-crc32c crc32c_generic\nalias pci:v00008086d00001521sv* igb\nalias fs-ext4 ext4\n"},
		{string(s.Softdep()), "softdep ext4 pre: crypto-crc32c nowhere\n"},
		{strings.Join(s.Firmware(), " "), "igb/a.fw"},
	} {
		if c.got != c.want {
			t.Errorf("got\n%s\nwant\n%s", c.got, c.want)
		}
	}
	if !s.Has("crc32c-x86") || s.Has("odd") {
		t.Error("Has")
	}
}

func TestCloseRefuses(t *testing.T) {
	for names, want := range map[string]string{"e1000e": "has no module e1000e", "odd": "odd needs gone"} {
		if _, err := tree(t).Close([]string{names}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", names, err, want)
		}
	}
	if _, err := Open(t.TempDir()); err == nil {
		t.Error("opened an empty folder")
	}
}

func FuzzParse(f *testing.F) {
	f.Add(object("depends=a,b", "alias=c"))
	f.Fuzz(func(t *testing.T, b []byte) { parse(b) })
}
