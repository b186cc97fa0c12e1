package privilege

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
)

// account is whom to become.
type account struct{ uid, gid int }

// Account returns the numbers of the user and group that [Drop] will become, -1 where it
// stays who the process is.
func Account(name string) (uid, gid int, err error) {
	if name == "" || os.Geteuid() != 0 {
		return -1, -1, nil
	}
	who, err := lookup(name)
	if err != nil {
		return -1, -1, err
	}
	return who.uid, who.gid, nil
}

// lookup finds a user by name or number, with the user's primary group. A
// number without an entry in the user database stands for the group as well.
func lookup(name string) (account, error) {
	u, err := user.Lookup(name)
	if unknown := user.UnknownUserError(""); errors.As(err, &unknown) {
		number, numErr := strconv.ParseUint(name, 10, 31)
		if numErr != nil {
			return account{}, fmt.Errorf("there is no user %s", name)
		}
		if u, err = user.LookupId(name); err != nil {
			return unprivileged(name, int(number), int(number))
		}
	}
	if err != nil {
		return account{}, fmt.Errorf("user %s: %w", name, err)
	}
	uid, uidErr := strconv.Atoi(u.Uid)
	gid, gidErr := strconv.Atoi(u.Gid)
	if err := errors.Join(uidErr, gidErr); err != nil {
		return account{}, fmt.Errorf("user %s: %w", name, err)
	}
	return unprivileged(name, uid, gid)
}

func unprivileged(name string, uid, gid int) (account, error) {
	if uid == 0 {
		return account{}, fmt.Errorf("user %s is root, so there is nothing to drop: name another, or none", name)
	}
	return account{uid: uid, gid: gid}, nil
}
