package main

import (
	"fmt"
	"strings"
)

// row is a line of each of two messages.
type row struct {
	left, right string
	changed     bool
}

// align puts the lines of two messages side by side: equal ones together, what
// differs between them paired in order.
func align(left, right []string) []row {
	// The longest common subsequence; messages are short.
	lcs := make([][]int, len(left)+1)
	for i := range lcs {
		lcs[i] = make([]int, len(right)+1)
	}
	for i := len(left) - 1; i >= 0; i-- {
		for j := len(right) - 1; j >= 0; j-- {
			if left[i] == right[j] {
				lcs[i][j] = lcs[i+1][j+1] + 1
			} else {
				lcs[i][j] = max(lcs[i+1][j], lcs[i][j+1])
			}
		}
	}
	var rows []row
	var onlyLeft, onlyRight []string
	flush := func() {
		for k := range max(len(onlyLeft), len(onlyRight)) {
			r := row{changed: true}
			if k < len(onlyLeft) {
				r.left = onlyLeft[k]
			}
			if k < len(onlyRight) {
				r.right = onlyRight[k]
			}
			rows = append(rows, r)
		}
		onlyLeft, onlyRight = nil, nil
	}
	i, j := 0, 0
	for i < len(left) || j < len(right) {
		switch {
		case i < len(left) && j < len(right) && left[i] == right[j]:
			flush()
			rows = append(rows, row{left[i], right[j], false})
			i++
			j++
		case j == len(right) || i < len(left) && lcs[i+1][j] >= lcs[i][j+1]:
			onlyLeft = append(onlyLeft, left[i])
			i++
		default:
			onlyRight = append(onlyRight, right[j])
			j++
		}
	}
	flush()
	return rows
}

// sideBySide prints two messages in columns, changed lines marked.
func (s *story) sideBySide(leftTitle, left, rightTitle, right string) {
	col := (s.width - 7) / 2
	print := func(mark, l, r, color string) {
		ls, rs := wrap(l, col), wrap(r, col)
		for k := range max(len(ls), len(rs)) {
			var a, b string
			if k < len(ls) {
				a = ls[k]
			}
			if k < len(rs) {
				b = rs[k]
			}
			line := strings.TrimRight(fmt.Sprintf("  %s %-*s | %s", mark, col, a, b), " ")
			if color != "" {
				line = s.paint(color, line)
			}
			fmt.Fprintln(s.w, line)
			mark = " "
		}
	}
	print(" ", leftTitle, rightTitle, bold)
	print(" ", strings.Repeat("-", col), strings.Repeat("-", col), "")
	changed := 0
	for _, r := range align(lines(left), lines(right)) {
		if r.changed {
			changed++
			print("*", r.left, r.right, yellow)
		} else {
			print(" ", r.left, r.right, "")
		}
	}
	s.say("  (* = changed: %d lines)\n", changed)
}

func lines(s string) []string {
	return strings.Split(strings.TrimRight(strings.ReplaceAll(s, "\r\n", "\n"), "\n"), "\n")
}

// wrap breaks a line into pieces of at most width bytes, continuations indented.
func wrap(line string, width int) []string {
	var pieces []string
	for len(line) > width {
		pieces = append(pieces, line[:width])
		line = "    " + line[width:]
	}
	return append(pieces, line)
}
