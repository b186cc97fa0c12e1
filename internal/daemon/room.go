package daemon

import (
	"context"
	"time"

	"sipnatd/internal/check"
)

const (
	// roomEvery is how often it is looked how full the kernel's tables are.
	roomEvery = 10 * time.Second

	// roomAgain is how often it is told while it does not become worse.
	roomAgain = 10 * time.Minute
)

// watchRoom tells the log before the kernel's tables are full. Without room for flows it
// drops the packets of new ones, and SIP among them comes to no queue; without room for
// expectations media from outside has to wait for that from inside.
func (d *Daemon) watchRoom(ctx context.Context) error {
	tick := time.NewTicker(roomEvery)
	defer tick.Stop()
	told := make(map[string]*roomTold) // by what the finding is about
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		for _, f := range check.Room(d.track.Helper()) {
			if told[f.ID] == nil {
				told[f.ID] = new(roomTold)
			}
			if told[f.ID].due(f.Level, time.Now()) {
				d.tell([]check.Finding{f})
			}
		}
	}
}

// roomTold is how bad it was, and when, when it was told last.
type roomTold struct {
	level check.Level
	at    time.Time
}

// due reports whether a level is to be told.
func (r *roomTold) due(level check.Level, now time.Time) bool {
	again := now.Sub(r.at) >= roomAgain
	if level < check.Warning {
		if again { // else it only went to and fro
			r.level = check.OK
		}
		return false
	}
	if level <= r.level && !again {
		return false
	}
	r.level, r.at = level, now
	return true
}
