package sipmsg

import (
	"strings"
	"testing"
)

func TestSDPBodies(t *testing.T) {
	const (
		sdp  = "v=0\no=- 1 1 IN IP4 192.0.2.1\n"
		more = "v=0\no=- 2 2 IN IP4 192.0.2.2\n"
	)
	part := func(headers, body string) string { return "--b\n" + headers + "\n" + body + "\n" }
	mixed := "Content-Type: multipart/mixed;boundary=b\n"
	for _, c := range []struct {
		name, headers, body string
		want                []string
	}{
		{"no type", "", sdp, nil},
		{"plain", "Content-Type: application/sdp\n", sdp, []string{sdp}},
		{"compact, upper case, parameters", "C: APPLICATION/SDP ; charset=utf-8\n", sdp, []string{sdp}},
		{"folded", "Content-Type:\n application/sdp\n", sdp, []string{sdp}},
		{"other", "Content-Type: application/sdpx\n", sdp, nil},
		{"text", "Content-Type: text/plain\n", sdp, nil},
		{"empty", "Content-Type: application/sdp\n", "", nil},
		{"compressed", "Content-Type: application/sdp\nContent-Encoding: gzip\n", sdp, nil},
		{"not compressed", "Content-Type: application/sdp\ne: Identity\n", sdp, []string{sdp}},
		{"compressed after all", "Content-Type: application/sdp\ne: identity\ne: gzip\ne: identity\n", sdp, nil},
		{"multipart", mixed, part("Content-Type: application/sdp\n", sdp) + "--b--\n", []string{sdp}},
		{"boundary in quotes", "Content-Type: multipart/mixed; x=y; Boundary=\"a ;b,'c\"\n",
			"--a ;b,'c\nContent-Type: application/sdp\n\n" + sdp + "\n--a ;b,'c--\n", []string{sdp}},
		{"other parts around", mixed, part("Content-Type: text/plain\n", "v=0") + part("c:application/sdp\n", sdp) +
			part("Content-Type: application/isup\n", "\x00\x01--b\x02") + "--b--\n", []string{sdp}},
		{"two descriptions", mixed, part("Content-Type: application/sdp\n", sdp) +
			part("Content-Type: application/sdp\n", more) + "--b--\n", []string{sdp, more}},
		{"preamble and epilogue", mixed, "--not\n" + sdp + part("Content-Type: application/sdp\n", sdp) +
			"--b--\n" + part("Content-Type: application/sdp\n", more), []string{sdp}},
		{"part without headers", mixed, part("", sdp) + "--b--\n", nil},
		{"blanks after the delimiter", mixed, "--b \t\nContent-Type: application/sdp\n\n" + sdp + "\n--b-- \n", []string{sdp}},
		{"longer delimiter is text", mixed, part("Content-Type: application/sdp\n", sdp+"--bc\n") + "--b--\n", []string{sdp + "--bc\n"}},
		{"no closing delimiter", mixed, "--b\nContent-Type: application/sdp\n\n" + sdp, []string{sdp}},
		{"no line end after the last one", mixed, part("Content-Type: application/sdp\n", sdp) + "--b--", []string{sdp}},
		{"encoded part", mixed, part("Content-Type: application/sdp\nContent-Transfer-Encoding: base64\n", "dj0w") + "--b--\n", nil},
		{"binary part", mixed, part("Content-Type: application/sdp\nContent-Transfer-Encoding: binary\n", sdp) + "--b--\n", []string{sdp}},
		{"compressed part", mixed, part("Content-Type: application/sdp\nContent-Encoding: deflate\n", sdp) + "--b--\n", nil},
		{"malformed part", mixed, part("nonsense\n", sdp) + part("Content-Type: application/sdp\n", more) + "--b--\n", []string{more}},
		{"part of headers only", mixed, "--b\nContent-Type: application/sdp\n--b--\n", nil},
		{"no boundary", "Content-Type: multipart/mixed\n", part("Content-Type: application/sdp\n", sdp), nil},
		{"empty boundary", "Content-Type: multipart/mixed;boundary=\"\"\n", part("Content-Type: application/sdp\n", sdp), nil},
		{"nested", mixed, part("Content-Type: multipart/alternative; boundary=bb\n",
			"--bb\nContent-Type: text/plain\n\nx\n--bb\nContent-Type: application/sdp\n\n"+sdp+"\n--bb--") +
			part("Content-Type: application/sdp\n", more) + "--b--\n", []string{sdp, more}},
		{"nested four deep", mixed, nest(4, sdp), []string{sdp}},
		{"nested five deep", mixed, nest(5, sdp), nil},
		{"nested two hundred deep", mixed, nest(200, sdp), nil},
		{"a hundred descriptions", mixed, strings.Repeat(part("Content-Type: application/sdp\n", sdp), 100),
			strings.Split(strings.Repeat(","+sdp, maxParts), ",")[1:]},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, ends := range []func(string) string{wire, func(s string) string { return s }} {
				var m Message
				if err := m.Index([]byte(ends(request(c.headers, c.body)))); err != nil {
					t.Fatal(err)
				}
				checkMessage(t, &m)
				got := m.SDPBodies(nil)
				if len(got) != len(c.want) {
					t.Fatalf("%d session descriptions, want %d", len(got), len(c.want))
				}
				for i, s := range got {
					want(t, &m, s, ends(c.want[i]))
				}
			}
		})
	}
}

// nest wraps a session description in depth multipart bodies, of which the
// outermost has the boundary b.
func nest(depth int, sdp string) string {
	text := "Content-Type: application/sdp\n\n" + sdp
	for i := depth; i > 0; i-- {
		b := "b"
		if i > 1 {
			b = "b" + strings.Repeat("x", i%60) + "y"
		}
		text = "--" + b + "\n" + text + "\n--" + b + "--\n"
		if i > 1 {
			text = "Content-Type: multipart/mixed;boundary=" + b + "\n\n" + text
		}
	}
	return text
}

// TestSDPBodiesAppends checks that what dst holds stays.
func TestSDPBodiesAppends(t *testing.T) {
	m := mustIndex(t, inviteMessage)
	got := m.SDPBodies([]Span{{1, 2}})
	if len(got) != 2 || got[0] != (Span{1, 2}) || got[1] != m.Body {
		t.Errorf("got %v", got)
	}
}
