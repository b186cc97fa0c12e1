package e2e

import (
	"fmt"
	"strings"
	"time"
)

// A soakKind is a sort of call, which its caller and its called know by the user that
// is called.
type soakKind string

const (
	soakPlain  soakKind = "plain"  // answered, and ended by the caller
	soakHold   soakKind = "hold"   // held and taken back by the caller, ended by the called
	soakCancel soakKind = "cancel" // given up while it rings
	soakBusy   soakKind = "busy"   // 486
	soakGone   soakKind = "gone"   // 404, before it rings
	soakFork   soakKind = "fork"   // early media of two branches, one of which answers
)

var soakKinds = []soakKind{soakPlain, soakHold, soakCancel, soakBusy, soakGone, soakFork}

// A soakScript writes scenarios whose calls talk for up to a time.
type soakScript struct {
	talk time.Duration

	// linger is how long repetitions are answered after the last message of a call:
	// what is under way when the daemon is killed is lost.
	linger time.Duration
}

// pause is a time of varied length, up to a part of the longest.
func (s soakScript) pause(part time.Duration) string {
	most := (s.talk / part).Milliseconds()
	return fmt.Sprintf(`<pause distribution="uniform" min="%d" max="%d"/>`+"\n", most/20, most)
}

func (s soakScript) wait() string {
	return fmt.Sprintf(`<timewait milliseconds="%d"/>`+"\n", s.linger.Milliseconds())
}

func soakSend(attributes string, lines ...string) string {
	return "<send" + attributes + "><![CDATA[\n" + strings.Join(lines, "\n") + "\n\n]]></send>\n"
}

// soakRepeat is T1 (RFC 3261 section 17.1.1.1), longer than usual: a SIPp that the
// machine has no time for is not to be asked twice.
const soakRepeat = ` retrans="2000"`

const soakScenario = `<?xml version="1.0" encoding="ISO-8859-1" ?>
<scenario name="soak">
`

// soakSDP is a session description with a direction. Nothing but signalling is
// SIPp's: the ports are not used.
func soakSDP(port, direction string) []string {
	return []string{
		"Content-Type: application/sdp", "Content-Length: [len]", "",
		"v=0", "o=sipp 1 1 IN IP4 [local_ip]", "s=-", "c=IN IP4 [media_ip]", "t=0 0",
		"m=audio " + port + " RTP/AVP 0", "a=rtpmap:0 PCMU/8000", "a=" + direction,
	}
}

const (
	soakPort      = "[auto_media_port+4]" // SIPp has a socket on the first one
	soakOtherPort = "[auto_media_port+6]"
	soakEmpty     = "Content-Length: 0"
)

