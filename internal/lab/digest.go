package lab

import (
	"crypto/md5"
	"crypto/sha256"
	"fmt"
	"hash"
	"strings"
)

// AuthParam is a parameter of a challenge, without quotation marks.
func AuthParam(challenge, name string) string {
	_, list, _ := strings.Cut(challenge, " ")
	for p := range strings.SplitSeq(list, ",") {
		k, v, _ := strings.Cut(strings.TrimSpace(p), "=")
		if strings.EqualFold(k, name) {
			return strings.Trim(v, `"`)
		}
	}
	return ""
}

// Challenges are those of a refusal, 401 or 407.
func (m *Message) Challenges() []string {
	if m.Status() == 407 {
		return m.All("Proxy-Authenticate")
	}
	return m.All("WWW-Authenticate")
}

// WithDigest answers one of the challenges of a refusal, with qop=auth (RFC 8760).
func WithDigest(refusal *Message, challenge int, user, password string) Mod {
	return func(m *Message) {
		header, challenge := "Authorization", refusal.Challenges()[challenge]
		if refusal.Status() == 407 {
			header = "Proxy-Authorization"
		}
		realm, nonce, algorithm := AuthParam(challenge, "realm"), AuthParam(challenge, "nonce"), AuthParam(challenge, "algorithm")
		sum := func(parts ...string) string {
			var h hash.Hash = md5.New()
			if strings.EqualFold(algorithm, "SHA-256") {
				h = sha256.New()
			}
			h.Write([]byte(strings.Join(parts, ":")))
			return fmt.Sprintf("%x", h.Sum(nil))
		}
		const count, cnonce = "00000001", "0a4f113b"
		response := sum(sum(user, realm, password), nonce, count, cnonce, "auth", sum(m.Method(), m.RequestURI()))
		value := fmt.Sprintf(`Digest username="%s", realm="%s", nonce="%s", uri="%s", response="%s", algorithm=%s, qop=auth, cnonce="%s", nc=%s`,
			user, realm, nonce, m.RequestURI(), response, algorithm, cnonce, count)
		if opaque := AuthParam(challenge, "opaque"); opaque != "" {
			value += fmt.Sprintf(`, opaque="%s"`, opaque)
		}
		m.Set(header, value)
	}
}
