package lab

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Baresip is a real phone, driven through its control socket.
type Baresip struct {
	*Process
	Host *Host
	Addr netip.AddrPort // of SIP
	AOR  string         // sip:alice@203.0.113.10
	Dir  string         // its configuration

	conn net.Conn

	mu     sync.Mutex
	grown  chan struct{}
	events []Event
	mark   int
	broken error
	tokens int
}

// Event is what the phone reports. The types that matter: REGISTER_OK,
// REGISTER_FAIL, UNREGISTERING, CALL_INCOMING, CALL_RINGING, CALL_PROGRESS,
// CALL_ESTABLISHED, CALL_CLOSED, CALL_RTPESTAB, CALL_RTCP.
type Event struct {
	Event     bool
	Type      string
	Class     string
	Direction string
	PeerURI   string
	ID        string // Call-ID
	Param     string
	Response  bool
	OK        bool
	Data      string
	Token     string
}

// BaresipOptions configure a phone.
type BaresipOptions struct {
	User      string // default "alice"
	Password  string // default "secret"
	Registrar netip.AddrPort
	Domain    string // of its address; default the registrar's address, or its own
	TCP       bool   // to its outbound proxy or registrar, in place of UDP
	Asks      string // transport that its addresses name, for the way behind an outbound proxy, or "none"; default as TCP says
	Port      int    // of SIP, default 5060
	Expires   int    // of the registration, default 3600; 0 with NoRegister
	RTPLow    int    // default 10000; the range is 100 ports
	Account   string // further account parameters, e.g. ";mediaenc=srtp"
	Answer    bool   // answers calls at once
	NoReg     bool   // does not register
	ICE       bool
	RTCPMux   bool
	Video     bool
	Outbound  string   // outbound proxy, e.g. "sip:10.0.0.1"
	Frequency int      // Hz of the tone that it says all the time; default 440
	Modules   []string // further modules, e.g. "stun.so"
}

// baresipConfig is what the template of its configuration is given.
type baresipConfig struct {
	BaresipOptions
	Addr, Control   netip.AddrPort
	RTPHigh         int
	Source          string
	ModuleDirectory string
}

// baresipModules are where distributions have them.
var baresipModules = []string{"/usr/lib/baresip/modules", "/usr/lib64/baresip/modules", "/usr/local/lib/baresip/modules"}

// Baresip starts a phone on the host, connects to its control socket and,
// unless told not to, waits until it is registered.
func (h *Host) Baresip(o BaresipOptions) *Baresip {
	h.lab.T.Helper()
	NeedProgram(h.lab.T, "baresip")
	b, err := h.baresip(o)
	if err != nil {
		h.lab.T.Fatalf("%v", err)
	}
	b.Command("reginfo", "") // its events come from now on
	if !o.NoReg {
		// The phone may have registered before its control socket was there.
		b.WaitLine(`200 OK .*\[\d+ binding`, Moment())
	}
	return b
}

