package main

import (
	"go/scanner"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"sipnatd/internal/config"
)

// top is the repository's directory.
const top = "../.."

func document(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(top, name))
	must(t, err)
	return string(text)
}

// documents are the names of all that is written for people.
func documents(t *testing.T) []string {
	t.Helper()
	names := []string{"README.md", "CHANGELOG.md"}
	found, err := filepath.Glob(filepath.Join(top, "docs", "*.md"))
	must(t, err)
	for _, path := range found {
		names = append(names, "docs/"+filepath.Base(path))
	}
	return names
}

// fenced are the blocks of a document in a language, "" for those that name none.
func fenced(text, language string) []string {
	var blocks []string
	fence := regexp.MustCompile("(?ms)^ *```([a-z]*)\n(.*?)^ *```$")
	for _, m := range fence.FindAllStringSubmatch(text, -1) {
		if m[1] == language {
			blocks = append(blocks, m[2])
		}
	}
	return blocks
}

// inline is the code in a document's sentences and tables.
func inline(text string) []string {
	text = regexp.MustCompile("(?ms)^ *```.*?^ *```$").ReplaceAllString(text, "")
	var code []string
	for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(text, -1) {
		code = append(code, strings.Join(strings.Fields(m[1]), " "))
	}
	return code
}

// anchors are the places in a document that a link can name: its headings, as the
// usual programs make addresses of them.
func anchors(text string) map[string]bool {
	all := make(map[string]bool)
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(text, -1) {
		all[strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
				return unicode.ToLower(r)
			}
			return -1
		}, m[1])] = true
	}
	return all
}

// What the documents link to is there.
func TestDocumentLinks(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^):#]*)(?:#([^)]+))?\)`)
	for _, name := range documents(t) {
		for _, m := range link.FindAllStringSubmatch(document(t, name), -1) {
			target := name
			if m[1] != "" {
				target = filepath.Join(filepath.Dir(name), m[1])
			}
			if _, err := os.Stat(filepath.Join(top, target)); err != nil {
				t.Errorf("%s: %v", name, err)
			} else if m[2] != "" && !anchors(document(t, target))[m[2]] {
				t.Errorf("%s: %s has no heading for #%s", name, target, m[2])
			}
		}
	}
}

// Every configuration in the documents loads, and there is nothing to say about it.
func TestDocumentConfigurations(t *testing.T) {
	blocks := 0
	for _, name := range documents(t) {
		for _, block := range fenced(document(t, name), "ini") {
			blocks++
			c, err := config.Parse(name, strings.NewReader(block))
			if err != nil {
				t.Errorf("%s: %v\n%s", name, err, block)
			} else if len(c.Warnings) > 0 {
				t.Errorf("%s: %s\n%s", name, c.Warnings, block)
			}
		}
	}
	if blocks < 10 {
		t.Errorf("%d configurations", blocks)
	}
}

// foreign are words of others that look like settings.
var foreign = regexp.MustCompile(`^((nf|nft|xt|nfnetlink|external)_[a-zA-Z_]+|auto_helper)$`)

// Every setting that the documents name is one, and takes the value that they give it.
func TestDocumentSettings(t *testing.T) {
	known := make(map[string]bool)
	for _, s := range config.Settings() {
		known[s.Name] = true
	}
	for _, p := range config.SiproxdPlugins() {
		known["plugin_"+p.Name] = true
	}
	table := document(t, "rules/siproxd.nft")
	name := regexp.MustCompile(`^[a-z]+(_[a-zA-Z]+)+$`)
	value := regexp.MustCompile(`^[a-z]+(_[a-zA-Z]+)* = \S.*$`)
	for _, doc := range documents(t) {
		for _, code := range inline(document(t, doc)) {
			switch {
			case value.MatchString(code) && code != "name = value":
				if _, err := config.Parse(doc, strings.NewReader(code)); err != nil {
					t.Errorf("%s: %v", doc, err)
				}
			case !name.MatchString(code), known[code], foreign.MatchString(code):
			case regexp.MustCompile(`\b` + code + `\b`).MatchString(table):
			default:
				t.Errorf("%s: there is no setting %s", doc, code)
			}
		}
	}
}

