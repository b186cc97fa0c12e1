package config

import (
	"fmt"
	"slices"
	"strings"
)

// checkWhole judges what several settings say together. What is said of it stands
// at the last of the lines that contributed.
func (p *parser) checkWhole() {
	p.checkPorts()
	p.checkSides()
	p.checkPlugins()
	p.checkMode()
	c := p.config
	if last := int(c.QueueNum) + int(c.Queues) - 1; last > 65535 {
		p.failAt(fmt.Sprintf("queue_num = %d, queues = %d: the last queue would be %d, and there is none above 65535; the nearest queue_num is %d",
			c.QueueNum, c.Queues, last, 65536-int(c.Queues)), "queue_num", "queues")
	}
	for _, s := range settings {
		if s.Kind == Path && !s.Repeated && s.Effect.In(c.Mode) {
			if name := s.text(c); name != "" && name[0] != '/' {
				p.warnAt(fmt.Sprintf("%s = %s is taken from the directory that the daemon is started in", s.Name, printable(name)), s.Name)
			}
		}
	}
	p.checkTogether("mask_host", "masked_host")
	p.checkTogether("outbound_domain_name", "outbound_domain_host", "outbound_domain_port")
	p.checkTogether("plugin_regex_desc", "plugin_regex_pattern", "plugin_regex_replace")
	p.checkTogether("plugin_regex_body_desc", "plugin_regex_body_pattern", "plugin_regex_body_replace")
	p.checkTogether("plugin_siptrunk_name", "plugin_siptrunk_account", "plugin_siptrunk_numbers_regex")
}

// checkPorts makes of the media ports what siproxd would make of them, where an
// existing file says so.
func (p *parser) checkPorts() {
	c := p.config
	if c.RTPPortLow%2 != 0 {
		p.warnAt(fmt.Sprintf("rtp_port_low = %d is rounded up to %d: RTP takes the even port of a pair and RTCP the odd one after it (RFC 3550, section 11)",
			c.RTPPortLow, c.RTPPortLow+1), "rtp_port_low")
		c.RTPPortLow++
	}
	if low, high := c.RTPPortLow, c.RTPPortHigh; high == low {
		c.RTPPortHigh = low + 1
		p.warnAt(fmt.Sprintf("rtp_port_high = %d is raised to %d: there must be room for one pair of RTP and RTCP ports",
			high, c.RTPPortHigh), "rtp_port_low", "rtp_port_high")
	} else if high < low {
		p.failAt(fmt.Sprintf("rtp_port_low = %d, rtp_port_high = %d: the range has no room for one pair of RTP and RTCP ports; the nearest rtp_port_high is %d",
			low, high, low+1), "rtp_port_low", "rtp_port_high")
	}
	for _, port := range c.SIPPorts {
		if port >= c.RTPPortLow && port <= c.RTPPortHigh {
			p.warnAt(fmt.Sprintf("the SIP port %d is one of the media ports, %d to %d: it is left out of them",
				port, c.RTPPortLow, c.RTPPortHigh), "sip_ports", "rtp_port_low", "rtp_port_high")
		}
	}
}

// checkMode tells of settings that have no effect in the mode, or not without
// another one.
func (p *parser) checkMode() {
	c := p.config
	if c.Mode == ModeTransparent {
		for _, s := range settings {
			if _, set := p.lines[s.Name]; set && s.Effect == InProxyMode {
				p.warnAt(s.Name+" has no effect with mode = transparent: "+s.Fate, s.Name)
			}
		}
		return
	}
	if c.Mode == ModeProxy {
		for _, name := range []string{"sip_ports", "sip_accept", "sip_peers", "on_failure", "sip_tcp", "sip_tcp_port"} {
			if _, set := p.lines[name]; set {
				p.warnAt(name+" has no effect with mode = proxy: it is about SIP that is forwarded, which passes as it is", name)
			}
		}
	} else if c.SIPTCP && c.SIPTCPPort == c.ListenPort {
		p.failAt(fmt.Sprintf("sip_tcp_port = %d is sip_listen_port, too: the proxy mode listens there for TCP as well", c.SIPTCPPort), "sip_tcp_port", "sip_listen_port", "sip_tcp")
	}
	if port := c.ListenPort; port >= c.RTPPortLow && port <= c.RTPPortHigh {
		p.warnAt(fmt.Sprintf("sip_listen_port = %d is one of the media ports, %d to %d: it is left out of them",
			port, c.RTPPortLow, c.RTPPortHigh), "sip_listen_port", "rtp_port_low", "rtp_port_high")
	}
	for _, pair := range []struct {
		missing     bool
		name, needs string
	}{
		{c.Proxy.AuthRealm == "", "proxy_auth_passwd", "proxy_auth_realm"},
		{c.Proxy.AuthRealm == "", "proxy_auth_pwfile", "proxy_auth_realm"},
		{c.Proxy.RegistrationFile == "", "autosave_registrations", "registration_file"},
		{c.Proxy.OutboundHost == "", "outbound_proxy_port", "outbound_proxy_host"},
	} {
		if s, _ := Lookup(pair.name); pair.missing && s.text(c) != s.Default {
			p.warnAt(noEffect(pair.name, "it needs "+pair.needs), pair.name)
		}
	}
	if c.Proxy.AuthRealm != "" && c.Proxy.AuthPassword == "" && c.Proxy.AuthFile == "" {
		p.warnAt("proxy_auth_realm has phones authenticate, and there is neither proxy_auth_pwfile nor proxy_auth_passwd: no phone can register", "proxy_auth_realm")
	}
}

// checkSides refuses interfaces that are on both sides, but for the one that
// siproxd is given beside a NAT router.
func (p *parser) checkSides() {
	c := p.config
	if len(c.Inside) == 1 && slices.Equal(c.Inside, c.Outside) {
		p.warnAt(fmt.Sprintf("%s is in if_inbound and in if_outbound, as siproxd has it beside a NAT router: nothing is forwarded there for sipnatd to rewrite, and its proxy mode needs an interface of either side",
			printable(c.Inside[0])), "if_inbound", "if_outbound")
		return
	}
	for _, name := range c.Inside {
		if slices.Contains(c.Outside, name) {
			p.failAt(fmt.Sprintf("%s is in if_inbound and in if_outbound: an interface is on one side", printable(name)), "if_inbound", "if_outbound")
		}
	}
}

// checkTogether tells of lists that should have the same length.
func (p *parser) checkTogether(names ...string) {
	var counts []string
	equal, first := true, -1
	for _, name := range names {
		s, _ := Lookup(name)
		n := s.lines(p.config)
		if first < 0 {
			first = n
		}
		equal = equal && n == first
		counts = append(counts, fmt.Sprintf("%d %s", n, name))
	}
	if !equal {
		p.warnAt(fmt.Sprintf("there are %s: they go together, the first with the first and so on", strings.Join(counts, ", ")), names...)
	}
}

// at returns the last line that set one of the settings. It is false where one of
// them was refused: its value is not the one that was meant.
func (p *parser) at(settings []string) (line int, ok bool) {
	for _, s := range settings {
		if p.wrong[s] {
			return 0, false
		}
		line = max(line, p.lines[s])
	}
	return line, true
}

func (p *parser) failAt(reason string, settings ...string) {
	if line, ok := p.at(settings); ok {
		p.errs = append(p.errs, &Error{File: p.file, Line: line, Reason: reason})
	}
}

func (p *parser) warnAt(text string, settings ...string) {
	if line, ok := p.at(settings); ok {
		p.warnings = append(p.warnings, warning{line, text})
	}
}
