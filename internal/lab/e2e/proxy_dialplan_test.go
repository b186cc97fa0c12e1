package e2e

import (
	"regexp"
	"strings"
	"testing"

	"sipnatd/internal/lab"
)

// TestProxyDialplan: what siproxd's plugins do to calls, one line each in the
// configuration.
func TestProxyDialplan(t *testing.T) {
	t.Parallel()
	l := proxied(t, lab.Options{Phones: 2, Outside: []string{"203.0.113.10", "198.51.100.20"}, Firewall: readmeFirewall(t, lab.IPTablesNFT)})
	daemon := l.StartProxy(
		"host_outbound = 203.0.113.1",
		"plugin_shortdial_akey = *00", "plugin_shortdial_entry = 17000@198.51.100.20",
		"plugin_regex_desc = emergency", "plugin_regex_pattern = ^sip:911@", "plugin_regex_replace = sip:112@",
		"plugin_stripheader_remove = X-Secret", "plugin_codecfilter_blacklist = G722",
		"plugin_defaulttarget_target = sip:johndoe@203.0.113.1",
		"plugin_blacklist_hitcount = 3",
	)
	john := l.Phones[0].Agent("johndoe", 5060)
	far, caller := l.Outside[1].Agent("far", 5060), l.Outside[0].Agent("caller", 5060)
	john.Proxy, john.Domain = insideSIP, "203.0.113.1"
	if answer := john.Do(john.Request("REGISTER", "sip:203.0.113.1")); answer.Status() != 200 {
		t.Fatalf("REGISTER: %s", answer.Start)
	}
	for dialled, want := range map[string]string{
		"sip:*01@203.0.113.1":        "sip:17000@198.51.100.20",
		"sip:911@198.51.100.20":      "sip:112@198.51.100.20",
		"sip:somebody@198.51.100.20": "sip:somebody@198.51.100.20",
	} {
		sdp := strings.Replace(lab.Audio(john.Addr.Addr(), 4000), "RTP/AVP 0", "RTP/AVP 9 0", 1) + "a=rtpmap:9 G722/8000\r\n"
		call := john.Invite(dialled, lab.With("X-Secret", "10.0.0.10 is mine"), lab.With("X-Other", "stays"), lab.WithSDP(sdp))
		in := far.RecvInvite(lab.CallID(call.CallID))
		if got := in.Invite.RequestURI(); got != want {
			t.Errorf("%s calls %s, not %s", dialled, got, want)
		}
		if m := in.Invite; m.Has("X-Secret") || m.Get("X-Other") != "stays" {
			t.Errorf("headers of another kind: %q, %q", m.Get("X-Secret"), m.Get("X-Other"))
		}
		if body := in.Invite.Body; strings.Contains(body, "G722") || !strings.Contains(body, "RTP/AVP 0 101\r\n") {
			t.Errorf("the codecs are not filtered:\n%s", body)
		}
		in.Reply(486)
		call.AckFailure(call.Expect(486))
		daemon.WaitLine(`msg=call .*called=`+regexp.QuoteMeta(dialled), lab.Moment())
	}

	// A call for nobody.
	caller.Proxy, caller.Domain = l.FW.At(5060), "203.0.113.10"
	call := caller.Invite("sip:nobody@203.0.113.1")
	in := john.RecvInvite(lab.CallID(call.CallID))
	in.Reply(486)
	call.AckFailure(call.Expect(486))
	l.WaitClosed()

	// A host that tries too often is not heard any more. Others are.
	blocked := false
	for range 6 {
		m := caller.Request("REGISTER", "sip:203.0.113.1")
		caller.Send(caller.Proxy, m)
		answer, err := caller.Await(lab.Patience(lab.CloseTime/3), lab.CallID(m.CallID()))
		if blocked = err != nil; blocked {
			break
		}
		if answer.Status() != 403 {
			t.Errorf("a REGISTER from outside: %s", answer.Start)
		}
	}
	if !blocked {
		t.Error("a host that fails all the time is not blocked")
	}
	far.Proxy, far.Domain = l.FW.At(5060), "203.0.113.1"
	if answer := far.Do(far.Request("OPTIONS", "sip:203.0.113.1")); answer.Status() != 200 {
		t.Errorf("another host: %s", answer.Start)
	}
}
