package rules

import "strings"

// SourceList is [page.Sources] as one column, "" for every source.
func (p *page) SourceList() string { return strings.Join(p.Sources(), ",") }
