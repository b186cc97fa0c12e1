package transport

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"time"
)

// Config is what a Transport is made with.
type Config struct {
	// Listen are the addresses of the UDP sockets and TCP listeners. Not the
	// unspecified address, and no port 0.
	Listen []netip.AddrPort

	// TCPTimeout ends a connection that is silent in both directions. 0: 300 s.
	TCPTimeout time.Duration
	// TCPConnectTimeout is how long a connection may take to be made. 0: 500 ms.
	TCPConnectTimeout time.Duration
	// TCPKeepalive is how often a silent connection is sent a ping of RFC 5626
	// section 4.4.1, two empty lines, which keeps firewalls between open. 0: never.
	TCPKeepalive time.Duration
	// MessageTimeout is how long a message may take from its first byte to its
	// last. 0: 16 s.
	MessageTimeout time.Duration
	// WriteTimeout ends a connection whose peer takes nothing. 0: 32 s, the life
	// of a transaction.
	WriteTimeout time.Duration

	// MaxConnections and MaxPerHost limit the TCP connections in all and of one
	// remote address. 0: 2048, and a quarter of MaxConnections.
	MaxConnections, MaxPerHost int

	// SIPDSCP is the code point that packets are marked with, 0 to 63.
	SIPDSCP uint8

	// Logger is told of what the administrator should know; nil means
	// slog.Default().
	Logger *slog.Logger
}

// Transport is a set of sockets. Its methods may be called by several goroutines.
type Transport struct {
	cfg Config
	h   Handler
}

// Open binds the sockets. What comes waits in them until Run.
func Open(cfg Config, h Handler) (*Transport, error) {
	return &Transport{cfg: cfg, h: h}, nil
}

// Run serves until ctx is done, then closes everything, and returns when the
// Handler will not be called any more.
func (t *Transport) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// Send sends a message, which is the caller's again afterwards. It never waits
// for the network. A nil error means that the message is on its way or in a
// queue, not that it has arrived.
func (t *Transport) Send(h Hop, msg []byte) error { return errors.ErrUnsupported }

// Route returns the address that the kernel would send to remote from.
func (t *Transport) Route(remote netip.Addr) (netip.Addr, error) {
	return netip.Addr{}, errors.ErrUnsupported
}

// SetListen changes the listen addresses. Sockets of addresses that stay are not
// touched. Connections whose address is in none of them are closed.
func (t *Transport) SetListen(listen []netip.AddrPort) error { return errors.ErrUnsupported }

// Stats returns the counters.
func (t *Transport) Stats() Stats { return Stats{} }