// usage is what the program says of a command, "" for the daemon, when asked for help.
func usage(t *testing.T, name string) string {
	t.Helper()
	var args []string
	if name != "" {
		args = append(args, name)
	}
	stdout, stderr, status := result(t, program(t, append(args, "-h")...))
	if status != 0 || stderr != "" {
		t.Fatalf("sipnatd %s -h: status %d, %s", name, status, stderr)
	}
	return stdout
}

// Every command line in the documents is one that the program understands.
func TestDocumentCommands(t *testing.T) {
	text := map[string]string{"": usage(t, "")}
	for _, c := range commands() {
		text[c.name] = usage(t, c.name)
	}
	lines := 0
	for _, doc := range append(documents(t), "man/sipnatd.8", "man/sipnatd.conf.5") {
		code := inline(document(t, doc))
		for _, language := range []string{"", "sh"} {
			for _, block := range fenced(document(t, doc), language) {
				code = append(code, strings.Split(block, "\n")...)
			}
		}
		for _, m := range regexp.MustCompile(`(?m)^\.Dl (.*)$`).FindAllStringSubmatch(document(t, doc), -1) {
			code = append(code, strings.ReplaceAll(m[1], `\-`, "-"))
		}
		for _, line := range code {
			for part := range strings.SplitSeq(line, "&&") {
				part = strings.TrimLeft(part, " #$")
				if end := strings.IndexAny(part, "|>;#"); end >= 0 {
					part = part[:end]
				}
				words := strings.Fields(part)
				if len(words) < 2 || strings.TrimPrefix(words[0], "./") != "sipnatd" {
					continue
				}
				lines++
				if complaint := understood(words[1:], text); complaint != "" {
					t.Errorf("%s: %s: %s", doc, part, complaint)
				}
			}
		}
	}
	if lines < 20 {
		t.Errorf("%d command lines", lines)
	}
}

// understood says what is wrong with the arguments of a command line; usage has the
// help of each command.
func understood(args []string, usage map[string]string) string {
	help, ok := usage[args[0]]
	switch {
	case ok:
		args = args[1:]
	case strings.HasPrefix(args[0], "-"):
		help = usage[""]
	default:
		return "there is no such command"
	}
	for _, word := range args {
		switch {
		case strings.ContainsAny(word, "/.") || word == "FILE" || word == "FORMAT" || word == "MASK":
		case !regexp.MustCompile(`(^|[\s|\[])` + regexp.QuoteMeta(word) + `($|[\s|,\]])`).MatchString(help):
			return "its help does not know " + word
		}
	}
	return ""
}

// speech tells whether the program can say something: whether it is in one of its
// strings, or is what becomes of a format.
func speech(t *testing.T) func(string) bool {
	t.Helper()
	verb := regexp.MustCompile(`%[-+# 0-9.]*[a-zA-Z]`)
	var texts []string
	var formats []*regexp.Regexp
	for _, file := range goFiles(t, func(name string) bool { return !strings.HasSuffix(name, "_test.go") }) {
		source, err := os.ReadFile(file)
		must(t, err)
		set := token.NewFileSet()
		var s scanner.Scanner
		s.Init(set.AddFile(file, -1, len(source)), source, nil, 0)
		for _, tok, literal := s.Scan(); tok != token.EOF; _, tok, literal = s.Scan() {
			if tok != token.STRING {
				continue
			}
			text, err := strconv.Unquote(literal)
			must(t, err)
			texts = append(texts, text)
			if fixed := verb.Split(text, -1); len(fixed) > 1 && len(strings.Join(fixed, "")) > 8 {
				for i := range fixed {
					fixed[i] = regexp.QuoteMeta(fixed[i])
				}
				formats = append(formats, regexp.MustCompile("(?s)^"+strings.Join(fixed, ".+")+"$"))
			}
		}
	}
	all := strings.Join(texts, "\x00")
	return func(s string) bool {
		return strings.Contains(all, s) || slices.ContainsFunc(formats, func(f *regexp.Regexp) bool { return f.MatchString(s) })
	}
}

