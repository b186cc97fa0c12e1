package config

import (
	"fmt"
	"slices"
	"strings"
)

// words splits the text after '=' into values at commas and white space. A
// value in double or single quotes may hold both. An unquoted '#' at the start
// of a value begins a comment.
func words(text string) ([]string, error) {
	var values []string
	for {
		text = strings.TrimLeft(text, " \t,")
		if text == "" || text[0] == '#' {
			return values, nil
		}
		if q := text[0]; q == '"' || q == '\'' {
			end := strings.IndexByte(text[1:], q)
			if end < 0 {
				return nil, fmt.Errorf("the quote %c is not closed", q)
			}
			values = append(values, text[1:1+end])
			text = text[end+2:]
			if text != "" && !strings.ContainsRune(" \t,", rune(text[0])) {
				return nil, fmt.Errorf("text follows the closing quote %c", q)
			}
			continue
		}
		end := strings.IndexAny(text, " \t,")
		if end < 0 {
			end = len(text)
		}
		values = append(values, text[:end])
		text = text[end:]
	}
}

// line returns the text after '=' as the one value that it is: up to a comment,
// or what is between quotes where there is nothing behind them.
func line(text string) string {
	text = strings.Trim(text, " \t")
	if text != "" && (text[0] == '"' || text[0] == '\'') {
		value, rest, closed := strings.Cut(text[1:], text[:1])
		rest = strings.TrimLeft(rest, " \t")
		if closed && (rest == "" || rest[0] == '#') {
			return value
		}
	}
	for i := range len(text) {
		if text[i] == '#' && (i == 0 || text[i-1] == ' ' || text[i-1] == '\t') {
			return strings.TrimRight(text[:i], " \t")
		}
	}
	return text
}

// inQuotes returns a value as a file may have it: as it is or in quotes, so that
// read makes the same of it.
func inQuotes(value string, read func(string) (string, bool)) string {
	if value == "" {
		return ""
	}
	for _, q := range []string{"", `"`, "'"} {
		if q == "" && value != strings.TrimSpace(value) {
			continue
		}
		if got, ok := read(q + value + q + " # "); ok && got == value {
			return q + value + q
		}
	}
	return value
}

// wordInQuotes returns one value of a list.
func wordInQuotes(value string) string {
	return inQuotes(value, func(text string) (string, bool) {
		values, err := words(text)
		return strings.Join(values, ""), err == nil && len(values) == 1
	})
}

// lineInQuotes returns a value that is the rest of its line.
func lineInQuotes(value string) string {
	return inQuotes(value, func(text string) (string, bool) { return line(text), true })
}

// list returns several values as a file has them.
func list[T any](values []T, text func(T) string) string {
	var all []string
	for v := range slices.Values(values) {
		all = append(all, wordInQuotes(text(v)))
	}
	return strings.Join(all, ", ")
}
