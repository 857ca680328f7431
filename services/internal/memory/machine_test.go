package memory

import (
	"os"
	"path/filepath"
	"testing"
)

func TestGroupLimit(t *testing.T) {
	cases := []struct {
		name  string
		files map[string]string
		own   string // /proc/self/cgroup
		want  uint64
	}{
		{"version 2", map[string]string{"a/memory.max": "4000", "a/b/memory.max": "max"}, "0::/a/b", 4000},
		{"the least on the way up", map[string]string{"a/memory.max": "4000", "a/c/memory.max": "3000"}, "0::/a/c", 3000},
		{"held up before it is killed", map[string]string{"a/memory.max": "4000", "a/memory.high": "3500"}, "0::/a", 3500},
		{"a container sees its own as the topmost", map[string]string{"memory.max": "2000"}, "0::/", 2000},
		{"a container that sees its host's path", map[string]string{"memory.max": "2000"}, "0::/../b", 2000},
		{"nonsense", map[string]string{"d/memory.max": "nonsense"}, "0::/d", 9000},
		{"an appliance's service", map[string]string{"galvo/memory.max": "8000", "galvo/host/memory.max": "2000"}, "0::/galvo/host", 8000},
		{"version 1", map[string]string{"memory/a/memory.limit_in_bytes": "4000"}, "5:cpuset:/\n4:memory:/a\n0::/", 4000},
		{"version 1 without a limit", map[string]string{"memory/a/memory.limit_in_bytes": "9223372036854771712"}, "4:memory:/a", 9000},
		{"version 1 in a container", map[string]string{"memory/memory.limit_in_bytes": "2000"}, "4:memory:/docker/0123", 2000},
		{"version 1 with two controllers", map[string]string{"memory/a/memory.limit_in_bytes": "4000"}, "4:cpu,memory:/a", 4000},
		{"another controller's group", map[string]string{"memory/a/memory.limit_in_bytes": "4000"}, "4:cpuset:/a", 9000},
		{"no control groups", nil, "", 9000},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			root := t.TempDir()
			for name, text := range c.files {
				file := filepath.Join(root, name)
				if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, []byte(text+"\n"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if got := groupLimit(root, c.own+"\n", 9000); got != c.want {
				t.Errorf("%d, want %d", got, c.want)
			}
		})
	}
}
