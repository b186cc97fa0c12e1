package template

import (
	"net/netip"
	"strings"
	"testing"
	texttemplate "text/template"
)

type base struct{ Names []string }

type page struct {
	base
	Port uint16
	Addr netip.Addr
	Rows []struct{ Name, Value string }
}

func (p *page) Quoted(list []string) []string { return []string{`"` + strings.Join(list, `" "`) + `"`} }
func (p *page) Title() string                 { return "title" }
func (p *page) Methods() Functions            { return Functions{"Quoted": p.Quoted, "Title": p.Title} }

var functions = Functions{"join": func(list []string, sep string) string { return strings.Join(list, sep) }}

var data = &page{base{[]string{"a", "b"}}, 5060, netip.MustParseAddr("192.0.2.1"), []struct{ Name, Value string }{{"x", "1"}, {"y", ""}}}

// TestLikeTextTemplate holds the package against the one whose language it has.
func TestLikeTextTemplate(t *testing.T) {
	for _, text := range []string{
		"", "text", "{{.Port}} {{.Addr}}", "{{.Title}}", "{{join .Names `, `}}", `{{join (.Quoted .Names) ","}}`, "{{index .Names 1}}",
		"{{if .Port}}yes{{else}}no{{end}}", "{{if not .Port}}yes{{else if .Names}}some{{else}}no{{end}}", "{{if not .Title}}x{{end}}",
		"{{range .Names}}<{{.}} {{$.Port}}>{{end}}", "{{range $n := .Names}}{{range $.Rows}}{{$n}}{{.Name}} {{end}}{{end}}",
		"{{range .Rows}}{{.Name}}{{with .Value}}={{.}}{{end}};{{end}}", "a\n{{- /* nothing */ -}}\n b",
		"{{define `t`}}[{{.}}]{{end}}{{template `t` .Port}}{{template `t` (index .Names 0)}}", "{{with .Names}}{{index . 0}}{{end}}",
	} {
		want := new(strings.Builder)
		if err := texttemplate.Must(texttemplate.New("x").Funcs(texttemplate.FuncMap(functions)).Parse(text)).Execute(want, data); err != nil {
			t.Fatal(err)
		}
		got := new(strings.Builder)
		set := New(functions)
		if err := set.Add("x", text); err != nil {
			t.Error(err)
			continue
		}
		if err := set.Execute(got, "x", data); err != nil || got.String() != want.String() {
			t.Errorf("%s: %q, %v; want %q", text, got, err, want)
		}
	}
}

func TestErrors(t *testing.T) {
	for text, want := range map[string]string{
		"{{if}}":                  "missing value",
		"{{if .Port}}":            "unexpected EOF",
		"{{none .}}":              "not defined",
		"\n{{.None}}":             "x:2:2: .None: *template.page has no None",
		"{{.Port 1}}":             "not a function",
		"{{join .Names}}":         "too few",
		"{{.Port | join}}":        "pipelines",
		"{{range .Port}}x{{end}}": "",
		"{{template `none`}}":     "no template",
	} {
		set := New(functions)
		err := set.Add("x", text)
		if err == nil {
			err = set.Execute(new(strings.Builder), "x", data)
		}
		if want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v; want %s", text, err, want)
		}
	}
	set := New(nil)
	if err := set.Add("zero", "{{if .}}yes{{else}}no{{end}}"); err != nil {
		t.Fatal(err)
	}
	out := new(strings.Builder)
	if err := set.Execute(out, "zero", netip.Addr{}); err != nil || out.String() != "no" {
		t.Errorf("a zero struct: %s, %v", out, err)
	}
}
