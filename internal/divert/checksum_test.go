package divert

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

func TestChecksumAgreesWithRFC1071(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	random := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		return b
	}
	for n := range 200 {
		for name, b := range map[string][]byte{
			"random": random(n),
			"zero":   make([]byte, n),
			"ones":   bytes.Repeat([]byte{0xff}, n),
		} {
			if got, want := fold(sum(0, b)), slowChecksum(b); got != want {
				t.Errorf("%s, %d bytes: checksum %#04x, want %#04x", name, n, got, want)
			}
		}
	}
}

func TestChecksumExampleOfRFC1071(t *testing.T) {
	b := []byte{0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7}
	if got := ^fold(sum(0, b)); got != 0xddf2 {
		t.Errorf("sum %#04x, want 0xddf2 (RFC 1071, section 3)", got)
	}
}

func TestChecksumInParts(t *testing.T) {
	b := pattern(1501)
	whole := fold(sum(0, b))
	for _, cut := range []int{0, 2, 8, 20, 40, 1500} {
		if got := fold(sum(sum(0, b[:cut]), b[cut:])); got != whole {
			t.Errorf("cut at %d: %#04x, want %#04x", cut, got, whole)
		}
	}
}

func BenchmarkChecksum(b *testing.B) {
	data := pattern(1500)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		sum(0, data)
	}
}
