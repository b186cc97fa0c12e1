package dialplan

import (
	"bytes"
	"strconv"
	"strings"

	"sipnatd/sipmsg"
)

// Target implements [proxy.Dialplan]. Only what begins a call is changed. A short number
// is replaced first; a prefix and then an expression are applied to what it stands for.
func (p *Plan) Target(request *sipmsg.Message) []byte {
	r := p.rules.Load()
	if request.Method != sipmsg.MethodInvite || request.RequestURI.Scheme != sipmsg.SchemeSIP && request.RequestURI.Scheme != sipmsg.SchemeSIPS {
		return nil
	}
	called := request.Bytes(request.RequestURI.All)
	uri := r.shortDial(called)
	uri = r.prefix(uri)
	uri = p.substitute(r, uri)
	if bytes.Equal(uri, called) {
		return nil
	}
	if !usable(uri) {
		p.log.Warn("the dialplan makes no SIP URI of what is called", "called", string(called), "becomes", string(uri))
		return nil
	}
	p.log.Info("call redirected", "called", string(called), "to", string(uri))
	return bytes.Clone(uri)
}

// Default implements [proxy.Dialplan]: the account of the trunk that the number belongs
// to, else the default target.
func (p *Plan) Default(request *sipmsg.Message) []byte {
	r := p.rules.Load()
	if request.Method != sipmsg.MethodInvite {
		return nil
	}
	for _, t := range r.trunks {
		for _, user := range [][]byte{request.Bytes(request.RequestURI.User), request.Bytes(request.To.URI.User)} {
			if len(user) > 0 && t.numbers.Match(user) {
				p.log.Debug("call for a trunk", "number", string(user), "trunk", t.name, "account", string(t.account))
				return t.account
			}
		}
	}
	if r.DefaultTarget == "" {
		return nil
	}
	target := bare(r.DefaultTarget)
	if r.DefaultTargetLog {
		p.log.Info("call for nobody goes to the default target",
			"from", string(request.Bytes(request.From.URI.All)), "called", string(request.Bytes(request.RequestURI.All)), "target", string(target))
	}
	return target
}

// shortDial replaces a short number: of the key *00 the first character, and two digits.
// An entry is a number, a number with a host, or a whole URI.
func (r *rules) shortDial(uri []byte) []byte {
	key := r.ShortdialKey
	u := sipmsg.ParseURI(uri)
	user := uri[u.User.Lo:u.User.Hi]
	if key == "" || len(user) != len(key) || user[0] != key[0] || !digits(user[1:]) {
		return uri
	}
	n, err := strconv.Atoi(string(user[1:]))
	if err != nil || n < 1 || n > len(r.ShortdialEntries) {
		return uri
	}
	entry := strings.TrimSpace(r.ShortdialEntries[n-1])
	switch scheme, _, _ := strings.Cut(strings.ToLower(entry), ":"); {
	case entry == "":
		return uri
	case scheme == "sip" || scheme == "sips":
		return []byte(entry)
	case strings.Contains(entry, "@"):
		return append(bytes.Clone(uri[:u.User.Lo]), entry...)
	}
	return splice(uri, u.User, entry)
}

// prefix puts the prefix in front of a telephone number. Names stay as they are: nobody
// dials them.
func (r *rules) prefix(uri []byte) []byte {
	u := sipmsg.ParseURI(uri)
	user := uri[u.User.Lo:u.User.Hi]
	if r.Prefix == "" || len(user) == 0 || len(bytes.Trim(user, "0123456789*#+-.()")) > 0 {
		return uri
	}
	return splice(uri, u.User, r.Prefix+string(user))
}

// substitute applies the first expression that matches the URI.
func (p *Plan) substitute(r *rules, uri []byte) []byte {
	for _, rule := range r.uris {
		if out, ok := rule.pattern.Replace(uri, rule.with); ok {
			p.log.Debug("rule applied", "rule", rule.name, "called", string(uri))
			return out
		}
	}
	return uri
}

// splice returns uri with other text in a span.
func splice(uri []byte, s sipmsg.Span, with string) []byte {
	return append(append(append(make([]byte, 0, len(uri)+len(with)), uri[:s.Lo]...), with...), uri[s.Hi:]...)
}

func digits(b []byte) bool {
	for _, c := range b {
		if c < '0' || c > '9' {
			return false
		}
	}
	return len(b) > 0
}

// usable reports whether a text can stand as the Request-URI.
func usable(uri []byte) bool {
	for _, c := range uri {
		if c <= ' ' || c == 0x7f || c == '<' || c == '>' || c == '"' {
			return false
		}
	}
	u := sipmsg.ParseURI(uri)
	return (u.Scheme == sipmsg.SchemeSIP || u.Scheme == sipmsg.SchemeSIPS) && !u.Host.Empty() && len(uri) <= 2048
}