// caller is the scenario of calls of one kind.
func (s soakScript) caller(kind soakKind) string {
	request := func(line, branch, to, cseq string, more ...string) []string {
		return append([]string{
			line + " SIP/2.0",
			"Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch" + branch + "];rport",
			"From: <sip:sipp@example.org>;tag=[pid]c[call_number]",
			"To: <sip:[service]@[remote_ip]:[remote_port]>" + to,
			"Call-ID: [call_id]", "CSeq: " + cseq, "Max-Forwards: 70",
			"Contact: <sip:sipp@[local_ip]:[local_port]>",
		}, more...)
	}
	first := "INVITE sip:[service]@[remote_ip]:[remote_port]"
	inDialog := func(attributes, method, cseq string, more ...string) string {
		return soakSend(attributes, request(method+" [next_url]", "", "[peer_tag_param]", cseq+" "+method,
			append([]string{"[routes]"}, more...)...)...)
	}
	reinvite := func(cseq, direction string) string {
		return inDialog(soakRepeat, "INVITE", cseq, soakSDP(soakPort, direction)...) +
			"<recv response=\"100\" optional=\"true\"/>\n<recv response=\"200\"/>\n" +
			inDialog("", "ACK", cseq, soakEmpty)
	}
	refused := func(code, branch string) string {
		return "<recv response=\"" + code + "\"/>\n" +
			soakSend("", request("ACK sip:[service]@[remote_ip]:[remote_port]", branch, "[peer_tag_param]", "1 ACK", soakEmpty)...) +
			s.wait()
	}
	var b strings.Builder
	b.WriteString(soakScenario)
	b.WriteString(soakSend(soakRepeat, request(first, "", "", "1 INVITE", soakSDP(soakPort, "sendrecv")...)...))
	b.WriteString("<recv response=\"100\" optional=\"true\"/>\n")
	answered := "<recv response=\"180\" optional=\"true\" rrs=\"true\"/>\n<recv response=\"183\" optional=\"true\" rrs=\"true\"/>\n" +
		"<recv response=\"200\" rrs=\"true\"/>\n" + inDialog("", "ACK", "1", soakEmpty) + s.pause(1)
	switch kind {
	case soakPlain, soakFork:
		b.WriteString(answered)
		b.WriteString(inDialog(soakRepeat, "BYE", "2", soakEmpty))
		b.WriteString("<recv response=\"200\"/>\n")
	case soakHold:
		b.WriteString(answered)
		b.WriteString(reinvite("2", "sendonly") + s.pause(1) + reinvite("3", "sendrecv"))
		b.WriteString("<recv request=\"BYE\"/>\n" + soakAnswer("200 OK", "", soakEmpty) + s.wait())
	case soakCancel:
		// Of the branch of the INVITE (RFC 3261 section 9.1): message 0 of the scenario,
		// as is that of the ACK for a failure (section 17.1.1.3).
		b.WriteString("<recv response=\"180\"/>\n" + s.pause(5))
		b.WriteString(soakSend(soakRepeat, request("CANCEL sip:[service]@[remote_ip]:[remote_port]", "-4", "", "1 CANCEL", soakEmpty)...))
		b.WriteString("<recv response=\"200\" optional=\"true\"/>\n" + refused("487", "-7"))
	case soakBusy:
		b.WriteString("<recv response=\"180\" optional=\"true\"/>\n" + refused("486", "-4"))
	case soakGone:
		b.WriteString(refused("404", "-3"))
	}
	return b.String() + "</scenario>\n"
}

// soakAnswer answers the last request with a tag of its own, if it names one.
func soakAnswer(status, tag string, more ...string) string {
	attributes := ""
	if strings.HasPrefix(status, "200") && len(more) > 1 {
		attributes = soakRepeat // an answer to INVITE
	}
	return soakSend(attributes, append([]string{
		"SIP/2.0 " + status, "[last_Via:]", "[last_Record-Route:]", "[last_From:]", "[last_To:]" + tag,
		"[last_Call-ID:]", "[last_CSeq:]", "Contact: <sip:[local_ip]:[local_port]>",
	}, more...)...)
}

