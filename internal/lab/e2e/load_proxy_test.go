package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"sipnatd/internal/lab"
)

// What the proxy mode must carry, and what it may take for it.
const (
	loadPhones  = 1000
	loadRefresh = time.Minute // of each registration
	loadCalls   = 50          // a second, half of them in each direction
	loadTalk    = 5 * time.Second

	loadCores  = 0.25
	loadMemory = 64 << 20
)

// loadRegister is a scenario of one REGISTER. Users come from a file; their phones
// listen on another port than that which they register from.
// The parameter names the transport of the Contact.
const loadRegister = `<?xml version="1.0" encoding="ISO-8859-1" ?>
<scenario name="register">
  <send retrans="500">
    <![CDATA[
      REGISTER sip:203.0.113.1 SIP/2.0
      Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch];rport
      From: <sip:[field0]@203.0.113.1>;tag=[pid]r[call_number]
      To: <sip:[field0]@203.0.113.1>
      Call-ID: [field0]///[call_id]
      CSeq: [call_number] REGISTER
      Contact: <sip:[field0]@[local_ip]:5060%s>
      Expires: 120
      Max-Forwards: 70
      Content-Length: 0

    ]]>
  </send>
  <recv response="200"/>
</scenario>
`

// loadInvite is a scenario of a call to a URI by way of the firewall. Media is
// negotiated, but there is none: it would go through the kernel.
func loadInvite(uri string) string {
	request := func(line, to, cseq, more string) string {
		return `
      ` + line + ` SIP/2.0
      Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch];rport
      From: <sip:sipp@example.org>;tag=[pid]c[call_number]
      To: <` + uri + `>` + to + `
      Call-ID: [call_id]
      CSeq: ` + cseq + `
      Max-Forwards: 70
      ` + more
	}
	send := func(attributes, text string) string {
		return "<send" + attributes + "><![CDATA[" + text + "\n\n    ]]></send>\n"
	}
	return `<?xml version="1.0" encoding="ISO-8859-1" ?>
<scenario name="call">
` + send(` retrans="500"`, request("INVITE "+uri, "", "1 INVITE", `Contact: <sip:sipp@[local_ip]:[local_port]>
      Content-Type: application/sdp
      Content-Length: [len]

      v=0
      o=sipp 1 1 IN IP4 [local_ip]
      s=-
      c=IN IP4 [media_ip]
      t=0 0
      m=audio [auto_media_port+4] RTP/AVP 0
      a=rtpmap:0 PCMU/8000`)) + `
  <recv response="100" optional="true"/>
  <recv response="180" optional="true" rrs="true"/>
  <recv response="200" rrs="true" rtd="true"/>
` + send("", request("ACK [next_url]", "[peer_tag_param]", "1 ACK", "[routes]\n      Content-Length: 0")) + `
  <pause/>
` + send(` retrans="500"`, request("BYE [next_url]", "[peer_tag_param]", "2 BYE", "[routes]\n      Content-Length: 0")) + `
  <recv response="200"/>
</scenario>
`
}

// TestLoadProxy measures what the daemon takes for a thousand phones that register
// and fifty calls a second. It runs if SIPNATD_LOAD says for how long, e.g. "60s".
func TestLoadProxy(t *testing.T) {
	t.Run("udp", func(t *testing.T) { loadProxy(t, false) })
	t.Run("tcp", func(t *testing.T) { loadProxy(t, true) })
}

func loadProxy(t *testing.T, tcp bool) {
	duration, err := time.ParseDuration(os.Getenv("SIPNATD_LOAD"))
	if err != nil {
		t.Skip("SIPNATD_LOAD is not set to how long to measure")
	}
	l := lab.New(t, lab.Options{
		Phones: 2,
		Leaky:  true, // too many packets to judge
		Firewall: lab.Firewall{
			Backend: lab.Nftables,
			Extra:   `add rule inet firewall input iifname "ppp0" meta l4proto { tcp, udp } th dport 5060 accept` + "\n",
		},
	})
	d := l.StartProxy("rtp_port_low = 20000", "rtp_port_high = 39999")

	var users strings.Builder
	users.WriteString("SEQUENTIAL\n")
	for i := range loadPhones {
		fmt.Fprintf(&users, "u%04d;\n", i)
	}
	file := filepath.Join(l.Dir, "users.csv")
	if err := os.WriteFile(file, []byte(users.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	caller, phones, provider := l.Phones[0], l.Phones[1], l.Outside[0]
	seconds := int(duration / time.Second)
	calls := loadCalls * seconds / 2
	refreshes := int(loadPhones * duration / loadRefresh)
	transport := ""
	if tcp {
		transport = ";transport=tcp"
	}
	register := fmt.Sprintf(loadRegister, transport)
	options := func(o lab.SIPpOptions) lab.SIPpOptions {
		o.AtOnce = 4 * loadPhones
		o.Talk = loadTalk
		o.PortPerCall, o.TCP = true, tcp
		o.Args = append(o.Args, "-timeout", strconv.Itoa(seconds+60), "-inf", file)
		return o
	}

	// The first registrations come as after a power failure: all of them within
	// seconds.
	phones.SIPp(options(lab.SIPpOptions{
		Scenario: register, Remote: l.FW.At(5060), Port: 5070, Calls: loadPhones, Rate: 200,
	})).WaitCalls(lab.Moment() * 2)
	registered, _ := d.Memory()

	phones.SIPp(options(lab.SIPpOptions{Scenario: "uas", Calls: calls, Media: 30000}))
	provider.SIPp(options(lab.SIPpOptions{Scenario: "uas", Calls: calls, Media: 30000}))
	start, before := time.Now(), d.CPUTime()
	all := []*lab.SIPp{
		phones.SIPp(options(lab.SIPpOptions{
			Scenario: register, Remote: l.FW.At(5060), Port: 5070, Calls: refreshes,
			Rate: max(refreshes/seconds, 1),
		})),
		caller.SIPp(options(lab.SIPpOptions{
			Scenario: loadInvite("sip:service@" + provider.At(5060).String() + transport), Remote: l.FW.At(5060),
			Port: 5080, Calls: calls, Rate: loadCalls / 2, Media: 20000,
		})),
		provider.SIPp(options(lab.SIPpOptions{
			Scenario: loadInvite("sip:[field0]@203.0.113.1:5060" + transport), Remote: l.FW.At(5060),
			Port: 5080, Calls: calls, Rate: loadCalls / 2, Media: 20000,
		})),
	}
	for _, s := range all {
		s.WaitCalls(duration + time.Minute)
	}
	wall, cpu := time.Since(start), d.CPUTime()-before
	_, peak := d.Memory()

	cores := cpu.Seconds() / wall.Seconds()
	t.Logf("%d phones, %d registrations and %d calls in %v: %.3f cores (%v), %.1f MiB registered, %.1f MiB at most",
		loadPhones, refreshes, 2*calls, wall.Round(time.Second), cores, cpu,
		mebibytes(registered), mebibytes(peak))
	if cores > loadCores {
		t.Errorf("%.3f cores, more than %v", cores, loadCores)
	}
	if peak > loadMemory {
		t.Errorf("%d bytes of memory, more than %d", peak, loadMemory)
	}
	l.WaitClosed()
}
