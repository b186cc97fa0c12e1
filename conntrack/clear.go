package conntrack

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

const typeHelperDelete = typeHelperGet + 1

// Rules that name a helper hold it for a moment after they have been deleted.
const (
	helperTries = 50
	helperPause = 20 * time.Millisecond
)

// Clear takes everything out of the kernel that this program keeps in connection
// tracking: all anchors with their expectations, and our own helper. Rules that name
// the helper have to be deleted before. It stays where other rules name it, those of
// another network namespace: it is the whole kernel's, and does nothing by itself. The
// connection is of no use afterwards.
func (c *Conn) Clear() error {
	var b Batch
	for _, public := range c.Anchors() {
		b.CloseAnchor(public)
	}
	if err := c.Commit(&b); err != nil {
		return err
	}
	if c.helper != HelperOwn {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for try := 1; ; try++ {
		err := deleteHelper(c.ch, c.policy.name)
		switch {
		case !errors.Is(err, unix.EBUSY):
			return err
		case try == helperTries:
			return nil
		}
		time.Sleep(helperPause)
	}
}

// deleteHelper takes back what registerHelper has done. EBUSY means that a rule has it.
func deleteHelper(ch *channel, name string) error {
	ch.enc.begin(typeHelperDelete, 0, unix.AF_INET, ch.next())
	ch.enc.helper(name)
	ch.enc.end()
	if err := ch.request(nil); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("nfnetlink_cthelper: deleting the helper %q: %w", name, err)
	}
	return nil
}
