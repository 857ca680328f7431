package l7

import (
	"fmt"
	"strings"
	"testing"
)

func TestStore(t *testing.T) {
	s := newStore(4 * slotSize * 2)
	if len(s.slots) != 6 {
		t.Fatalf("%d slots", len(s.slots))
	}
	for id := range uint64(20) {
		i, _ := s.take(id)
		if s.at(i, id) == nil {
			t.Fatalf("slot %d is not of %d", i, id)
		}
		if id%3 == 0 {
			s.release(i, id)
			if s.at(i, id) != nil {
				t.Fatal("released, and still there")
			}
		}
	}
	sl := &s.slots[0]
	sl.spans = [8]span{}
	for _, at := range []int{10, 30, 20, 0, 40} {
		sl.put(at, []byte("0123456789"))
	}
	if string(sl.head()) != "01234567890123456789012345678901234567890123456789" {
		t.Errorf("head %q of %v", sl.head(), sl.spans)
	}
	name := make([]byte, 250)
	for i := range name {
		name[i] = byte('a' + i%26)
	}
	b := s.keepName(name)
	if string(s.nameAt(b)) != string(name) {
		t.Errorf("name %q", s.nameAt(b))
	}
	for b != 0 {
		b = s.keepName(name)
	}
	if int(s.fresh) > len(s.blocks) {
		t.Error("more blocks than there are")
	}
}

// TestNamesStay takes names, drops them and takes others: the bytes of a dropped name are what they were until begin, and are used again after it.
func TestNamesStay(t *testing.T) {
	s := newStore(4 * 64 * 8) // eight blocks
	var refs []nameRef
	var given [][]byte
	for i := range 2 {
		refs = append(refs, s.keepName([]byte(fmt.Sprintf("%d.%s", i, strings.Repeat("x", 100*i+30)))))
		given = append(given, s.nameAt(refs[i]))
	}
	want := fmt.Sprintf("%q", given)
	for _, r := range refs {
		s.dropName(r)
	}
	others := 0
	for ; s.keepName([]byte("another.example")) != 0; others++ {
	}
	if got := fmt.Sprintf("%q", given); others != 4 || got != want || !strings.Contains(want, "1.xx") {
		t.Errorf("%s after %d other names, want %s after 4", got, others, want)
	}
	s.begin()
	n := 0
	for ; s.keepName([]byte("again.example")) != 0; n++ {
	}
	if n != 1+3 {
		t.Errorf("%d blocks came back, want those of the two names, 4", n)
	}
}
