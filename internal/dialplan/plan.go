package dialplan

import (
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"sync/atomic"
	"time"

	"sipnatd/internal/config"
	"sipnatd/internal/ere"
	"sipnatd/internal/proxy"
	"sipnatd/sipmsg"
)

// Plan is a dialplan. It implements [proxy.Dialplan]; the methods of that interface are
// for one goroutine at a time, Configure is for any.
type Plan struct {
	log   *slog.Logger
	rules atomic.Pointer[rules]
	calls calls

	sdp    sipmsg.SDP // reused
	edits  sipmsg.Edits
	bodies []sipmsg.Span
}

var _ proxy.Dialplan = (*Plan)(nil)

// rules are the settings in the form in which they are applied. They are never changed.
type rules struct {
	config.Plugins
	uris, bodies []replacement
	trunks       []trunk
	strip        []stripped
}

// replacement is a rule of plugin_regex or plugin_regex_body.
type replacement struct {
	name    string
	pattern *ere.Pattern
	with    string
}

// trunk is a rule of plugin_siptrunk.
type trunk struct {
	name    string
	numbers *ere.Pattern
	account []byte
}

// New returns a Plan. The error, which joins several, says what of the settings is not
// in force.
func New(settings config.Plugins, log *slog.Logger) (*Plan, error) {
	p := &Plan{log: log.With("class", "plugin")}
	p.calls.init(p.log, time.Now)
	return p, p.Configure(settings)
}

// Configure puts other settings in force. The error is that of New, nil if the settings
// are those that are in force.
func (p *Plan) Configure(settings config.Plugins) error {
	if now := p.rules.Load(); now != nil && reflect.DeepEqual(now.Plugins, settings) {
		return nil
	}
	r := &rules{Plugins: settings}
	var errs []error
	compile := func(setting, pattern, with string) *ere.Pattern {
		e, err := ere.Compile(pattern)
		if err == nil {
			err = e.CheckReplacement(with)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s = %s: %w", setting, pattern, err))
			return nil
		}
		return e
	}
	replacements := func(plugin string, names, patterns, with []string) (list []replacement) {
		for i := range min(len(patterns), len(with)) {
			if e := compile(plugin+"_pattern", patterns[i], with[i]); e != nil {
				list = append(list, replacement{at(names, i), e, with[i]})
			}
		}
		return list
	}
	r.uris = replacements("plugin_regex", settings.RegexNames, settings.RegexPatterns, settings.RegexReplacements)
	r.bodies = replacements("plugin_regex_body", settings.BodyNames, settings.BodyPatterns, settings.BodyReplacements)
	for i := range min(len(settings.TrunkAccounts), len(settings.TrunkNumbers)) {
		if e := compile("plugin_siptrunk_numbers_regex", settings.TrunkNumbers[i], ""); e != nil {
			r.trunks = append(r.trunks, trunk{at(settings.TrunkNames, i), e, bare(settings.TrunkAccounts[i])})
		}
	}
	for _, text := range settings.StripHeaders {
		s, err := newStripped(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("plugin_stripheader_remove = %s: %w", text, err))
			continue
		}
		r.strip = append(r.strip, s)
	}
	p.rules.Store(r)
	return errors.Join(errs...)
}

func at(list []string, i int) string {
	if i < len(list) {
		return list[i]
	}
	return ""
}

// bare returns the URI in a name-addr, or what is a URI already.
func bare(text string) []byte {
	if _, uri, ok := strings.Cut(text, "<"); ok {
		text, _, _ = strings.Cut(uri, ">")
	}
	return []byte(strings.TrimSpace(text))
}

// Edit implements [proxy.Dialplan].
func (p *Plan) Edit(m *sipmsg.Message, e *sipmsg.Edits, outbound bool) {
	r := p.rules.Load()
	r.stripHeaders(m, e)
	if !m.Body.Empty() {
		p.editBody(r, m, e)
	}
}
