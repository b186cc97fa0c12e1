package nat

import (
	"math/rand/v2"
	"testing"
	"time"
)

func anyPort(uint16) bool { return true }

func testPorts(low, high uint16) *ports {
	return newPorts(low, high, rand.New(rand.NewPCG(3, 4)), func() time.Time { return time.Unix(1_700_000_000, 0) })
}

func TestPortsRange(t *testing.T) {
	tests := []struct {
		low, high uint16
		pairs     int
	}{
		{7070, 7999, 465}, {7070, 7071, 1}, {7071, 7074, 1}, {7070, 7070, 0}, {7071, 7072, 0},
		{7071, 7073, 1}, {1024, 65535, 32256}, {65534, 65535, 1}, {8000, 7000, 0},
	}
	for _, tt := range tests {
		p := testPorts(tt.low, tt.high)
		seen := map[uint16]bool{}
		for {
			port := p.find(2, anyPort)
			if port == 0 {
				break
			}
			if port%2 != 0 || port < tt.low || port+1 > tt.high || seen[port] {
				t.Fatalf("%d-%d: found %d, seen before: %v", tt.low, tt.high, port, seen[port])
			}
			seen[port] = true
			p.mark(port)
			p.mark(port + 1)
		}
		if len(seen) != tt.pairs {
			t.Errorf("%d-%d: %d pairs, want %d", tt.low, tt.high, len(seen), tt.pairs)
		}
		if p.free != 0 && tt.pairs > 0 {
			t.Errorf("%d-%d: %d ports are left", tt.low, tt.high, p.free)
		}
	}
}

func TestPortsRuns(t *testing.T) {
	p := testPorts(7070, 7079)
	p.mark(7073)
	for range 50 {
		if port := p.find(4, anyPort); port != 7074 && port != 7076 {
			t.Fatalf("four ports in a row at %d, 7073 is taken", port)
		}
		if port := p.find(6, anyPort); port != 7074 {
			t.Fatalf("six ports in a row at %d", port)
		}
	}
	if port := p.find(8, anyPort); port != 0 {
		t.Errorf("eight ports in a row at %d", port)
	}
	if port := p.find(2, func(port uint16) bool { return port == 7076 || port == 7077 }); port != 7076 {
		t.Errorf("the only usable pair is 7076, found %d", port)
	}
	if port := p.find(1, func(port uint16) bool { return false }); port != 0 {
		t.Errorf("found %d where none is usable", port)
	}
}

func TestPortsRelease(t *testing.T) {
	p := testPorts(7070, 7071)
	free := p.free
	for _, port := range []uint16{5060, 7069, 7072, 65535} { // a binding's port may lie outside the range
		p.mark(port)
		p.release(port)
	}
	p.mark(7070)
	p.mark(7070)
	if p.free != free-1 {
		t.Errorf("%d ports are free after one was taken, want %d", p.free, free-1)
	}
	if port := p.find(1, anyPort); port != 0 {
		t.Errorf("found %d, whose run begins with a taken port", port)
	}
	p.release(7070)
	p.release(7070)
	if p.free != free || p.find(2, anyPort) != 7070 {
		t.Error("a released port cannot be found")
	}
}

// TestPortsRest gives a pair back: it is handed out again after a while, or at once
// where there is no other.
func TestPortsRest(t *testing.T) {
	p := testPorts(7070, 7073)
	now := time.Unix(1_700_000_000, 0)
	p.now = func() time.Time { return now }
	take := func() uint16 {
		port := p.find(2, anyPort)
		p.mark(port)
		p.mark(port + 1)
		return port
	}
	give := func(port uint16) {
		p.release(port)
		p.release(port + 1)
	}
	first := take()
	give(first)
	for range 20 {
		if port := p.find(2, anyPort); port == first {
			t.Fatal("a port is handed out right after its call")
		}
	}
	second := take()
	if port := take(); port != first {
		t.Errorf("the only free pair is %d, found %d", first, port)
	}
	give(first)
	give(second)
	now = now.Add(portRest)
	seen := map[uint16]bool{}
	for range 50 {
		seen[p.find(2, anyPort)] = true
	}
	if len(seen) != 2 || len(p.resting) != 0 {
		t.Errorf("after their rest %v are handed out, %d rest", seen, len(p.resting))
	}
}

// TestPortsAreUnforeseeable counts how often a port comes right after another:
// someone outside must not guess the next stream from the last one.
func TestPortsAreUnforeseeable(t *testing.T) {
	p := testPorts(7070, 7999)
	last, next := uint16(0), 0
	for range 400 {
		port := p.find(2, anyPort)
		p.mark(port)
		p.mark(port + 1)
		if port == last+2 {
			next++
		}
		last = port
	}
	if next > 40 { // 1 in 465 at first; runs of taken pairs add some at the end
		t.Errorf("%d of 400 ports came right after the one before", next)
	}
}
