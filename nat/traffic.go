package nat

import (
	"bytes"
	"fmt"
	"strings"
)

// traffic writes a message to the debug log as it came or leaves, a line for each of
// its lines. What would let a reader act as the sender, or listen, is left out.
func (e *Engine) traffic(what string, p *Packet, message []byte) {
	e.mu.Lock() // its lines stay together
	defer e.mu.Unlock()
	e.log.traffic.Debug(what, "from", p.Src, "to", p.Dst, "bytes", len(message))
	for _, line := range shown(message) {
		e.log.traffic.Debug("  " + line)
	}
}

// hidden stands for what is not shown.
const hidden = "(hidden)"

// secretHeaders carry what is computed from a password (RFC 3261 section 22,
// RFC 8760), in small letters. They have no compact forms.
var secretHeaders = [...]string{"authorization", "proxy-authorization", "authentication-info", "proxy-authentication-info"}

// secretLines begin the lines of SDP that carry keys and passwords, in small
// letters: RFC 4568, RFC 8866 section 5.12, RFC 4567 and RFC 8839 section 5.4.
var secretLines = [...]string{"a=crypto", "k=", "a=key-mgmt", "a=ice-pwd"}

// shown returns the lines of a message fit for a log. Secrets are looked for by the
// form of a line alone, wherever it stands: what is no SIP message to the engine may
// be one to its receiver, and bodies may hold parts of others.
func shown(message []byte) (lines []string) {
	secret := false
	for len(message) > 0 {
		line := message
		if i := bytes.IndexAny(message, "\r\n"); i >= 0 {
			line = message[:i]
			end := i + 1
			if message[i] == '\r' && end < len(message) && message[end] == '\n' {
				end++
			}
			message = message[end:]
		} else {
			message = nil
		}
		folded := len(line) > 0 && (line[0] == ' ' || line[0] == '\t') // RFC 3261 section 7.3.1
		if folded && secret {
			continue
		}
		var public string
		if public, secret = withoutSecret(line); secret {
			lines = append(lines, public+hidden)
		} else {
			lines = append(lines, printable(line))
		}
	}
	return lines
}

// withoutSecret returns what may be shown of a line that holds a secret.
func withoutSecret(line []byte) (public string, secret bool) {
	name, _, _ := bytes.Cut(line, []byte(":"))
	for _, h := range secretHeaders {
		if strings.EqualFold(h, string(bytes.TrimSpace(name))) {
			return printable(name) + ": ", true
		}
	}
	small := bytes.ToLower(line)
	if i := bytes.Index(small, []byte("authorization=")); i >= 0 { // in a URI (RFC 3261 section 19.1.1)
		return printable(line[:i+len("authorization=")]), true
	}
	// Blanks do not belong into a line of SDP, and are no way around this.
	small = bytes.Join(bytes.Fields(small), nil)
	for _, l := range secretLines {
		if bytes.HasPrefix(small, []byte(l)) {
			return l + " ", true
		}
	}
	return "", false
}

// printable escapes what is not printable ASCII.
func printable(line []byte) string {
	var b strings.Builder
	for _, c := range line {
		if c < ' ' || c > '~' {
			fmt.Fprintf(&b, `\x%02x`, c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}
