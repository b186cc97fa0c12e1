package conntrack

import (
	"bytes"
	"log/slog"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// TestKernelHelperGone: somebody deletes the helper, or unloads the module that has it,
// and the kernel takes all expectations away. It is told of, and renewing the anchors,
// or opening another one, brings the helper back.
func TestKernelHelperGone(t *testing.T) {
	other := netip.MustParseAddrPort("198.51.100.1:7072")
	unload := func(t *testing.T, module string) {
		if out, err := exec.Command("modprobe", "-r", module).CombinedOutput(); err != nil {
			t.Skipf("the kernel does not unload %s: %s", module, bytes.TrimSpace(out))
		}
	}
	for _, c := range []struct {
		name   string
		helper Helper
		injure func(t *testing.T)
	}{
		{"deleted", HelperOwn, func(t *testing.T) {
			if err := deleteHelper(open(t, HelperSIP).ch, ownPolicy().name); err != nil {
				t.Fatal(err)
			}
		}},
		{"own module", HelperOwn, func(t *testing.T) { unload(t, "nfnetlink_cthelper") }},
		{"SIP module", HelperSIP, func(t *testing.T) { unload(t, "nf_conntrack_sip") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			newWorld(t)
			var text bytes.Buffer
			conn, err := Open(Options{Helpers: []Helper{c.helper}, Logger: slog.New(slog.NewTextHandler(&text, nil))})
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if conn.Helper() != c.helper {
				t.Skip("this kernel offers no other helper: " + conn.HelperReason())
			}
			events := watch(t, conn, func(e Event) bool { return e.Anchor.IsValid() })
			intact := func(want int) {
				t.Helper()
				missing, err := conn.Missing()
				if e := expected(t, conn); err != nil || len(missing) > 0 || len(e) != want {
					t.Errorf("missing %v (%v), expectations %v, want %d", missing, err, e, want)
				}
			}
			commitBatch(t, conn, func(b *Batch) {
				b.OpenAnchor(public, time.Minute)
				b.Expect(public, far)
			})
			c.injure(t)
			if e := receive(t, events); e.Anchor != public {
				t.Errorf("told of %v", e)
			}
			if e := expected(t, conn); len(e) != 0 {
				t.Fatalf("expectations are left: %v", e)
			}
			commitBatch(t, conn, func(b *Batch) { b.Renew(public, time.Minute) })
			intact(2)
			c.injure(t)
			commitBatch(t, conn, func(b *Batch) { b.OpenAnchor(other, time.Minute) })
			commitBatch(t, conn, func(b *Batch) { b.Renew(public, time.Minute) })
			intact(3)
			if f := lookup(t, conn, anchorTuple(public)); f.Helper != conn.policy.name {
				t.Errorf("helper %q", f.Helper)
			}
			told := strings.Count(text.String(), "registered again")
			if want := map[Helper]int{HelperOwn: 2}[c.helper]; told != want {
				t.Errorf("told %d times, want %d:\n%s", told, want, &text)
			}
		})
	}
}
