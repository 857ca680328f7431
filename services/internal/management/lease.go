package management

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"time"

	"galvo/services/durable"
	"galvo/services/internal/dhcp"
)

// A remembered lease is asked for again after a restart.
type remembered struct {
	MAC   string
	Lease *dhcp.Lease
}

// readLease returns the lease that a link had, if it has not run out, or nil.
func readLease(file, mac string) *dhcp.Lease {
	var r remembered
	text, err := os.ReadFile(file)
	if err != nil || json.Unmarshal(text, &r) != nil || r.MAC != mac || r.Lease == nil || !r.Lease.Address.IsValid() || time.Now().After(r.Lease.Expire) {
		return nil
	}
	return r.Lease
}

// writeLease remembers a lease, or forgets the last one.
func writeLease(file, mac string, l *dhcp.Lease) error {
	if l == nil {
		if err := os.Remove(file); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	text, err := json.Marshal(remembered{mac, l})
	if err != nil {
		return err
	}
	return durable.WriteFile(file, text)
}
