package nft

import (
	"errors"
	"fmt"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// Delete deletes the table that a daemon has left, with all leases: running calls
// lose their media. Where there is none, or no nftables, nothing is to be done.
func Delete() error {
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("nft: %w", err)
	}
	conn.DelTable(&nftables.Table{Name: tableName, Family: nftables.TableFamilyIPv4})
	switch err := conn.Flush(); {
	case err == nil, errors.Is(err, unix.ENOENT), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EINVAL):
		return nil
	default:
		return fmt.Errorf("nft: deleting the table %s: %w", tableName, err)
	}
}
