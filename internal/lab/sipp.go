package lab

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// SIPp runs a scenario, many calls at once if need be.
type SIPp struct {
	*Process
	Dir string
}

// SIPpOptions say what SIPp is to do.
type SIPpOptions struct {
	// Scenario is "uac" or "uas", which are embedded, or the text of one.
	Scenario string
	Remote   netip.AddrPort // whom to call
	Port     int            // of SIP, default 5060
	Calls    int            // in all, default 1
	AtOnce   int            // default Calls
	Rate     int            // new calls a second, default 10
	Talk     time.Duration  // of each call's pauses, default 500 ms
	Media    int            // RTP port, default 6000
	Service  string         // the user called, default "service"
	Args     []string       // further arguments

	// TCP instead of UDP: one connection for all calls, and Contacts that say so.
	TCP bool

	// PortPerCall gives each call a media port of its own, Media+4, Media+8 and
	// so on, and leaves the media to the test. Otherwise an embedded scenario
	// plays or echoes RTP, all calls on one port.
	PortPerCall bool
}

// SIPp starts a scenario on the host. A server ("uas") is ready when SIPp
// returns; WaitCalls waits for the end of a client.
func (h *Host) SIPp(o SIPpOptions) *SIPp {
	h.lab.T.Helper()
	NeedProgram(h.lab.T, "sipp")
	setDefault(&o.Port, 5060)
	setDefault(&o.Calls, 1)
	setDefault(&o.AtOnce, o.Calls)
	setDefault(&o.Rate, 10)
	setDefault(&o.Talk, 500*time.Millisecond)
	setDefault(&o.Media, 6000)
	setDefault(&o.Service, "service")
	dir, err := os.MkdirTemp(h.lab.Dir, "sipp-")
	if err != nil {
		h.lab.T.Fatalf("%v", err)
	}
	scenario, name, text := filepath.Join(dir, "scenario.xml"), "sipp", o.Scenario
	if !strings.Contains(text, "<scenario") {
		name += "-" + o.Scenario
		embedded, err := templates.ReadFile("templates/sipp-" + o.Scenario + ".xml")
		if err != nil {
			h.lab.T.Fatalf("%v", err)
		}
		text = string(embedded)
		if o.PortPerCall {
			text = withoutMedia.Replace(text)
		}
	}
	if o.TCP {
		text = overTCP.Replace(text)
	}
	if err := os.WriteFile(scenario, []byte(text), 0o644); err != nil {
		h.lab.T.Fatalf("%v", err)
	}
	// A second of PCMU for the scenarios to play; silence differs from nothing.
	silence := bytes.Repeat([]byte{0xff}, 8000)
	if err := os.WriteFile(filepath.Join(dir, "silence.raw"), silence, 0o644); err != nil {
		h.lab.T.Fatalf("%v", err)
	}
	addr := h.Addr.String()
	argv := []string{
		"sipp", "-sf", scenario, "-i", addr, "-p", strconv.Itoa(o.Port), "-mi", addr,
		"-mp", strconv.Itoa(o.Media),
		"-m", strconv.Itoa(o.Calls), "-l", strconv.Itoa(o.AtOnce), "-r", strconv.Itoa(o.Rate),
		"-d", strconv.FormatInt(o.Talk.Milliseconds(), 10), "-s", o.Service,
		"-nostdin", "-trace_err", "-error_file", filepath.Join(dir, "errors.log"), "-trace_stat", "-fd", "1",
		"-stf", filepath.Join(dir, "stat.csv"), "-skip_rlimit", "-timeout", "60s", "-timeout_error",
	}
	if o.TCP {
		argv = append(argv, "-t", "t1")
	}
	server := !o.Remote.IsValid()
	switch {
	case !server:
		argv = append(argv, o.Remote.String())
	case !o.PortPerCall:
		argv = append(argv, "-rtp_echo")
	}
	s := &SIPp{Process: h.Start(name, append(argv, o.Args...), InDir(dir), WithEnv("TERM=dumb")), Dir: dir}
	if server {
		protocol := "udp"
		if o.TCP {
			protocol = "tcp"
		}
		h.awaitPort(protocol, o.Port)
	}
	return s
}

// overTCP makes the URI of a Contact one of TCP.
var overTCP = strings.NewReplacer("[local_port]>", "[local_port];transport=tcp>")

// withoutMedia makes an embedded scenario one of signalling alone.
var withoutMedia = strings.NewReplacer(
	// SIPp listens on the first port itself, whatever the scenario.
	"[rtpstream_audio_port]", "[auto_media_port+4]", "[media_port]", "[auto_media_port+4]",
	`<exec rtp_stream="silence.raw,-1,0"/>`, `<log message="media runs"/>`,
	`<exec rtp_stream="pause"/>`, `<log message="media ends"/>`,
)

// awaitPort waits until a socket of "udp" or "tcp" is bound in the namespace.
func (h *Host) awaitPort(protocol string, port int) {
	h.lab.T.Helper()
	want := fmt.Sprintf(":%04X ", port)
	for deadline := time.Now().Add(Moment()); ; time.Sleep(5 * time.Millisecond) {
		if text, err := h.ReadProc(protocol); err == nil && strings.Contains(text, want) {
			return
		}
		if time.Now().After(deadline) {
			h.lab.T.Fatalf("%s: nothing listens on %s port %d", h.Name, protocol, port)
		}
	}
}

// WaitCalls waits until all calls are over and fails the test unless every one
// of them went as the scenario says.
func (s *SIPp) WaitCalls(timeout time.Duration) {
	t := s.host.lab.T
	t.Helper()
	if err := s.Wait(timeout); err != nil {
		errors, _ := os.ReadFile(filepath.Join(s.Dir, "errors.log"))
		t.Fatalf("%s: %v\n%s\n%s", s.Name, err, lastLines(errors, 40), lastLines([]byte(s.Log()), 12))
	}
}
