package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sipnatd/internal/config"
)

var update = flag.Bool("update", false, "write what is generated from the program into man and docs")

// generated is the part of a document between two marks, which must be as the
// program has it; -update makes it so.
func generated(t *testing.T, name, begin, end, want string) {
	t.Helper()
	text := document(t, name)
	before, rest, found := strings.Cut(text, begin+"\n")
	got, after, closed := strings.Cut(rest, end+"\n")
	switch {
	case !found || !closed:
		t.Fatalf("%s: there is no part between %q and %q", name, begin, end)
	case got == want:
	case *update:
		must(t, os.WriteFile(filepath.Join(top, name), []byte(before+begin+"\n"+want+end+"\n"+after), 0o644))
	default:
		t.Errorf("%s is not what the program says; go test ./cmd/sipnatd -update writes it:\n%s", name, want)
	}
}

// The settings of sipnatd.conf(5) are those of the program.
func TestManualSettings(t *testing.T) {
	var b strings.Builder
	for _, g := range config.Groups() {
		if g == config.GroupPlugins {
			continue // their options are too many to be read
		}
		fmt.Fprintf(&b, ".Ss %s\n", g)
		switch g {
		case config.GroupProxy:
			b.WriteString("For phones that are set up to use the firewall as their registrar, or as the proxy on the way to their provider.\nWith\n.Ql mode = transparent\nthey have no effect.\n")
		case config.GroupObsolete:
			b.WriteString("They have no place here.\n")
		}
		b.WriteString(".Bl -tag -width Ds\n")
		for _, s := range config.Settings() {
			if s.Group != g {
				continue
			}
			fmt.Fprintf(&b, ".It Ic %s\n%s", s.Name, roff(s.Help))
			if s.Effect == config.NoEffect {
				b.WriteString(roff(sentence(s.Fate)))
			}
			if g == config.GroupObsolete {
				continue
			}
			b.WriteString(".br\n" + roff("Values: "+s.Accepts()+"."))
			if s.Default != "" {
				b.WriteString(roff("Default: " + value(s) + "."))
			}
			if s.Effect != config.NoEffect && !s.Reload {
				b.WriteString("A change takes effect with the next start.\n")
			}
		}
		b.WriteString(".El\n")
	}
	fmt.Fprintf(&b, ".Ss %s\nThere are no plugins: what siproxd's do is built in, and belongs to the proxy mode.\n", config.GroupPlugins)
	b.WriteString("In a file that has a\n.Ic load_plugin\nor a\n.Ic plugindir ,\nonly the options of plugins that it loads have an effect; in any other an option is enough.\n")
	b.WriteString(".Bl -tag -width Ds\n")
	for _, p := range config.SiproxdPlugins() {
		fmt.Fprintf(&b, ".It Ic plugin_%s\nIn siproxd it %s", p.Name, roff(p.Does+". "+becomes(p.Effect, p.Fate)+"."))
	}
	b.WriteString(".El\n")
	generated(t, "man/sipnatd.conf.5", `.\" begin settings`, `.\" end settings`, b.String())
}