func (h *Host) baresip(o BaresipOptions) (*Baresip, error) {
	setDefault(&o.User, "alice")
	setDefault(&o.Password, "secret")
	setDefault(&o.Port, 5060)
	setDefault(&o.RTPLow, 10000)
	setDefault(&o.Frequency, 440)
	setDefault(&o.Expires, 3600)
	dir, err := os.MkdirTemp(h.lab.Dir, "baresip-"+o.User+"-")
	if err != nil {
		return nil, err
	}
	c := baresipConfig{
		BaresipOptions: o,
		Addr:           h.At(o.Port),
		Control:        netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(40000+o.Port%10000)),
		RTPHigh:        o.RTPLow + 99,
		Source:         fmt.Sprintf("ausine,%d", o.Frequency),
	}
	for _, m := range baresipModules {
		if _, err := os.Stat(filepath.Join(m, "g711.so")); err == nil {
			c.ModuleDirectory = m
		}
	}
	domain := h.Addr.String()
	if o.Registrar.IsValid() {
		domain = o.Registrar.Addr().String()
		if o.Registrar.Port() != 5060 {
			domain = o.Registrar.String()
		}
	}
	if o.Domain != "" {
		domain = o.Domain
	}
	transport := "udp"
	if o.TCP {
		transport = "tcp"
	}
	setDefault(&o.Asks, transport)
	b := &Baresip{Host: h, Addr: c.Addr, AOR: "sip:" + o.User + "@" + domain, Dir: dir, grown: make(chan struct{})}
	param := ";transport=" + o.Asks
	if o.Asks == "none" {
		param = ""
	}
	account := fmt.Sprintf("<%s%s>;auth_user=%s;auth_pass=%s;audio_codecs=pcmu;ptime=20", b.AOR, param, o.User, o.Password)
	if o.NoReg {
		o.Expires = 0
	}
	account += fmt.Sprintf(";regint=%d", o.Expires)
	if o.Answer {
		account += ";answermode=auto"
	}
	if o.ICE {
		account += ";medianat=ice"
	}
	if !o.Video {
		account += ";video_codecs="
	}
	if o.Outbound != "" {
		account += fmt.Sprintf(";outbound=\"%s;transport=%s\"", o.Outbound, transport)
	}
	account += o.Account + "\n"
	if err := os.WriteFile(filepath.Join(dir, "accounts"), []byte(account), 0o644); err != nil {
		return nil, err
	}
	if err := render(filepath.Join(dir, "config"), "baresip.conf", c); err != nil {
		return nil, err
	}
	b.Process = h.Start("baresip-"+o.User, []string{"baresip", "-v", "-s", "-f", dir}, InDir(dir), WithEnv("HOME="+dir))
	if _, err := b.Await(`(?i)ready`, Moment()); err != nil {
		return nil, err
	}
	if b.conn, err = h.DialTCP(c.Control); err != nil {
		return nil, fmt.Errorf("control socket of %s: %w", b.Name, err)
	}
	h.lab.T.Cleanup(func() { b.conn.Close() })
	go b.read()
	return b, nil
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// read collects the events, JSON in netstrings.
func (b *Baresip) read() {
	r := bufio.NewReader(b.conn)
	for {
		e, err := readEvent(r)
		b.mu.Lock()
		if err != nil {
			b.broken = err
		} else {
			b.events = append(b.events, e)
		}
		close(b.grown)
		b.grown = make(chan struct{})
		b.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func readEvent(r *bufio.Reader) (e Event, err error) {
	length, err := r.ReadString(':')
	if err != nil {
		return e, err
	}
	n, err := strconv.Atoi(strings.TrimSuffix(length, ":"))
	if err != nil {
		return e, err
	}
	data := make([]byte, n+1) // and a comma
	if _, err := io.ReadFull(r, data); err != nil {
		return e, err
	}
	return e, json.Unmarshal(data[:n], &e)
}

// Mark makes WaitEvent look only at events from now on.
func (b *Baresip) Mark() {
	b.mu.Lock()
	b.mark = len(b.events)
	b.mu.Unlock()
}

// WaitEvent waits for an event of this type since the last Mark.
func (b *Baresip) WaitEvent(kind string) Event {
	b.Host.lab.T.Helper()
	e, err := b.AwaitEvent(Moment(), func(e Event) bool { return e.Type == kind })
	if err != nil {
		b.Host.lab.T.Fatalf("%s: no %s: %v", b.Name, kind, err)
	}
	return e
}

// AwaitEvent waits for an event since the last Mark.
func (b *Baresip) AwaitEvent(timeout time.Duration, pick func(Event) bool) (Event, error) {
	deadline := time.After(timeout)
	for {
		b.mu.Lock()
		var have []string
		for _, e := range b.events[b.mark:] {
			if pick(e) {
				b.mu.Unlock()
				return e, nil
			}
			have = append(have, e.Type+" "+e.Param)
		}
		grown, broken := b.grown, b.broken
		b.mu.Unlock()
		if broken != nil {
			return Event{}, broken
		}
		select {
		case <-grown:
		case <-deadline:
			return Event{}, fmt.Errorf("not within %v; its events: %q; its last lines:\n%s",
				timeout, have, lastLines([]byte(b.Log()), 10))
		}
	}
}

// Command gives the phone a command of its menu, e.g. Command("dial",
// "sip:bob@203.0.113.10"), and returns its answer.
func (b *Baresip) Command(command, params string) Event {
	b.Host.lab.T.Helper()
	b.mu.Lock()
	b.tokens++
	token := strconv.Itoa(b.tokens)
	b.mu.Unlock()
	text, err := json.Marshal(map[string]string{"command": command, "params": params, "token": token})
	if err == nil {
		_, err = fmt.Fprintf(b.conn, "%d:%s,", len(text), text)
	}
	var e Event
	if err == nil {
		e, err = b.AwaitEvent(Moment(), func(e Event) bool { return e.Response && e.Token == token })
	}
	if err != nil {
		b.Host.lab.T.Fatalf("%s: %s %s: %v", b.Name, command, params, err)
	}
	return e
}

// Dial calls a URI.
func (b *Baresip) Dial(uri string) { b.Host.lab.T.Helper(); b.Command("dial", uri) }

// Accept answers the call that rings.
func (b *Baresip) Accept() { b.Host.lab.T.Helper(); b.Command("accept", "") }

// Hangup ends the current call.
func (b *Baresip) Hangup() { b.Host.lab.T.Helper(); b.Command("hangup", "") }

// Hold and Resume put the current call on hold and take it back.
func (b *Baresip) Hold() { b.Host.lab.T.Helper(); b.Command("hold", "") }

// Transfer has the current call's other party call a URI (RFC 3515).
func (b *Baresip) Transfer(uri string) { b.Host.lab.T.Helper(); b.Command("transfer", uri) }

// Unregister takes the phone's registration back.
func (b *Baresip) Unregister() { b.Host.lab.T.Helper(); b.Command("uadel", b.AOR) }

// Resume takes the current call back from hold.
func (b *Baresip) Resume() { b.Host.lab.T.Helper(); b.Command("resume", "") }
