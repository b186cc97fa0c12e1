package state

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

// apply is what remains of the records that keep admits.
func apply(t *testing.T, keep func(i int) bool) map[uint64]string {
	t.Helper()
	_, _, records := sample()
	m := make(map[uint64]string)
	for i, r := range records {
		switch {
		case !keep(i):
		case r.data == "":
			delete(m, r.key)
		default:
			m[r.key] = r.data
		}
	}
	return m
}

// A file that was cut off tells all that is before the cut, but for what the record in
// which it is was to replace, and is whole only where the cut is between two records.
func TestCutAtEveryByte(t *testing.T) {
	text, at, records := sample()
	for n := range len(text) + 1 {
		found, c := understand(text[:n])
		want := apply(t, func(i int) bool { return at[i+1] <= n })
		for i, r := range records {
			if n >= at[i]+recordLen && n < at[i+1] {
				delete(want, r.key)
			}
		}
		if n < titleLen {
			want = nil
		}
		expect(t, found, want)
		health := Damaged
		if n == 0 {
			health = Fresh
		} else if slices.Contains(at, n) {
			health = Whole
		}
		if c.Health != health || (c.Reason == "") != (health != Damaged) || c.Records != len(found) {
			t.Errorf("cut at %d: %+v, want %s", n, c, health)
		}
	}
}

// A changed byte costs the record that it is in, and what that was to replace, and is
// noticed.
func TestEveryByteChanged(t *testing.T) {
	whole, at, records := sample()
	for n := range whole {
		for _, change := range []byte{0x01, 0x80, 0xFF} {
			text := bytes.Clone(whole)
			text[n] ^= change
			found, c := understand(text)
			want := apply(t, func(i int) bool { return n < at[i] || n >= at[i+1] })
			if n < titleLen {
				want = nil
			}
			for i, r := range records {
				later := slices.ContainsFunc(records[i+1:], func(x item) bool { return x.key == r.key })
				if o := n - at[i]; o >= len(mark) && n < at[i+1] && (o < 12 || o >= recordLen) && !later {
					delete(want, r.key)
				} else if o >= 12 && o < recordLen { // its key or its place in the order
					for key := range want {
						if found[key] == "" && (key == r.key || key == keyOf(text[at[i]:])) {
							delete(want, key)
						}
					}
				}
			}
			expect(t, found, want)
			other := n >= len(product) && n < len(product)+len(version)
			if c.Reason == "" || (c.Health == Damaged) == other {
				t.Errorf("byte %d changed by %#x: %+v", n, change, c)
			}
		}
	}
}

func TestDamage(t *testing.T) {
	whole, at, _ := sample()
	all, _ := understand(whole)
	elsewhere := func(change func(*title)) []byte {
		t := title{place: here, generation: 3, since: 3}
		change(&t)
		return append(t.append(nil), whole[titleLen:]...)
	}
	for name, c := range map[string]struct {
		files  [][]byte
		health Health
		reason string
		all    bool
	}{
		"no files":             {nil, Fresh, "", false},
		"garbage":              {[][]byte{bytes.Repeat([]byte("garbage"), 1000)}, Damaged, "calls.0 is no state of sipnatd, or its beginning is destroyed", false},
		"zeros":                {[][]byte{make([]byte, 1000)}, Damaged, "calls.0 was not finished, or its beginning is destroyed", false},
		"title only":           {[][]byte{whole[:titleLen]}, Whole, "", false},
		"garbage at the end":   {[][]byte{append(bytes.Clone(whole), "garbage"...)}, Damaged, "calls.0 ends within a record", true},
		"garbage in between":   {[][]byte{slices.Concat(whole[:at[2]], []byte("garbage"), whole[at[2]:])}, Damaged, "calls.0 has 7 damaged bytes", true},
		"other version":        {[][]byte{bytes.Replace(whole, []byte(version), []byte("2\n"), 1)}, Fresh, "calls.0 is of another version of sipnatd", false},
		"other boot":           {[][]byte{elsewhere(func(t *title) { t.boot[15]++ })}, Fresh, "calls.0 is from before the machine was started", false},
		"other namespace":      {[][]byte{elsewhere(func(t *title) { t.namespace++ })}, Fresh, "calls.0 is that of another network namespace", false},
		"a namespace anew":     {[][]byte{elsewhere(func(t *title) { t.cookie++ })}, Fresh, "calls.0 is that of another network namespace", false},
		"no cookies":           {[][]byte{elsewhere(func(t *title) { t.cookie = 0 })}, Whole, "", true},
		"renewal not finished": {[][]byte{whole, append(make([]byte, titleLen), "something"...)}, Whole, "", true},
		"renewal finished":     {[][]byte{[]byte(strings.Repeat("x", 999)), elsewhere(func(t *title) { t.generation, t.since = 9, 9 })}, Damaged, "calls.0 is no state of sipnatd, or its beginning is destroyed", true},
	} {
		t.Run(name, func(t *testing.T) {
			found, got := understand(c.files...)
			want := map[uint64]string{}
			if c.all {
				want = all
			}
			expect(t, found, want)
			if got.Health != c.health || got.Reason != c.reason {
				t.Errorf("%s, %q, want %s, %q", got.Health, got.Reason, c.health, c.reason)
			}
		})
	}
}

// Of two files both count while records are copied; an older one that everything has
// been written anew since does not.
func TestTwoFiles(t *testing.T) {
	file := func(generation, since uint64, sequence uint64, records ...string) []byte {
		t := title{place: here, generation: generation, since: since}
		b := t.append(nil)
		for i, r := range records {
			b = appendRecord(b, sequence+uint64(i), uint64(i), []byte(r))
		}
		return b
	}
	found, c := understand(file(6, 5, 10, "new"), file(5, 5, 1, "old", "kept"))
	expect(t, found, map[uint64]string{0: "new", 1: "kept"})
	if c.Health != Whole {
		t.Error(c)
	}
	found, c = understand(file(6, 6, 1, "new"), file(5, 5, 1, "old", "outdated"))
	expect(t, found, map[uint64]string{0: "new"})
	if c.Health != Whole {
		t.Error(c)
	}
}

func FuzzLoad(f *testing.F) {
	whole, at, _ := sample()
	f.Add(whole, []byte{})
	f.Add(whole[:at[3]+5], whole)
	f.Add(append(make([]byte, titleLen), whole[titleLen:]...), whole[:titleLen+1])
	f.Fuzz(func(t *testing.T, a, b []byte) {
		images := [2]image{{name: "a", text: a}, {name: "b", text: b}}
		found, c := parse(images, here)
		if c.Records != len(found.records) || c.Health == Damaged && c.Reason == "" || found.title == nil && c.Health == Whole {
			t.Errorf("%+v", c)
		}
		last := uint64(0)
		for _, r := range found.records {
			if cutRecord(r.raw) == nil || !bytes.Contains(images[r.file].text, r.raw) {
				t.Errorf("a record that is none: %q", r.raw)
			}
			if sequenceOf(r.raw) < last {
				t.Error("records out of order")
			}
			last = sequenceOf(r.raw)
		}
	})
}
