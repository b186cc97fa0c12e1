package join

import (
	"net"
	"testing"
	"time"
)

// TestDeadlineIsSteady: setting the wall clock ends no connection. Its deadlines have a
// monotonic reading, which Round takes away.
func TestDeadlineIsSteady(t *testing.T) {
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	far, err := net.DialTCP("tcp4", nil, l.Addr().(*net.TCPAddr))
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	j := &Join{limits: Limits{Silence: time.Hour, Message: time.Minute}.withDefaults()}
	d := &direction{pair: newPair(j, far, far, addrPort(far.LocalAddr()), addrPort(far.RemoteAddr()))}
	for _, buf := range [][]byte{nil, []byte("INVITE")} {
		d.buf, d.began = buf, time.Now()
		if end := d.deadline(); end == end.Round(0) {
			t.Errorf("with %d bytes it ends at a wall time: %v", len(buf), end)
		}
	}
}
