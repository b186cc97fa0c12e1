package ifaces

import "fmt"

// A Problem is something that keeps SIP from being handled, for now.
type Problem struct {
	Kind      ProblemKind
	Side      Side
	Interface string // empty where the side has none
}

// ProblemKind says what is wrong.
type ProblemKind uint8

// The kinds of problems.
const (
	NoInterface ProblemKind = iota // none is configured for the side, and none was found
	Missing                        // the interface is configured and does not exist
	Down                           // administratively
	NoAddress                      // the outside interface has no IPv4 address
)

// String is a sentence for the log.
func (p Problem) String() string {
	switch p.Kind {
	case NoInterface:
		if p.Side == Outside {
			return "no IPv4 default route leaves through an interface that is not inside: there is no outside interface until one does, or if_outbound names it"
		}
		return "no interface but the outside one is up and has a private address: there is no inside interface until one has, or if_inbound names it"
	case Missing:
		return fmt.Sprintf("the %s interface %s does not exist: no SIP is handled on it until it does", p.Side, p.Interface)
	case Down:
		return fmt.Sprintf("the %s interface %s is down", p.Side, p.Interface)
	}
	return fmt.Sprintf("the %s interface %s has no IPv4 address", p.Side, p.Interface)
}