// called is the scenario of those who are called, and do what the caller expects.
func (s soakScript) called() string {
	const tag, other = ";tag=[pid]s[call_number]", ";tag=[pid]t[call_number]"
	goTo := func(label string, kind soakKind) string {
		return `<nop next="` + label + `" test="` + string(kind) + `"/>` + "\n"
	}
	label := func(name string) string { return `<label id="` + name + `"/>` + "\n" }
	// SIPp itself answers a repeated request only if it has sent one answer, not two:
	// whoever needs no 180 sends none.
	repeated := func(method, label string) string {
		return `<recv request="` + method + `" optional="true" next="` + label + `"/>` + "\n"
	}
	var b strings.Builder
	b.WriteString(soakScenario)
	b.WriteString("<recv request=\"INVITE\" rrs=\"true\"><action>\n")
	for _, kind := range []soakKind{soakHold, soakCancel, soakBusy, soakGone, soakFork} {
		b.WriteString(`<ereg regexp="sip:` + string(kind) + `@" search_in="hdr" header="To:" assign_to="` + string(kind) + `"/>` + "\n")
	}
	b.WriteString(`<ereg regexp=".*" search_in="hdr" header="From:" assign_to="from"/>` + "\n")
	b.WriteString(`<ereg regexp=".*" search_in="hdr" header="To:" assign_to="to"/>` + "\n")
	b.WriteString("</action></recv>\n")
	failure := func(status string) string {
		return soakSend(soakRepeat, "SIP/2.0 "+status, "[last_Via:]", "[last_From:]", "[last_To:]"+tag,
			"[last_Call-ID:]", "CSeq: 1 INVITE", soakEmpty)
	}
	const acknowledged = "<recv request=\"ACK\"/>\n"
	b.WriteString(goTo("gone", soakGone) + goTo("busy", soakBusy) + goTo("cancel", soakCancel) + goTo("fork", soakFork))
	b.WriteString(soakAnswer("200 OK", tag, soakSDP(soakPort, "sendrecv")...))
	b.WriteString("<recv request=\"ACK\" rrs=\"true\"/>\n")
	b.WriteString(goTo("hold", soakHold))

	b.WriteString(label("bye"))
	b.WriteString("<recv request=\"BYE\"/>\n" + soakAnswer("200 OK", "", soakEmpty))
	b.WriteString(`<nop next="end"/>` + "\n")

	b.WriteString(label("hold"))
	for _, direction := range []string{"recvonly", "sendrecv"} {
		b.WriteString("<recv request=\"INVITE\"/>\n" + soakAnswer("200 OK", "", soakSDP(soakPort, direction)...))
		b.WriteString("<recv request=\"ACK\"/>\n")
	}
	b.WriteString(s.pause(1))
	b.WriteString(soakSend(soakRepeat, "BYE [next_url] SIP/2.0",
		"Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch];rport", "[routes]",
		"From:[$to]"+tag, "To:[$from]", "Call-ID: [call_id]", "CSeq: 1 BYE", "Max-Forwards: 70", soakEmpty))
	b.WriteString("<recv response=\"200\"/>\n" + `<nop next="end"/>` + "\n")

	b.WriteString(label("fork"))
	b.WriteString(soakAnswer("183 Session Progress", tag, append(soakSDP(soakPort, "sendrecv"), "a=x-first")...))
	b.WriteString(soakAnswer("183 Session Progress", other, append(soakSDP(soakOtherPort, "sendrecv"), "a=x-second")...))
	b.WriteString(s.pause(5))
	b.WriteString(label("forked") + soakAnswer("200 OK", other, soakSDP(soakOtherPort, "sendrecv")...) + repeated("INVITE", "forked"))
	b.WriteString(`<recv request="ACK" rrs="true" next="bye"/>` + "\n")

	b.WriteString(label("cancel"))
	b.WriteString(soakAnswer("180 Ringing", tag, soakEmpty) + "<recv request=\"CANCEL\"/>\n")
	b.WriteString(soakAnswer("200 OK", tag, soakEmpty))
	b.WriteString(label("cancelled") + failure("487 Request Terminated") + repeated("CANCEL", "cancelled") + acknowledged)
	b.WriteString(`<nop next="end"/>` + "\n")
	b.WriteString(label("busy") + failure("486 Busy Here") + acknowledged + `<nop next="end"/>` + "\n")
	b.WriteString(label("gone") + failure("404 Not Found") + acknowledged)
	b.WriteString(label("end") + s.wait()) // SIPp allows it in the last place only
	return b.String() + "</scenario>\n"
}

// soakRegister is one REGISTER of a user from a file, whose phone listens on a port of
// its own. Field 0 is the user, field 1 the port, field 2 the domain.
const soakRegister = `<?xml version="1.0" encoding="ISO-8859-1" ?>
<scenario name="register">
  <send retrans="500">
    <![CDATA[
      REGISTER sip:[field2] SIP/2.0
      Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch];rport
      From: <sip:[field0]@[field2]>;tag=[pid]r[call_number]
      To: <sip:[field0]@[field2]>
      Call-ID: [field0]///[call_id]
      CSeq: [call_number] REGISTER
      Contact: <sip:[field0]@[local_ip]:[field1]>
      Expires: 120
      Max-Forwards: 70
      Content-Length: 0

    ]]>
  </send>
  <recv response="200"/>
</scenario>
`

// soakRegistrar answers them.
const soakRegistrar = `<?xml version="1.0" encoding="ISO-8859-1" ?>
<scenario name="registrar">
  <recv request="REGISTER"/>
  <send>
    <![CDATA[
      SIP/2.0 200 OK
      [last_Via:]
      [last_From:]
      [last_To:];tag=[pid]g[call_number]
      [last_Call-ID:]
      [last_CSeq:]
      [last_Contact:];expires=120
      Content-Length: 0

    ]]>
  </send>
  <timewait milliseconds="2000"/>
</scenario>
`
