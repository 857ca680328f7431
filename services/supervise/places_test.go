package supervise

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// Runs that begin and end beside one another do not take each other's runtime directories away.
func TestRunsBesideOneAnother(t *testing.T) {
	if os.Getuid() == 0 { // whose runtime directory holds those of runs that were killed, too
		runAsNobody(t)
		return
	}
	dir := t.TempDir()
	var all sync.WaitGroup
	for n := range 2 {
		all.Go(func() {
			state := filepath.Join(dir, fmt.Sprint(n))
			usual := ""
			for range 1000 {
				p, err := prepare(state, "")
				if err != nil {
					t.Error(err)
					return
				}
				if usual == "" {
					usual = p.run
				}
				if p.run != usual {
					t.Errorf("the runtime directory of one run is %s, and that of another %s", usual, p.run)
				}
				p.close()
			}
		})
	}
	all.Wait()
}