// What the documents show of the log is what the program writes.
func TestDocumentLog(t *testing.T) {
	said := speech(t)
	key := regexp.MustCompile(`(?:^| )(?:"([^"]+)"|([a-z_]+))=("(?:[^"\\]|\\.)*"|\S*)`)
	lines := 0
	for _, doc := range documents(t) {
		for _, block := range fenced(document(t, doc), "log") {
			for line := range strings.Lines(block) {
				line = strings.TrimSpace(line)
				lines++
				var messages []string
				if refusal, ok := strings.CutPrefix(line, "sipnatd: "); ok {
					messages = append(messages, refusal)
				}
				for _, m := range key.FindAllStringSubmatch(line, -1) {
					switch name := m[1] + m[2]; {
					case name == "msg" || name == "remedy":
						messages = append(messages, strings.Trim(m[3], `"`))
					case name == "level" || name == "time":
					case !said(name):
						t.Errorf("%s: the program logs nothing by the name of %q", doc, name)
					}
				}
				if len(messages) == 0 {
					t.Errorf("%s: no message in %s", doc, line)
				}
				for _, message := range messages {
					if said(message) {
						continue
					}
					for piece := range strings.SplitSeq(strings.ReplaceAll(message, "; ", ": "), ": ") {
						if !said(piece) {
							t.Errorf("%s: the program does not say %q", doc, piece)
						}
					}
				}
			}
		}
	}
	if lines < 8 {
		t.Errorf("%d lines of the log", lines)
	}
}

// goFiles are the Go files whose name passes.
func goFiles(t *testing.T, passes func(name string) bool) []string {
	t.Helper()
	var files []string
	must(t, filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "build" || d.Name() == ".git"):
			return filepath.SkipDir
		case strings.HasSuffix(path, ".go") && passes(path):
			files = append(files, path)
		}
		return nil
	}))
	return files
}

// The tests and test data that the table of standards names exist.
func TestStandards(t *testing.T) {
	_, table, found := strings.Cut(document(t, "README.md"), "\n## Standards\n")
	if !found {
		t.Fatal("the README has no section Standards")
	}
	table, _, _ = strings.Cut(table, "\n## ")
	tests := allTests(t)
	rows := 0
	for row := range strings.Lines(table) {
		columns := strings.Split(strings.Trim(strings.TrimSpace(row), "|"), "|")
		if !strings.HasPrefix(columns[0], " [") {
			continue
		}
		if rows++; len(columns) != 4 {
			t.Fatalf("not four columns: %s", row)
		}
		for group := range strings.SplitSeq(columns[3], ";") {
			for name := range strings.SplitSeq(strings.ReplaceAll(group, " `nat/testdata` ", " nat/testdata/"), ",") {
				words := strings.Fields(name)
				name = words[len(words)-1]
				if strings.HasPrefix(group, " `nat/testdata`") {
					if _, err := os.Stat(filepath.Join(top, "nat/testdata", filepath.Base(name))); err != nil {
						t.Error(err)
					}
				} else if !strings.Contains(tests, "func "+name+"(") {
					t.Errorf("there is no test %s", name)
				}
			}
		}
	}
	if rows < 10 {
		t.Errorf("%d rows", rows)
	}
}

// allTests is the source of all tests.
func allTests(t *testing.T) string {
	t.Helper()
	var tests strings.Builder
	for _, file := range goFiles(t, func(name string) bool { return strings.HasSuffix(name, "_test.go") }) {
		text, err := os.ReadFile(file)
		must(t, err)
		tests.Write(text)
	}
	return tests.String()
}

// The messages that docs/troubleshooting.md explains are those of the program.
func TestTroubleshooting(t *testing.T) {
	said := speech(t)
	quoted := regexp.MustCompile("(?m)^\\| `([^`]+)` ")
	all := quoted.FindAllStringSubmatch(document(t, "docs/troubleshooting.md"), -1)
	if len(all) < 20 {
		t.Fatalf("%d messages", len(all))
	}
	for _, m := range all {
		if !said(m[1]) {
			t.Errorf("the program does not say %q", m[1])
		}
	}
}

// The tests that docs/security.md names for its rules exist.
func TestSecurity(t *testing.T) {
	tests := allTests(t)
	rows := 0
	for row := range strings.Lines(document(t, "docs/security.md")) {
		columns := strings.Split(strings.Trim(strings.TrimSpace(row), "|"), "|")
		if len(columns) != 3 || !strings.HasPrefix(columns[2], " Test") || columns[2] == " Tests " {
			continue
		}
		rows++
		for name := range strings.SplitSeq(columns[2], ",") {
			if name = strings.TrimSpace(name); !strings.Contains(tests, "func "+name+"(") {
				t.Errorf("there is no test %s", name)
			}
		}
	}
	if rows < 15 {
		t.Errorf("%d rules", rows)
	}
}
