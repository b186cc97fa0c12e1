package sipmsg

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const framedMessage = "OPTIONS sip:bob@example.com SIP/2.0\n" +
	"Via: SIP/2.0/TCP 192.0.2.1:5060;branch=z9hG4bK1\n" +
	"From: <sip:alice@example.com>;tag=a\n" +
	"To: <sip:bob@example.com>\n" +
	"Call-ID: 1@192.0.2.1\n" +
	"CSeq: 1 OPTIONS\n" +
	"Content-Length: 5\n" +
	"\n" +
	"v=0\r\n"

func TestFrame(t *testing.T) {
	lf := framedMessage
	crlf := strings.ReplaceAll(strings.TrimSuffix(lf, "v=0\r\n"), "\n", "\r\n") + "v=0\r\n"
	with := func(length string) string { return strings.Replace(crlf, "Content-Length: 5\r\n", length, 1) }
	huge := strings.Repeat("x", MaxSize)
	for _, c := range []struct {
		name, stream string
		skip, n      int
		err          error
	}{
		{name: "nothing"},
		{name: "line ends only", stream: "\r\n\r\n", skip: 4},
		{name: "a message", stream: crlf, n: len(crlf)},
		{name: "LF only", stream: lf, n: len(lf)},
		{name: "line ends before", stream: "\r\n\r\n\n" + crlf, skip: 5, n: len(crlf)},
		{name: "two messages", stream: crlf + crlf, n: len(crlf)},
		{name: "no body yet", stream: strings.TrimSuffix(crlf, "v=0\r\n")},
		{name: "half a body", stream: strings.TrimSuffix(crlf, "\r\n")},
		{name: "half the empty line", stream: strings.TrimSuffix(crlf, "\nv=0\r\n")},
		{name: "compact name", stream: with("l: 5\r\n"), n: len(with("l: 5\r\n"))},
		{name: "folded", stream: with("Content-Length:\r\n\t5\r\n"), n: len(with("Content-Length:\r\n\t5\r\n"))},
		{name: "a fold is no empty line", stream: with("Subject: a\r\n \r\nl: 5\r\n"), n: len(with("Subject: a\r\n \r\nl: 5\r\n"))},
		{name: "twice the same", stream: with("l: 5\r\nContent-Length: 05\r\n"), n: len(with("l: 5\r\nContent-Length: 05\r\n"))},
		{name: "response", stream: "SIP/2.0 200 OK\r\nl: 0\r\n\r\n", n: 24},
		{name: "another version", stream: "BYE sip:a SIP/3.0\r\nl: 0\r\n\r\n", n: 27},
		{name: "for Index to refuse", stream: "BYE a b c SIP/2.0 \r\nl: 0\r\n\r\n", n: 28},

		{name: "twice, not the same", stream: with("l: 5\r\nl: 6\r\n"), err: ErrDuplicate},
		{name: "none", stream: with(""), err: ErrNoContentLength},
		{name: "no headers", stream: "BYE sip:a SIP/2.0\r\n\r\n", err: ErrNoContentLength},
		{name: "empty", stream: with("l:\r\n"), err: ErrContentLength},
		{name: "negative", stream: with("l: -5\r\n"), err: ErrContentLength},
		{name: "a sign", stream: with("l: +5\r\n"), err: ErrContentLength},
		{name: "two numbers", stream: with("l: 5, 5\r\n"), err: ErrContentLength},
		{name: "beyond 64 bits", stream: with("l: 18446744073709551621\r\n"), err: ErrSize},
		{name: "just too large", stream: with("l: " + strconv.Itoa(MaxSize) + "\r\n"), err: ErrSize},
		{name: "no colon", stream: with("l 5\r\n"), err: ErrHeader},
		{name: "lone CR", stream: with("Subject: a\rl: 0\r\nl: 5\r\n"), err: ErrHeader},
		{name: "too many headers", stream: with(strings.Repeat("a: b\r\n", MaxHeaders)), err: ErrSize},
		{name: "headers without end", stream: "BYE sip:a SIP/2.0\r\na: " + huge, err: ErrSize},
		{name: "first line without end", stream: "BYE sip:" + huge, err: ErrSize},
		{name: "first word without end", stream: huge, err: ErrSize},
		{name: "TLS", stream: "\x16\x03\x01", err: ErrNotSIP},
		{name: "HTTP request", stream: "POST / HTTP/1.1\r\n", err: ErrNotSIP},
		{name: "HTTP response", stream: "HTTP/", err: ErrNotSIP},
		{name: "SSH", stream: "SSH-2.0-x\r\n", err: ErrNotSIP},
		{name: "NUL", stream: "\x00\x00\x00\x00", err: ErrNotSIP},
		{name: "a space first", stream: " ", err: ErrNotSIP},
	} {
		t.Run(c.name, func(t *testing.T) {
			skip, n, err := new(Framer).Next([]byte(c.stream))
			if skip != c.skip || n != c.n || err != c.err {
				t.Errorf("skip %d, n %d, %v; want %d, %d, %v", skip, n, err, c.skip, c.n, c.err)
			}
		})
	}
}

// TestFrameLargest has the largest message at every cut around its end.
func TestFrameLargest(t *testing.T) {
	head := "BYE sip:a SIP/2.0\r\nl: "
	body := MaxSize - len(head) - len("65000\r\n\r\n")
	b := append([]byte(head+strconv.Itoa(body)+"\r\n\r\n"), make([]byte, body)...)
	if len(b) != MaxSize {
		t.Fatal(len(b))
	}
	if _, n, err := new(Framer).Next(b[:MaxSize-1]); n != 0 || err != nil {
		t.Errorf("a byte less: %d, %v", n, err)
	}
	if _, n, err := new(Framer).Next(append(b, "BYE"...)); n != MaxSize || err != nil {
		t.Errorf("%d, %v", n, err)
	}
}

