package sipmsg

import (
	"bytes"
	"strings"
	"testing"
)

func TestSplice(t *testing.T) {
	type op struct {
		lo, hi int32
		with   string
	}
	for _, c := range []struct {
		name string
		ops  []op
		want string
		err  error
	}{
		{"nothing", nil, "0123456789", nil},
		{"replace", []op{{2, 4, "ab"}}, "01ab456789", nil},
		{"grow", []op{{2, 4, "abcdef"}}, "01abcdef456789", nil},
		{"remove", []op{{2, 4, ""}}, "01456789", nil},
		{"insert", []op{{2, 2, "ab"}}, "01ab23456789", nil},
		{"at the end", []op{{10, 10, "ab"}}, "0123456789ab", nil},
		{"all", []op{{0, 10, "x"}}, "x", nil},
		{"absent", []op{{0, 0, "x"}}, "0123456789", nil},
		{"any order", []op{{8, 9, "c"}, {1, 2, "a"}, {4, 6, "b"}}, "0a23b67c9", nil},
		{"side by side", []op{{4, 6, "b"}, {2, 4, "a"}}, "01ab6789", nil},
		{"insertions keep their order", []op{{3, 3, "b"}, {3, 3, "c"}, {2, 3, "a"}, {3, 4, "d"}}, "01abcd456789", nil},
		{"insertion comes first", []op{{3, 4, "d"}, {3, 3, "c"}}, "012cd456789", nil},
		{"overlap", []op{{2, 5, "a"}, {4, 6, "b"}}, "", ErrOverlap},
		{"the same twice", []op{{2, 4, "a"}, {2, 4, "a"}}, "", ErrOverlap},
		{"insertion into a replacement", []op{{2, 5, "a"}, {3, 3, "b"}}, "", ErrOverlap},
		{"beyond the end", []op{{9, 11, "a"}}, "", ErrSpan},
		{"before the beginning", []op{{-1, 1, "a"}}, "", ErrSpan},
		{"reversed", []op{{5, 4, "a"}}, "", ErrSpan},
	} {
		t.Run(c.name, func(t *testing.T) {
			raw := []byte("0123456789")
			var e Edits
			for range 2 { // a Reset leaves nothing behind
				e.Reset(raw)
				for _, o := range c.ops {
					e.Replace(Span{o.lo, o.hi}, []byte(o.with))
				}
				out, err := e.Splice([]byte("old"))
				if err != c.err || (err == nil && string(out) != c.want) {
					t.Errorf("got %q, %v, want %q, %v", out, err, c.want, c.err)
				}
			}
			if string(raw) != "0123456789" {
				t.Errorf("the original is now %q", raw)
			}
		})
	}
}

// TestReplaceCopies checks that the caller may reuse its buffer at once.
func TestReplaceCopies(t *testing.T) {
	var e Edits
	e.Reset([]byte("0123"))
	buf := []byte("a")
	e.Replace(Span{1, 2}, buf)
	buf[0] = 'b'
	e.Replace(Span{2, 3}, buf)
	if out, err := e.Splice(nil); err != nil || string(out) != "0ab3" || e.Len() != 2 {
		t.Errorf("got %q, %v, %d edits", out, err, e.Len())
	}
}

func TestFixContentLength(t *testing.T) {
	for _, c := range []struct {
		name, headers, body string
		edit                string // replaces the first byte of the body
		want                string // the headers afterwards
	}{
		{"grown", "Content-Length: 9\n", "123456789", "ab", "Content-Length: 10\n"},
		{"shrunk", "l:10\n", "1234567890", "", "l:9\n"},
		{"unchanged", "Content-Length: 0009\n", "123456789", "a", "Content-Length: 0009\n"},
		{"absent", "", "123456789", "abc", ""},
		{"excess stays excess", "Content-Length: 2\n", "123456789", "abc", "Content-Length: 4\n"},
		{"twice", "Content-Length: 9\nl: 09\n", "123456789", "abc", "Content-Length: 11\nl: 11\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := mustIndex(t, request("Contact: <sip:192.0.2.1>\n"+c.headers, c.body))
			var e Edits
			e.Reset(m.Raw)
			e.Replace(contact(t, m).URI.HostPort, []byte("203.0.113.77:40404"))
			e.Replace(Span{m.Body.Lo, m.Body.Lo + 1}, []byte(c.edit))
			e.FixContentLength(m)
			out, err := e.Splice(nil)
			if err != nil {
				t.Fatal(err)
			}
			expect := wire(request("Contact: <sip:203.0.113.77:40404>\n"+c.want, c.edit+c.body[1:]))
			if string(out) != expect {
				t.Errorf("got\n%s\nwant\n%s", out, expect)
			}
			var n Message
			if err := n.Index(out); err != nil || n.Body.Len() != m.Body.Len()+len(c.edit)-1 {
				t.Errorf("body of %d bytes, %v", n.Body.Len(), err)
			}
		})
	}
}

// TestEditInvite rewrites an INVITE as a NAT does and compares every line.
func TestEditInvite(t *testing.T) {
	raw := []byte(wire(inviteMessage))
	r := newRewriter()
	out := r.rewrite(t, raw)
	r2 := strings.NewReplacer(
		"Via: SIP/2.0/UDP 192.168.1.20:5060", "Via: SIP/2.0/UDP 203.0.113.77:40404",
		"alice@192.168.1.20:5060", "alice@203.0.113.77:40404",
		"<sip:alice@192.168.1.20>", "<sip:alice@203.0.113.77:40404>",
		"IP4 192.168.1.20", "IP4 203.0.113.77",
		"m=audio 4000", "m=audio 40404",
		"a=rtcp:4001", "a=rtcp:40404",
		"Content-Length: 346", "Content-Length: 348",
	)
	want := r2.Replace(string(raw))
	if string(out) != want {
		t.Errorf("got\n%s\nwant\n%s", out, want)
	}
	if !bytes.Equal(raw, []byte(wire(inviteMessage))) {
		t.Error("the original changed")
	}
}
