package conntrack_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/netip"
	"time"

	"sipnatd/conntrack"
)

// The media of a call are expected from its offer to its end.
func Example() {
	c, err := conntrack.Open(conntrack.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	fmt.Println("expectations by", c.Helper(), "-", c.HelperReason())

	rtp := netip.MustParseAddrPort("198.51.100.1:7070") // announced to the far side
	far := netip.MustParseAddrPort("203.0.113.5:6000")  // named by its answer
	const lease = 5 * time.Minute

	var b conntrack.Batch
	b.OpenAnchor(rtp, lease) // the offer
	if err := c.Commit(&b); errors.Is(err, conntrack.ErrExpectTableFull) {
		log.Print(err) // says what to do
	}
	b.Expect(rtp, far) // the answer
	_ = c.Commit(&b)
	b.Renew(rtp, lease) // from time to time
	_ = c.Commit(&b)
	b.CloseAnchor(rtp) // the end
	_ = c.Commit(&b)
	_ = c.Delete(conntrack.Tuple{Src: far, Dst: rtp})
}

// The translation that a flow has already is found by the addresses of a packet.
func ExampleConn_Lookup() {
	c, err := conntrack.Open(conntrack.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	phone := netip.MustParseAddrPort("10.0.0.2:5060")
	registrar := netip.MustParseAddrPort("203.0.113.5:5060")
	flow, err := c.Lookup(conntrack.Tuple{Src: phone, Dst: registrar})
	if err != nil {
		log.Fatal(err)
	}
	public, _ := flow.Translation(phone)
	fmt.Println(phone, "is seen as", public)
}

func ExampleConn_Watch() {
	c, err := conntrack.Open(conntrack.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	err = c.Watch(ctx, func(e conntrack.Event) {
		switch {
		case e.Lost:
			fmt.Println("earlier events are not known: look up what matters")
		case e.Destroyed:
			fmt.Println(e.Flow.Orig, "ended after", e.Flow.OrigPackets, "and", e.Flow.ReplyPackets, "packets")
		default:
			fmt.Println(e.Flow.Orig, "began, expected:", e.Flow.Related())
		}
	})
	if err != nil {
		log.Fatal(err)
	}
}