// The table in the README has the settings that are usually needed.
func TestReadmeSettings(t *testing.T) {
	var b strings.Builder
	b.WriteString("| setting | default | values | what it does |\n|---|---|---|---|\n")
	calls := []config.Group{config.GroupInterfaces, config.GroupSignalling, config.GroupMedia, config.GroupProxy}
	for _, s := range config.Settings() {
		if !s.Essential || !slices.Contains(calls, s.Group) {
			continue
		}
		initially := value(s)
		if initially != "" {
			initially = "`" + initially + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", s.Name, initially, cell(s.Accepts()), cell(s.Help))
	}
	generated(t, "README.md", "<!-- begin settings -->", "<!-- end settings -->", b.String())
}

// siproxdDirectives are those that siproxd 0.3 to 0.8 reads, as in its sources.
const siproxdDirectives = `if_inbound if_outbound host_outbound hosts_allow_reg hosts_allow_sip hosts_deny_sip
	sip_listen_port daemonize silence_log log_calls user chrootjail thread_stack_size registration_file
	autosave_registrations pid_file rtp_proxy_enable rtp_port_low rtp_port_high rtp_timeout rtp_dscp sip_dscp
	rtp_input_dejitter rtp_output_dejitter default_expires tcp_timeout tcp_connect_timeout tcp_keepalive
	proxy_auth_realm proxy_auth_passwd proxy_auth_pwfile debug_level debug_port mask_host masked_host ua_string
	use_rport obscure_loops outbound_proxy_host outbound_proxy_port outbound_domain_name outbound_domain_host
	outbound_domain_port plugindir load_plugin pi_shortdial`

// siproxdPlugins are those that come with siproxd 0.8.
const siproxdPlugins = `blacklist codecfilter defaulttarget demo fix_DTAG fix_bogus_via fix_fbox_anoncall logcall
	prefix regex regex_body shortdial siptrunk stats stripheader stun`

// The tables of docs/migration.md have every directive and every plugin of siproxd.
func TestMigration(t *testing.T) {
	var directives, plugins strings.Builder
	directives.WriteString("| directive | here |\n|---|---|\n")
	for _, s := range config.Settings() {
		if !s.Siproxd || strings.HasPrefix(s.Name, "plugin_") {
			continue
		}
		said := "As in siproxd. " + s.Help
		if s.Effect == config.NoEffect {
			said = becomes(s.Effect, s.Fate) + "."
		}
		fmt.Fprintf(&directives, "| `%s` | %s |\n", s.Name, cell(said))
	}
	plugins.WriteString("| plugin | what it does | here |\n|---|---|---|\n")
	for _, p := range config.SiproxdPlugins() {
		fmt.Fprintf(&plugins, "| `plugin_%s` | %s | %s |\n", p.Name, cell(p.Does), cell(becomes(p.Effect, p.Fate)))
	}
	const doc = "docs/migration.md"
	generated(t, doc, "<!-- begin directives -->", "<!-- end directives -->", directives.String())
	generated(t, doc, "<!-- begin plugins -->", "<!-- end plugins -->", plugins.String())
	for name := range strings.FieldsSeq(siproxdDirectives) {
		if !strings.Contains(directives.String(), "\n| `"+name+"` |") {
			t.Errorf("nothing of the directive %s", name)
		}
	}
	for name := range strings.FieldsSeq(siproxdPlugins) {
		if !strings.Contains(plugins.String(), "\n| `plugin_"+name+"` |") {
			t.Errorf("nothing of the plugin %s", name)
		}
	}
}

// The answers that docs/migration.md shows for a file of siproxd are the program's.
func TestMigrationAnswers(t *testing.T) {
	const doc = "docs/migration.md"
	files := fenced(document(t, doc), "siproxd")
	if len(files) != 1 {
		t.Fatalf("%d files of siproxd", len(files))
	}
	file := write(t, files[0])
	cmd := program(t, "config", "check", "-c", filepath.Base(file))
	cmd.Dir = filepath.Dir(file)
	stdout, stderr, status := result(t, cmd)
	if status != 0 || stderr != "" {
		t.Errorf("status %d, %s", status, stderr)
	}
	generated(t, doc, "<!-- begin answers -->", "<!-- end answers -->", "```\n"+stdout+"```\n")
}

// becomes says what becomes of a directive or a plugin.
func becomes(e config.Effect, fate string) string {
	if e == config.NoEffect {
		return "No effect: " + fate
	}
	return "Built in, for the proxy mode"
}

// value is a setting's default with its unit.
func value(s config.Setting) string { return strings.TrimSpace(s.Default + " " + s.Unit) }

// cell is text for a table.
func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }

// sentence begins with a capital letter, and ends.
func sentence(text string) string {
	return strings.ToUpper(text[:1]) + strings.TrimSuffix(text[1:], ".") + "."
}

// roff is text for a manual, a line for each sentence.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, " -", ` \-`).Replace(text)
	var b strings.Builder
	for sentence := range strings.SplitSeq(text, ". ") {
		if strings.HasPrefix(sentence, ".") || strings.HasPrefix(sentence, "'") {
			sentence = `\&` + sentence
		}
		b.WriteString(strings.TrimSuffix(sentence, ".") + ".\n")
	}
	return b.String()
}

// sipnatd(8) has every command and every flag that the program's help has.
func TestManualCommands(t *testing.T) {
	page := strings.ReplaceAll(document(t, "man/sipnatd.8"), `\-`, "-")
	flag := regexp.MustCompile(`(?m)^ +-([a-z]+)(?:, -(-[a-z-]+))?`) // without the first dash, as mdoc has it
	names := []string{""}
	for _, c := range commands() {
		names = append(names, c.name)
		if !regexp.MustCompile(`(?m)^\.It Cm ` + c.name + `\b`).MatchString(page) {
			t.Errorf("nothing of the command %s", c.name)
		}
	}
	for _, name := range names {
		for _, m := range flag.FindAllStringSubmatch(usage(t, name), -1) {
			for _, f := range m[1:] {
				if f != "" && !regexp.MustCompile(`Fl `+f+`\b`).MatchString(page) {
					t.Errorf("nothing of the flag -%s of sipnatd %s", f, name)
				}
			}
		}
	}
}

// The manuals are well-formed, for both programs that show manuals.
func TestManualFormat(t *testing.T) {
	for _, page := range []string{"man/sipnatd.8", "man/sipnatd.conf.5"} {
		path := filepath.Join(top, page)
		for _, tool := range [][]string{
			{"mandoc", "-T", "lint", "-W", "warning", path},
			{"man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", path},
		} {
			if _, err := exec.LookPath(tool[0]); err != nil {
				if os.Getenv("SIPNATD_CI") == "1" {
					t.Errorf("%s is missing", tool[0])
				}
				t.Logf("not looked at with %s, which is missing", tool[0])
				continue
			}
			cmd := exec.Command(tool[0], tool[1:]...)
			var errs strings.Builder
			cmd.Stderr = &errs
			out, err := cmd.Output()
			if tool[0] == "mandoc" {
				errs.Write(out)
			}
			if err != nil || errs.Len() > 0 {
				t.Errorf("%s: %s: %v\n%s", page, tool[0], err, errs.String())
			}
		}
	}
}
