package check

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// Write writes a line for each finding, and one that sums them up.
func Write(w io.Writer, findings []Finding) error {
	width := 0
	for _, f := range findings {
		width = max(width, len(f.Level.String()))
	}
	var b strings.Builder
	for _, f := range findings {
		fmt.Fprintf(&b, "%-*s  %s: %s", width, f.Level, f.Subject, oneLine(f.Text))
		if f.Remedy != "" {
			b.WriteString("; " + oneLine(f.Remedy))
		}
		b.WriteByte('\n')
	}
	fmt.Fprintf(&b, "%s\n", Summary(findings))
	_, err := io.WriteString(w, b.String())
	return err
}

// Summary sums findings up in a sentence.
func Summary(findings []Finding) string {
	var count [Fault + 1]int
	for _, f := range findings {
		count[f.Level]++
	}
	switch {
	case count[Fault] > 0 && count[Warning] > 0:
		return fmt.Sprintf("It does not work: %s, %s.", plural(count[Fault], "fault"), plural(count[Warning], "warning"))
	case count[Fault] > 0:
		return fmt.Sprintf("It does not work: %s.", plural(count[Fault], "fault"))
	case count[Warning] > 0:
		return fmt.Sprintf("It works, with %s.", plural(count[Warning], "warning"))
	}
	return "Nothing is wrong."
}

// Worst is the highest level among findings.
func Worst(findings []Finding) Level {
	worst := OK
	for _, f := range findings {
		worst = max(worst, f.Level)
	}
	return worst
}

// oneLine replaces what would end a line or move the cursor.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}

// WriteJSON writes the findings as an array of objects, each with the strings id,
// level ("ok", "note", "warning" or "fault"), subject, text and remedy.
func WriteJSON(w io.Writer, findings []Finding) error {
	if findings == nil {
		findings = []Finding{}
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(findings)
}
