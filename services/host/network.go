package host

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"galvo/services/api"
)

// getNetwork says how the device is reached.
func (s *service) getNetwork(context.Context, *api.Nothing) (*api.Reply[api.Network], error) {
	links, err := machineLinks()
	if err != nil {
		return nil, err
	}
	k := s.keeper
	st := k.management.State()
	n := api.Network{
		Name: cmp.Or(k.name(), plainName), Appliance: k.options.Appliance, Port: st.Link.Name, Index: st.Link.Index, Source: st.Source,
		Addresses: []string{}, DNS: texts(st.DNS), ConfirmSeconds: int(s.trial.Left().Seconds() + 0.999), Clock: s.clockState(), Problems: []string{},
	}
	for _, l := range links {
		if l.loopback || st.Link.Index != 0 && l.index != st.Link.Index || st.Link.Index == 0 && !hasAddress(&l) {
			continue
		}
		n.Addresses = append(n.Addresses, texts(l.addresses)...)
	}
	if l := st.Lease; l != nil {
		n.LeaseServer, n.LeaseEnd = l.Server.String(), l.Expire.UnixMicro()
		if l.Router.IsValid() {
			n.Router = l.Router.String()
		}
	}
	if st.Source == "static" {
		n.Router = s.store.Current().Management.Gateway
	}
	for _, p := range []string{st.Problem, n.Clock.Problem, stateProblem(k.options.State)} {
		if p != "" {
			n.Problems = append(n.Problems, p)
		}
	}
	if _, err := k.planMemory(s.store.Current()); err != nil {
		n.Problems = append(n.Problems, "the engine cannot start: "+err.Error())
	}
	if n.ConfirmSeconds > 0 {
		n.Problems = append(n.Problems, fmt.Sprintf("the management settings changed and are undone in %d seconds unless they are confirmed", n.ConfirmSeconds))
	}
	return &api.Reply[api.Network]{Body: n}, nil
}

// leastFree is how many bytes are free at least where the state lies: the largest of its files is written anew beside the old one.
const leastFree = 1_000_000

// stateProblem says why what is changed cannot be kept in a directory; empty if nothing is known to be wrong. Users and captures are kept on the same file system.
func stateProblem(dir string) string {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return fmt.Sprintf("the state directory cannot be reached, so nothing that is changed is kept: %v", err)
	}
	switch free := st.Bavail * uint64(st.Bsize); {
	case st.Flags&unix.ST_RDONLY != 0:
		return "the file system with the state directory is read-only, so nothing that is changed is kept: its disk may be failing"
	case free < leastFree:
		return fmt.Sprintf("the file system with the state directory is full (%d bytes are free), so nothing that is changed is kept: delete files on it", free)
	}
	return ""
}

func (s *service) clockState() api.ClockState {
	st := s.keeper.clocks.State()
	out := api.ClockState{Source: st.Source, Synced: st.Synced, Offset: st.Offset.Microseconds(), Problem: st.Problem}
	if !st.Last.IsZero() {
		out.Last = st.Last.UnixMicro()
	}
	return out
}

func texts(list []netip.Addr) []string {
	out := []string{}
	for _, a := range list {
		out = append(out, a.String())
	}
	return out
}
