package lab

import (
	"embed"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"text/template"
)

//go:embed templates
var templates embed.FS

// render writes a template to a file.
func render(path, name string, data any) error {
	t, err := template.ParseFS(templates, "templates/"+name)
	if err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := t.Execute(f, data); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// NeedProgram skips the test where a program is missing (with SIPNATD_CI=1 it
// fails).
func NeedProgram(t TB, names ...string) {
	t.Helper()
	for _, name := range names {
		if _, err := exec.LookPath(name); err == nil {
			continue
		}
		if os.Getenv("SIPNATD_CI") == "1" {
			t.Fatalf("lab: %s is not installed, and SIPNATD_CI forbids skipping", name)
		}
		t.Skipf("lab: %s is not installed", name)
	}
}

// Kamailio is a registrar and proxy.
type Kamailio struct {
	*Process
	Addr netip.AddrPort
}

// KamailioOptions say what Kamailio is to do.
type KamailioOptions struct {
	Port        int    // default 5060
	Auth        bool   // challenges REGISTER
	AuthCalls   bool   // challenges INVITE and BYE
	RecordRoute bool   // stays in the path of dialogs
	Password    string // of every user; default "secret"
	Domain      string // default its address
	TCP         bool   // beside UDP; who has connected is reached through that connection
}

// Kamailio starts a registrar and proxy on the host and waits until it serves.
// Calls to a user go to all of the user's contacts at once.
func (h *Host) Kamailio(o KamailioOptions) *Kamailio {
	h.lab.T.Helper()
	NeedProgram(h.lab.T, "kamailio")
	if o.Port == 0 {
		o.Port = 5060
	}
	if o.Password == "" {
		o.Password = "secret"
	}
	if o.Domain == "" {
		o.Domain = h.Addr.String()
	}
	addr := h.At(o.Port)
	dir, err := os.MkdirTemp(h.lab.Dir, "kamailio-")
	if err != nil {
		h.lab.T.Fatalf("%v", err)
	}
	cfg := filepath.Join(dir, "kamailio.cfg")
	err = render(cfg, "kamailio.cfg", struct {
		KamailioOptions
		Addr netip.AddrPort
	}{o, addr})
	if err != nil {
		h.lab.T.Fatalf("%v", err)
	}
	argv := []string{"kamailio", "-DD", "-E", "-m", "32", "-M", "4", "-Y", dir, "-w", dir, "-f", cfg}
	k := &Kamailio{Process: h.Start("kamailio", argv, WithPIDNamespace()), Addr: addr}
	k.WaitLine("kamailio is ready", Moment())
	return k
}
