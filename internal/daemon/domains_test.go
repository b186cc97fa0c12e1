package daemon

import (
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"sipnatd/internal/report"
	"sipnatd/internal/state"
)

// TestDomainsAreBounded: a phone may register in any number of domains. What is forgotten
// of them leaves the journal, too.
func TestDomainsAreBounded(t *testing.T) {
	cfg := state.Config{Dir: filepath.Join(t.TempDir(), "state"), Name: stateRegistrations, UID: -1, GID: -1}
	l, err := state.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	j := &journal{Log: l, report: &report.Log{Logger: slog.New(slog.DiscardHandler)}, failed: make(chan error, 1)}
	none := func(uint64, []byte, time.Duration) { t.Error("a record") }
	j.load(none)
	d := domains{log: slog.New(slog.NewTextHandler(io.Discard, nil))}
	d.keep(j)
	for i := range 3*maxDomains + 5 {
		d.Adopt(fmt.Sprintf("d%d.example.org", i), netip.MustParseAddr("203.0.113.1"))
	}
	j.close()
	if l, err = state.Open(cfg); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var next domains
	n := 0
	l.Load(func(_ uint64, record []byte) {
		n++
		next.restore(record)
	})
	if n != 5 || len(next.servers) != 5 {
		t.Errorf("%d records are left, %d domains", n, len(next.servers))
	}
}
