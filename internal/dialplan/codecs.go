package dialplan

import (
	"bytes"
	"slices"
	"strconv"
	"strings"

	"sipnatd/sipmsg"
)

// editBody applies expressions to the body, and takes codecs out of its session
// descriptions.
func (p *Plan) editBody(r *rules, m *sipmsg.Message, e *sipmsg.Edits) {
	body := m.Bytes(m.Body)
	changed := false
	for _, rule := range r.bodies {
		if out, ok := rule.pattern.Replace(body, rule.with); ok && !bytes.Equal(out, body) && len(out) <= sipmsg.MaxSize/2 {
			p.log.Debug("rule applied to a body", "rule", rule.name)
			body, changed = out, true
		}
	}
	filter := len(r.CodecsForbidden)+len(r.CodecsAllowed) > 0
	p.bodies = m.SDPBodies(p.bodies[:0])
	switch {
	case !changed && filter:
		for _, s := range p.bodies {
			p.filterCodecs(r, m.Raw, s, e)
		}
	case changed:
		if filter && len(p.bodies) == 1 && p.bodies[0] == m.Body {
			p.edits.Reset(body)
			p.filterCodecs(r, body, sipmsg.Span{Lo: 0, Hi: int32(len(body))}, &p.edits)
			if out, err := p.edits.Splice(nil); err == nil {
				body = out
			}
		}
		e.Replace(m.Body, body)
	}
}

// filterCodecs removes what is not wanted from the m= lines of a session description,
// with what describes it. A medium that would have no codec left stays as it is: it is
// for the parties to refuse it.
func (p *Plan) filterCodecs(r *rules, raw []byte, body sipmsg.Span, e *sipmsg.Edits) {
	if p.sdp.Index(raw, body) != nil {
		return
	}
	for i := range p.sdp.Media {
		m := &p.sdp.Media[i]
		if !m.RTP {
			continue
		}
		formats := strings.Fields(string(raw[m.Fmts.Lo:m.Fmts.Hi]))
		section := sipmsg.Span{Lo: m.Line.Hi, Hi: m.End}
		names, apt := codecsOf(raw, section)
		gone := make(map[string]bool)
		codecs := 0
		for _, f := range formats {
			name, ok := names[f]
			if !ok {
				name = static[f]
			}
			switch {
			case name != "" && r.unwanted(name):
				gone[f] = true
			case apt[f] == "" && !auxiliary(name):
				codecs++
			}
		}
		for f, codec := range apt { // what repeats a codec that is gone (RFC 4588)
			if gone[codec] {
				gone[f] = true
			}
		}
		if len(gone) == 0 {
			continue
		}
		if codecs == 0 {
			p.log.Debug("no codec would be left: all stay", "media", string(raw[m.Line.Lo:m.Line.Hi]))
			continue
		}
		left := slices.DeleteFunc(formats, func(f string) bool { return gone[f] })
		e.Replace(m.Fmts, []byte(strings.Join(left, " ")))
		for line := range lines(raw, section) {
			if _, f, _ := attribute(raw[line.Lo:line.Hi]); gone[f] {
				e.Replace(line, nil)
			}
		}
	}
}

// unwanted reports whether a codec, as "G729/8000", is to be removed. As in siproxd a
// part of its name is enough. What is not a codec needs not be allowed.
func (r *rules) unwanted(name string) bool {
	in := func(list []string) bool {
		return slices.ContainsFunc(list, func(s string) bool {
			s = strings.ToLower(strings.TrimSpace(s))
			return s != "" && strings.Contains(strings.ToLower(name), s)
		})
	}
	return in(r.CodecsForbidden) || len(r.CodecsAllowed) > 0 && !auxiliary(name) && !in(r.CodecsAllowed)
}

// auxiliary reports whether a format only accompanies a codec: tones, comfort noise.
func auxiliary(name string) bool {
	name, _, _ = strings.Cut(strings.ToLower(name), "/")
	return name == "telephone-event" || name == "cn" || name == "tone" || name == "red" || name == "ulpfec" || name == "rtx"
}

// static are the formats that need no a=rtpmap (RFC 3551 section 6).
var static = map[string]string{
	"0": "PCMU/8000", "3": "GSM/8000", "4": "G723/8000", "5": "DVI4/8000", "6": "DVI4/16000", "7": "LPC/8000", "8": "PCMA/8000",
	"9": "G722/8000", "10": "L16/44100/2", "11": "L16/44100", "12": "QCELP/8000", "13": "CN/8000", "14": "MPA/90000", "15": "G728/8000",
	"16": "DVI4/11025", "17": "DVI4/22050", "18": "G729/8000", "25": "CelB/90000", "26": "JPEG/90000", "28": "nv/90000", "31": "H261/90000",
	"32": "MPV/90000", "33": "MP2T/90000", "34": "H263/90000",
}

// codecsOf reads the a=rtpmap lines of a section, and which format repeats which other
// one.
func codecsOf(raw []byte, section sipmsg.Span) (names, apt map[string]string) {
	names, apt = make(map[string]string), make(map[string]string)
	for line := range lines(raw, section) {
		switch name, f, value := attribute(raw[line.Lo:line.Hi]); name {
		case "rtpmap":
			names[f] = value
		case "fmtp":
			if _, codec, ok := strings.Cut(value, "apt="); ok {
				codec = strings.TrimSpace(codec)
				if end := strings.IndexAny(codec, "; "); end >= 0 {
					codec = codec[:end]
				}
				apt[f] = codec
			}
		}
	}
	return names, apt
}

// attribute takes an attribute of a format apart: a=rtpmap:8 PCMA/8000. format is empty
// for any other line.
func attribute(line []byte) (name, format, value string) {
	text, ok := strings.CutPrefix(string(bytes.TrimRight(line, "\r\n")), "a=")
	name, rest, found := strings.Cut(text, ":")
	name = strings.ToLower(name)
	if !ok || !found || name != "rtpmap" && name != "fmtp" && name != "rtcp-fb" {
		return "", "", ""
	}
	format, value, _ = strings.Cut(strings.TrimSpace(rest), " ")
	if _, err := strconv.ParseUint(format, 10, 7); err != nil {
		return "", "", ""
	}
	return name, format, strings.TrimSpace(value)
}

// lines yields the lines of a section, each with its end.
func lines(raw []byte, s sipmsg.Span) func(yield func(sipmsg.Span) bool) {
	return func(yield func(sipmsg.Span) bool) {
		for lo := s.Lo; lo < s.Hi; {
			hi := s.Hi
			if n := bytes.IndexByte(raw[lo:s.Hi], '\n'); n >= 0 {
				hi = lo + int32(n) + 1
			}
			if !yield(sipmsg.Span{Lo: lo, Hi: hi}) {
				return
			}
			lo = hi
		}
	}
}
