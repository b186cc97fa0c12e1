package config

import (
	"bufio"
	"fmt"
	"io"
	"strings"
)

const referenceHead = `sipnatd.conf: every setting with its default. This is what
"sipnatd config reference" prints; an empty file does the same.

A line is "name = value". Lists are separated by commas or spaces; values may
stand in quotes; # starts a comment. siproxd.conf is such a file, too. After a
change, "sipnatd config check" says what is wrong with a file, and SIGHUP has the
running daemon read it again.

To change a setting, remove the # in front of its name.`

// groupHeads say what a group of settings has in common.
var groupHeads = map[Group]string{
	GroupProxy:    "Phones that are set up to use the firewall itself, as with siproxd: as their registrar, or as the proxy on the way to their provider. With mode = transparent these settings have no effect.",
	GroupPlugins:  "There are no plugins: what siproxd's do is built in, and belongs to the proxy mode. What has no place here is read and checked, and answered at the start with what does the job now.",
	GroupObsolete: "They have no place here. Each is read and checked, and answered at the start with what does the job now.",
}

// WriteReference writes a configuration file that explains every setting. All are
// commented out; each is shown with its default.
func WriteReference(w io.Writer) error {
	b := bufio.NewWriter(w)
	comment(b, referenceHead)
	group := Group("")
	for _, s := range settings {
		if s.Group != group {
			group = s.Group
			fmt.Fprintf(b, "\n\n%s\n# %s\n%s\n", strings.Repeat("#", textWidth), group, strings.Repeat("#", textWidth))
			if head := groupHeads[group]; head != "" {
				comment(b, head)
			}
		}
		fmt.Fprintln(b)
		comment(b, s.Help)
		comment(b, s.facts())
		fmt.Fprintf(b, "#%s\n", strings.TrimSpace(s.Name+" = "+s.Default))
	}
	return b.Flush()
}

// facts is what there is to know about a setting besides what it does.
func (s Setting) facts() string {
	facts := "Values: " + s.Accepts() + "."
	if s.Default != "" {
		facts += " Default: " + strings.TrimSpace(s.Default+" "+s.Unit) + "."
	}
	if s.Repeated {
		facts += " It may be given many times."
	}
	switch {
	case s.Effect != NoEffect && !s.Reload:
		facts += " A change takes effect with the next start."
	case s.Effect == NoEffect:
		facts += " No effect: " + s.Fate + "."
	}
	return facts
}

// textWidth is the length of a comment's lines, in bytes.
const textWidth = 79

// comment writes text as lines of a comment, broken anew; paragraphs stay.
func comment(b *bufio.Writer, text string) {
	for i, paragraph := range strings.Split(text, "\n\n") {
		if i > 0 {
			fmt.Fprintln(b, "#")
		}
		line := "#"
		for _, word := range strings.Fields(paragraph) {
			if len(line)+1+len(word) > textWidth {
				fmt.Fprintln(b, line)
				line = "#"
			}
			line += " " + word
		}
		fmt.Fprintln(b, line)
	}
}
