//go:build vmtest

package qemu

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"galvo/board"
	"galvo/initramfs/image"
	"galvo/services/api"
)

// logins are the passwords that a machine has made and shown so far.
func logins(v *VM) (passwords []string) {
	for _, m := range regexp.MustCompile(`first login: user admin, password (\S+)\n`).FindAllStringSubmatch(v.Console.String(), -1) {
		passwords = append(passwords, m[1])
	}
	return passwords
}

// settings returns the configuration as the device shows it.
func (c *Client) settings() string {
	c.t.Helper()
	resp, err := c.Do(http.MethodGet, api.GetConfig.Path, "", nil)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	var b bytes.Buffer
	if _, err := b.ReadFrom(resp.Body); err != nil {
		c.t.Fatal(err)
	}
	return b.String()
}

// A factory reset takes the settings back, and keeps what it is told to: with management and users the device is reached as before. One that keeps nothing makes
// a new password. Also after the next start it is as it was left.
func TestFactoryReset(t *testing.T) {
	m := Direct(t, "amd64")
	m.Disks, m.Append = []Disk{m.BlankDisk(t, 256<<20)}, []string{"galvo.data=/dev/vda"}
	v := m.Boot(t)
	c := v.Client(v.Password())
	c.Answers()
	const dns = `dns = ["192.0.2.53"]`
	configure := func() {
		t.Helper()
		if err := c.PutConfig("[device]\nname = \"lab\"\n[management]\n" + dns + "\n"); err != nil {
			t.Fatal(err)
		}
		if text := c.settings(); !strings.Contains(text, `"lab"`) || !strings.Contains(text, dns) {
			t.Fatalf("the settings are not what was set:\n%s", text)
		}
	}
	named := func(name string) {
		t.Helper()
		c.Wait("the device is called "+name, func() bool {
			var s api.Status
			return c.Call(http.MethodGet, api.GetStatus.Path, nil, &s) == nil && s.Name == name
		})
	}
	configure()
	named("lab")
	c.Must(http.MethodPost, api.FactoryReset.Path, api.Reset{Keep: []string{"management", "users"}}, nil)
	named("galvo-0000")
	if text := c.settings(); strings.Contains(text, `"lab"`) || !strings.Contains(text, dns) {
		t.Errorf("the management was to be kept, and nothing else:\n%s", text)
	}
	if n := len(logins(v)); n != 1 {
		t.Errorf("%d passwords were made; the users were to be kept", n)
	}

	configure()
	c.Must(http.MethodPost, api.FactoryReset.Path, api.Reset{}, nil)
	c.Wait("another password is made", func() bool { return len(logins(v)) == 2 })
	old := c
	c = v.Client(logins(v)[1])
	named("galvo-0000")
	if err := old.Call(http.MethodGet, api.GetStatus.Path, nil, nil); err == nil || api.ErrorOf(err).Kind != api.Unauthenticated {
		t.Errorf("the former password: %v", err)
	}
	if text := c.settings(); strings.Contains(text, `"lab"`) || strings.Contains(text, dns) {
		t.Errorf("something of the settings is left:\n%s", text)
	}
	v.PressPower()
	v.AwaitOff()
	v = m.Boot(t)
	c = v.Client(c.Password())
	if s := c.Answers(); s.State != "ok" && !strings.Contains(strings.Join(s.Problems, ""), "no ports") || len(logins(v)) != 0 {
		t.Errorf("after a start it is %s: %q, and made %d passwords", s.State, s.Problems, len(logins(v)))
	}
}

// A configuration that is damaged gives way to the former one, and the device says so.
func TestDamagedConfiguration(t *testing.T) {
	m := Direct(t, "amd64")
	m.Disks, m.Append = []Disk{m.BlankDisk(t, 256<<20)}, []string{"galvo.data=/dev/vda"}
	v := m.Boot(t)
	c := v.Client(v.Password())
	c.Answers()
	for _, name := range []string{"lab-1", "lab-2"} {
		if err := c.PutConfig("[device]\nname = \"" + name + "\"\n"); err != nil {
			t.Fatal(err)
		}
	}
	p := v.person(c.Password())
	p.run("echo 'name = [' > /data/galvo/config.toml")
	v.PressPower()
	v.AwaitOff()
	v = m.Boot(t)
	c = v.Client(c.Password())
	s := c.Answers()
	if s.Name != "lab-1" || s.State != "degraded" || !strings.Contains(strings.Join(s.Problems, "\n"), "The configuration was damaged") {
		t.Errorf("the device is called %s and is %s: %q", s.Name, s.State, s.Problems)
	}
}

// A board's file that cannot be read leaves a device that is reached through its first NIC, captures nothing, and says what is wrong.
func TestDamagedBoard(t *testing.T) {
	m := Direct(t, "amd64")
	m.Ports = 1
	packed, err := os.ReadFile(m.Image.Initramfs())
	if err != nil {
		t.Fatal(err)
	}
	// A second archive behind the first one has its files on top.
	packed = append(packed, make([]byte, -len(packed)&3)...)
	damaged := bytes.NewBuffer(packed)
	if err := image.Write(damaged, []image.File{{Path: strings.TrimPrefix(board.Path, "/"), Content: []byte("architecture = 7\n")}}); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, name := range []string{"vmlinuz", "manifest.json"} {
		if err := os.Symlink(filepath.Join(m.Image.Dir, name), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	m.Image = Image{dir}
	if err := os.WriteFile(m.Image.Initramfs(), damaged.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	v := m.Boot(t)
	s := v.Client(v.Password()).Answers()
	if problems := strings.Join(s.Problems, "\n"); s.State != "degraded" || !strings.Contains(problems, "description of the board") {
		t.Errorf("the device is %s: %q", s.State, s.Problems)
	}
	t.Logf("%q", s.Problems)
	silent(t, v)
}
