package store

import (
	"fmt"
	"strings"
	"testing"
)

func TestStore(t *testing.T) {
	s := New(4 * SlotSize * 2)
	if len(s.slots) != 6 {
		t.Fatalf("%d slots", len(s.slots))
	}
	for id := range uint64(20) {
		i, _ := s.Take(id)
		if s.At(i, id) == nil {
			t.Fatalf("slot %d is not of %d", i, id)
		}
		if id%3 == 0 {
			s.Release(i, id)
			if s.At(i, id) != nil {
				t.Fatal("released, and still there")
			}
		}
	}
	sl := &s.slots[0]
	sl.spans = [8]span{}
	for _, at := range []int{10, 30, 20, 0, 40} {
		sl.Put(at, []byte("0123456789"))
	}
	if string(sl.Head()) != "01234567890123456789012345678901234567890123456789" {
		t.Errorf("head %q of %v", sl.Head(), sl.spans)
	}
	name := make([]byte, 250)
	for i := range name {
		name[i] = byte('a' + i%26)
	}
	b := s.Keep(name)
	if string(s.Text(b)) != string(name) {
		t.Errorf("name %q", s.Text(b))
	}
	for b != 0 {
		b = s.Keep(name)
	}
	if int(s.fresh) > len(s.blocks) {
		t.Error("more blocks than there are")
	}
}

// TestNamesStay takes names, drops them and takes others: the bytes of a dropped name are what they were until begin, and are used again after it.
func TestNamesStay(t *testing.T) {
	s := New(4 * 64 * 8) // eight blocks
	var refs []Name
	var given [][]byte
	for i := range 2 {
		refs = append(refs, s.Keep([]byte(fmt.Sprintf("%d.%s", i, strings.Repeat("x", 100*i+30)))))
		given = append(given, s.Text(refs[i]))
	}
	want := fmt.Sprintf("%q", given)
	for _, r := range refs {
		s.Drop(r)
	}
	others := 0
	for ; s.Keep([]byte("another.example")) != 0; others++ {
	}
	if got := fmt.Sprintf("%q", given); others != 4 || got != want || !strings.Contains(want, "1.xx") {
		t.Errorf("%s after %d other names, want %s after 4", got, others, want)
	}
	s.Begin()
	n := 0
	for ; s.Keep([]byte("again.example")) != 0; n++ {
	}
	if n != 1+3 {
		t.Errorf("%d blocks came back, want those of the two names, 4", n)
	}
}
