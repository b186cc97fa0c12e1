package daemon

import (
	"slices"
	"strings"
	"testing"

	"sipnatd/conntrack"
)

// TestKernelRewriter: the daemon does not start beside the kernel's own SIP helper,
// says what to do, and does not bring the helper in.
func TestKernelRewriter(t *testing.T) {
	own := []conntrack.Helper{conntrack.HelperOwn}
	for _, tt := range []struct {
		name    string
		found   kernelRewriter
		refusal string // a part of it; empty: none
		helpers []conntrack.Helper
	}{
		{"none", kernelRewriter{}, "", nil},
		{"loaded, for our expectations", kernelRewriter{loaded: true}, "", nil},
		{"a rule", kernelRewriter{loaded: true, rules: []string{"rule 1 in table raw"}}, "remove: rule 1 in table raw", nil},
		{"automatic and loaded", kernelRewriter{loaded: true, automatic: true}, "net.netfilter.nf_conntrack_helper=0", own},
		{"automatic, not loaded", kernelRewriter{automatic: true}, "", own},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.found.refuse()
			if (err != nil) != (tt.refusal != "") || err != nil && !strings.Contains(err.Error(), tt.refusal) {
				t.Errorf("refused with %v, want %q", err, tt.refusal)
			}
			if got := tt.found.helpers(); !slices.Equal(got, tt.helpers) {
				t.Errorf("helpers %v, want %v", got, tt.helpers)
			}
		})
	}
}
