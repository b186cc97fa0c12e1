package daemon

import (
	"net/netip"

	"sipnatd/sipmsg"
)

// asDialled is a dialplan that changes nothing.
type asDialled struct{}

func (asDialled) Target(*sipmsg.Message) []byte                            { return nil }
func (asDialled) Default(*sipmsg.Message) []byte                           { return nil }
func (asDialled) Edit(*sipmsg.Message, *sipmsg.Edits, bool)                {}
func (asDialled) Log(*sipmsg.Message, netip.AddrPort, netip.AddrPort, int) {}
