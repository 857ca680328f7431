// Package sandbox takes rights away from the process that it runs in, for good and on all its threads: user, capabilities with their bounding
// and ambient sets, and the system calls that gain rights or reach a network.
//
// A role calls Enter once, before it reads anything from outside. It begins as the user that started `galvo run`, so that the program may lie
// where the role's own user cannot read. Without root Enter takes away what it can, which leaves the user as it is.
package sandbox

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/cap"
)

// A Policy is what a process keeps.
type Policy struct {
	User, Group  int         // to run as; negative is as before. Supplementary groups are given up with the user.
	Capabilities []cap.Value // kept, where the process has them; a user other than root keeps none
	Confine      bool        // deny the system calls of filter.go, among them socket(2) of any family but AF_UNIX
	Uring        bool        // an io_uring that was made before, and restricted to what the process needs, may be used; none can be made
}

// Host returns the policy of `galvo host`.
func Host() Policy {
	return Policy{User: -1, Group: -1, Capabilities: []cap.Value{
		cap.NET_ADMIN, cap.NET_RAW, cap.SYS_ADMIN, cap.SYS_TIME, cap.CHOWN, cap.FOWNER, cap.DAC_OVERRIDE,
	}}
}

// Engine returns the policy of `galvo engine`.
func Engine(user, group int) Policy {
	p := Unprivileged(user, group)
	p.Uring = true
	return p
}

// Unprivileged returns the policy of `galvo web`, and of whatever needs nothing.
func Unprivileged(user, group int) Policy {
	return Policy{User: user, Group: group, Confine: true}
}

// Enter applies p to the whole process. After an error the process must end: it may have lost some rights and kept others.
func Enter(p Policy) error {
	parent := os.Getppid()
	if err := dropBound(p.Capabilities); err != nil {
		return fmt.Errorf("drop capabilities from the bounding set: %w", err)
	}
	if err := become(p.User, p.Group); err != nil {
		return fmt.Errorf("become user %d: %w", p.User, err)
	}
	if err := keepOnly(p.Capabilities); err != nil {
		return fmt.Errorf("drop capabilities: %w", err)
	}
	if _, err := cap.Prctlw(unix.PR_SET_NO_NEW_PRIVS, 1); err != nil {
		return fmt.Errorf("give up new privileges: %w", err)
	}
	// The kernel forgets this signal when the user changes, and does not send it for a parent that is gone already (prctl(2)).
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("follow the parent's end: %w", err)
	}
	if os.Getppid() != parent {
		return errors.New("the process that started this one is gone")
	}
	if !p.Confine {
		return nil
	}
	if err := confine(p.Uring); err != nil {
		return fmt.Errorf("install the filter of system calls: %w", err)
	}
	return nil
}

// dropBound needs CAP_SETPCAP; without it nothing can be dropped, and nothing be gained either once no_new_privs is set.
func dropBound(keep []cap.Value) error {
	may, err := cap.GetProc().GetFlag(cap.Effective, cap.SETPCAP)
	if err != nil || !may {
		return err
	}
	var drop []cap.Value
	for v := range cap.MaxBits() {
		if in, err := cap.GetBound(v); err == nil && in && !slices.Contains(keep, v) {
			drop = append(drop, v)
		}
	}
	return cap.DropBound(drop...)
}

func become(user, group int) error {
	if user < 0 || user == os.Getuid() {
		return nil
	}
	return errors.Join(syscall.Setgroups(nil), syscall.Setgid(group), syscall.Setuid(user))
}

func keepOnly(keep []cap.Value) error {
	if err := cap.ResetAmbient(); err != nil {
		return err
	}
	now, next := cap.GetProc(), cap.NewSet()
	for _, v := range keep {
		if has, err := now.GetFlag(cap.Permitted, v); err != nil || !has {
			continue
		}
		if err := errors.Join(next.SetFlag(cap.Permitted, true, v), next.SetFlag(cap.Effective, true, v)); err != nil {
			return err
		}
	}
	return next.SetProc()
}
