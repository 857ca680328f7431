package host

import (
	"errors"
	"strings"
	"testing"

	"github.com/safchain/ethtool"
)

// A fakeNIC is a driver that can change some features, and keeps quiet about the others as drivers do.
type fakeNIC struct {
	NIC
	features map[string]bool // there, and whether on
	fixed    map[string]bool // cannot be changed
	ring     ethtool.Ring
	pause    *ethtool.Pause // nil for none
}

func (f *fakeNIC) FeaturesWithState(string) (map[string]ethtool.FeatureState, error) {
	out := map[string]ethtool.FeatureState{}
	for name, on := range f.features {
		out[name] = ethtool.FeatureState{Active: on, Requested: on, Available: !f.fixed[name]}
	}
	return out, nil
}

func (f *fakeNIC) Change(_ string, config map[string]bool) error {
	for name, on := range config {
		if _, ok := f.features[name]; !ok {
			return errors.New("unknown feature " + name)
		}
		if !f.fixed[name] {
			f.features[name] = on
		}
	}
	return nil
}

func (f *fakeNIC) GetRing(string) (ethtool.Ring, error) { return f.ring, nil }

func (f *fakeNIC) SetRing(_ string, r ethtool.Ring) (ethtool.Ring, error) {
	f.ring = r
	return r, nil
}

func (f *fakeNIC) GetPause(string) (ethtool.Pause, error) {
	if f.pause == nil {
		return ethtool.Pause{}, errors.New("operation not supported")
	}
	return *f.pause, nil
}

func (f *fakeNIC) SetPause(_ string, p ethtool.Pause) (ethtool.Pause, error) {
	*f.pause = p
	return p, nil
}

func (f *fakeNIC) Close() {}

// Whether frames come with their FCS is what the NIC does, not what was asked for.
func TestFCSFeatures(t *testing.T) {
	tests := []struct {
		what     string
		features map[string]bool
		fixed    map[string]bool
		want     bool
		on       bool
		err      string
	}{
		{"a NIC that can", map[string]bool{"rx-all": false, "rx-fcs": false}, nil, true, true, ""},
		{"a NIC that can, not asked for", map[string]bool{"rx-all": false, "rx-fcs": false}, nil, false, false, ""},
		{"switched on by somebody else", map[string]bool{"rx-all": true, "rx-fcs": true}, nil, false, false, ""},
		{"veth", map[string]bool{"rx-all": false, "rx-fcs": false}, map[string]bool{"rx-all": true, "rx-fcs": true}, true, false, "no rx-fcs"},
		{"only the sequence", map[string]bool{"rx-all": false, "rx-fcs": false}, map[string]bool{"rx-all": true}, true, true, "no rx-all"},
		{"only the bad ones", map[string]bool{"rx-all": false, "rx-fcs": false}, map[string]bool{"rx-fcs": true}, true, false, "no rx-fcs"},
		{"neither", map[string]bool{}, nil, true, false, "no rx-fcs"},
	}
	for _, test := range tests {
		before := map[string]bool{}
		for k, v := range test.features {
			before[k] = v
		}
		n := &nics{tool: &fakeNIC{features: test.features, fixed: test.fixed}}
		on, err := n.setFCS(&link{index: 1, name: "eth0"}, test.want)
		if on != test.on || (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
			t.Errorf("%s: %t, %v", test.what, on, err)
		}
		n.close()
		for k, v := range before {
			if test.features[k] != v {
				t.Errorf("%s: %s is left at %t", test.what, k, test.features[k])
			}
		}
	}
}

// A capture port has the largest ring and sends no pause frames, and both come back.
func TestRingAndPause(t *testing.T) {
	f := &fakeNIC{ring: ethtool.Ring{RxMaxPending: 4096, RxPending: 256}, pause: &ethtool.Pause{Autoneg: 1, RxPause: 1, TxPause: 1}}
	n := &nics{tool: f}
	l := &link{index: 1, name: "eth0"}
	for range 2 {
		n.growRing(l)
		n.stopPause(l)
	}
	if f.ring.RxPending != 4096 || *f.pause != (ethtool.Pause{}) {
		t.Errorf("ring %+v, pause %+v", f.ring, *f.pause)
	}
	n.release(func(index int) bool { return index == 1 })
	if f.ring.RxPending != 256 || f.pause.TxPause != 1 || len(n.undo) != 0 {
		t.Errorf("given back: ring %+v, pause %+v", f.ring, *f.pause)
	}
	n = &nics{tool: &fakeNIC{}, keep: true}
	n.stopPause(l)
	n.close()
}