// frames takes a stream apart that comes in pieces of the given sizes, the last
// of which is repeated, and returns the messages and the error that ends it.
func frames(stream []byte, cuts ...int) (messages [][]byte, err error) {
	var f Framer
	var lo, hi int
	for {
		skip, n, err := f.Next(stream[lo:hi])
		if err != nil {
			return messages, err
		}
		lo += skip
		if n > 0 {
			messages = append(messages, stream[lo:lo+n])
			lo += n
			continue
		}
		if hi == len(stream) {
			return messages, nil
		}
		hi = min(hi+max(cuts[0], 1), len(stream))
		if len(cuts) > 1 {
			cuts = cuts[1:]
		}
	}
}

// framesByLine is the oracle: it reads a stream line by line, as the RFC tells
// the story, with nothing of Framer's.
func framesByLine(stream string) (messages []string) {
	for {
		stream = strings.TrimLeft(stream, "\r\n")
		length, at := -1, 0
		for line := 0; ; line++ {
			text, _, ok := strings.Cut(stream[at:], "\n")
			if !ok {
				return messages
			}
			at += len(text) + 1
			text = strings.TrimSuffix(text, "\r")
			if text == "" {
				break
			}
			if line == 0 {
				continue
			}
			for at < len(stream) && (stream[at] == ' ' || stream[at] == '\t') {
				fold, _, ok := strings.Cut(stream[at:], "\n")
				if !ok {
					return messages
				}
				text += fold
				at += len(fold) + 1
			}
			name, value, _ := strings.Cut(text, ":")
			switch strings.ToLower(strings.TrimRight(name, " \t")) {
			case "l", "content-length":
				n, err := strconv.Atoi(strings.Trim(value, " \t\r"))
				if err != nil {
					return messages
				}
				length = n
			}
		}
		if length < 0 || at+length > len(stream) {
			return messages
		}
		messages = append(messages, stream[:at+length])
		stream = stream[at+length:]
	}
}

// FuzzFrame takes a stream apart however it is cut: it must hold the same
// messages, those of the oracle, and each must be one to Index, too.
func FuzzFrame(f *testing.F) {
	seeds(f, func(b []byte) { f.Add(b, uint64(1)) })
	message := wire(framedMessage)
	f.Add([]byte(message+"\r\n\r\n"+framedMessage+message), uint64(2))
	f.Add([]byte("\r\n"+strings.Replace(message, "Content-Length", "Subject: a\r\n b\r\nl ", 1)+message), uint64(3))
	f.Add([]byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"), uint64(4))
	f.Fuzz(func(t *testing.T, stream []byte, seed uint64) {
		whole, err := frames(stream, len(stream))
		random := rand.New(rand.NewPCG(seed, 0))
		cuts := make([]int, 64)
		for i := range cuts {
			cuts[i] = 1 + random.IntN(1+random.IntN(len(stream)+1))
		}
		for _, cut := range [][]int{{1}, {2}, {7}, cuts} {
			pieces, cutErr := frames(stream, cut...)
			if cutErr != err || !slices.EqualFunc(pieces, whole, bytes.Equal) {
				t.Fatalf("cut by %v: %q, %v\nwhole: %q, %v", cut, pieces, cutErr, whole, err)
			}
		}
		oracle := framesByLine(string(stream))
		if len(oracle) < len(whole) || err == nil && len(oracle) != len(whole) {
			t.Fatalf("%d messages, %v; the oracle has %d\n%q", len(whole), err, len(oracle), whole)
		}
		for i, message := range whole {
			if string(message) != oracle[i] {
				t.Fatalf("message %d is %q, the oracle's %q", i, message, oracle[i])
			}
			var m Message
			switch m.Index(message) {
			case nil:
				if int(m.Body.Hi) != len(message) {
					t.Fatalf("the body ends at %d of %q", m.Body.Hi, message)
				}
			case ErrShortBody, ErrContentLength, ErrTruncated, ErrSize, ErrKeepAlive, ErrNotSIP:
				t.Fatalf("Index finds no message of this size: %v in %q", m.Index(message), message)
			}
		}
	})
}

// TestFrameTorture takes the corpora apart, one after the other in one stream,
// byte by byte: what has the Content-Length that a stream needs is a message.
func TestFrameTorture(t *testing.T) {
	var stream []byte
	var want [][]byte
	for _, dir := range []string{"rfc4475", "rfc5118"} {
		files, err := filepath.Glob("testdata/" + dir + "/*")
		if err != nil || len(files) == 0 {
			t.Fatal(files, err)
		}
		for _, file := range files {
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var m Message
			if m.Index(raw) != nil || m.ContentLength.Lo == 0 {
				continue // nothing, or no end, to find in a stream
			}
			raw = bytes.TrimLeft(raw[:m.Body.Hi], "\r\n")
			stream = append(append(stream, raw...), "\r\n"...)
			want = append(want, raw)
		}
	}
	got, err := frames(stream, 1)
	if err != nil || !slices.EqualFunc(got, want, bytes.Equal) {
		t.Fatalf("%d of %d messages, %v", len(got), len(want), err)
	}
	t.Logf("%d messages", len(got))
}

func BenchmarkFrame(b *testing.B) {
	message := []byte(wire(inviteMessage))
	var m Message
	if err := m.Index(message); err != nil || m.ContentLength.Lo == 0 {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, n, err := new(Framer).Next(message); n == 0 || err != nil {
			b.Fatal(n, err)
		}
	}
}
