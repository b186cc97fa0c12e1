package kernel

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"sipnatd/conntrack"
	"sipnatd/nat"
)

// TestStreamsRefused: the engine learns which refusals leave a stream without media: that
// of the maps, and that of a flow. Without expectations media waits for the phone's, no
// more. What the engine closes then is not put in later.
func TestStreamsRefused(t *testing.T) {
	for _, c := range []struct {
		name       string
		nft, track error
		mute       bool
	}{
		{"maps", unix.ENOMEM, nil, true},
		{"conntrack", nil, &conntrack.Error{Op: "open anchor", Public: public, Err: conntrack.ErrTableFull}, true},
		{"expectations", nil, &conntrack.Error{Op: "open anchor", Public: public, Err: conntrack.ErrExpectTableFull}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			k, table, track := newFake(t)
			table.refusal, track.refusal = c.nft, c.track
			err := k.Apply(changes(nat.OpenStream))
			if refused := (*nat.StreamError)(nil); errors.As(err, &refused) != c.mute {
				t.Errorf("the error is %#v", err)
			}
			track.refusal = nil
			if !c.mute {
				table.has("streams", public.String())
				return
			}
			if err := k.Apply(changes(nat.CloseStream)); err != nil {
				t.Fatal(err)
			}
			second(k)
			table.has("streams")
			apply(t, k, nat.OpenStream)
			table.has("streams", public.String())
		})
	}
}
