package lab

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"os"
	"path/filepath"
)

// Linphone is a real phone, linphonec, driven through its prompt.
type Linphone struct {
	*Process
	Host *Host
	AOR  string // sip:alice@203.0.113.10
	tone string // a file
}

// LinphoneOptions configure a phone.
type LinphoneOptions struct {
	User      string // default "alice"
	Password  string // default "secret"
	Registrar netip.AddrPort
	Domain    string // default the registrar's address
	Realm     string // of its password; default the domain
	TCP       bool   // in place of UDP
	Outbound  string // outbound proxy, e.g. "sip:10.0.0.1"
	Answer    bool   // answers calls at once
}

// linphoneConfig is what the template of its configuration is given.
type linphoneConfig struct {
	LinphoneOptions
	Transport string
	Port      int
}

// Linphone starts a phone on the host and waits until it is registered.
func (h *Host) Linphone(o LinphoneOptions) *Linphone {
	h.lab.T.Helper()
	NeedProgram(h.lab.T, "linphonec")
	setDefault(&o.User, "alice")
	setDefault(&o.Password, "secret")
	if o.Domain == "" {
		o.Domain = o.Registrar.Addr().String()
	}
	setDefault(&o.Realm, o.Domain)
	dir, err := os.MkdirTemp(h.lab.Dir, "linphone-"+o.User+"-")
	if err != nil {
		h.lab.T.Fatalf("%v", err)
	}
	c := linphoneConfig{LinphoneOptions: o, Transport: "udp", Port: 5060}
	if o.TCP {
		c.Transport = "tcp"
	}
	p := &Linphone{Host: h, AOR: "sip:" + o.User + "@" + o.Domain, tone: filepath.Join(dir, "tone.wav")}
	rc := filepath.Join(dir, "linphonerc")
	err = render(rc, "linphonerc", c)
	if err == nil {
		err = os.WriteFile(p.tone, toneWAV(), 0o644)
	}
	if err == nil {
		err = os.MkdirAll(filepath.Join(dir, ".local/share/linphone"), 0o755)
	}
	if err != nil {
		h.lab.T.Fatalf("%v", err)
	}
	argv := []string{"linphonec", "-S", "-c", rc}
	if o.Answer {
		argv = append(argv, "-a")
	}
	mark := h.lab.Inside.Mark()
	p.Process = h.Start("linphone-"+o.User, argv, InDir(dir), WithEnv("HOME="+dir))
	p.Command("soundcard use files")
	h.lab.Inside.WaitSIP(mark, Status(200, "REGISTER"), func(m *Message) bool {
		return URIOf(m.Get("To")) == p.AOR
	})
	return p
}

// toneWAV is five seconds of a tone, as a file of 16 bit samples.
func toneWAV() []byte {
	const rate, seconds, frequency = 8000, 5, 440
	var b bytes.Buffer
	b.WriteString("RIFF")
	binary.Write(&b, binary.LittleEndian, uint32(36+2*rate*seconds))
	b.WriteString("WAVEfmt ")
	binary.Write(&b, binary.LittleEndian, []uint32{16, 1<<16 | 1, rate, 2 * rate, 16<<16 | 2})
	b.WriteString("data")
	binary.Write(&b, binary.LittleEndian, uint32(2*rate*seconds))
	for i := range rate * seconds {
		binary.Write(&b, binary.LittleEndian, int16(8000*math.Sin(2*math.Pi*frequency*float64(i)/rate)))
	}
	return b.Bytes()
}

// Command gives the phone a line at its prompt.
func (p *Linphone) Command(line string) {
	p.Host.lab.T.Helper()
	if err := p.Input(line + "\n"); err != nil {
		p.Host.lab.T.Fatalf("%s: %s: %v", p.Name, line, err)
	}
}

// Dial calls a URI.
func (p *Linphone) Dial(uri string) { p.Host.lab.T.Helper(); p.Command("call " + uri) }

// Hangup ends the current call.
func (p *Linphone) Hangup() { p.Host.lab.T.Helper(); p.Command("terminate") }

// Talk waits until there is a call, and says a tone for five seconds.
func (p *Linphone) Talk() {
	p.Host.lab.T.Helper()
	p.WaitLine(`(?i)media streams established|call \d+ with .* connected`, Moment())
	p.Command(fmt.Sprintf("play %s", p.tone))
}
