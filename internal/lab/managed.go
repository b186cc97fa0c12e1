package lab

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// Managed is a program that manages the firewall's rules for the administrator, in
// a lab whose firewall is Bare. What it is configured with, and /run, are directories
// of its own in the places where it looks for them. Neither it nor its clients meet
// those of the machine, or change a file of it.
type Managed struct {
	Name string // of sipnatd's rules for it

	lab    *Lab
	own    []place
	reload []string
}

// A place is a directory or a file of the machine's, and what is there instead.
type place struct{ at, own string }

// managed is a program that needs these programs. It skips the test where one is
// missing.
func (l *Lab) managed(name string, programs ...string) *Managed {
	l.T.Helper()
	for _, p := range append(programs, "unshare", "nft") {
		NeedProgram(l.T, p)
	}
	return &Managed{Name: name, lab: l}
}

// dir is a directory of its own with these files.
func (m *Managed) dir(at string, files map[string]string) {
	m.lab.T.Helper()
	own := filepath.Join(m.lab.Dir, m.Name+strings.ReplaceAll(at, "/", "-"))
	err := os.MkdirAll(own, 0o755)
	for name, content := range files {
		path := filepath.Join(own, name)
		if err == nil {
			err = os.MkdirAll(filepath.Dir(path), 0o755)
		}
		if err == nil {
			err = os.WriteFile(path, []byte(content), 0o640)
		}
	}
	if err != nil {
		m.lab.T.Fatalf("%v", err)
	}
	m.own = append(m.own, place{at, own})
}

// file is a file of its own.
func (m *Managed) file(at, content string) {
	m.lab.T.Helper()
	own := filepath.Join(m.lab.Dir, m.Name+strings.ReplaceAll(at, "/", "-"))
	if err := os.WriteFile(own, []byte(content), 0o644); err != nil {
		m.lab.T.Fatalf("%v", err)
	}
	m.own = append(m.own, place{at, own})
}

// among has a command meet the program's own files.
func (m *Managed) among(argv ...string) []string {
	var script strings.Builder
	for _, p := range m.own {
		fmt.Fprintf(&script, "mount --bind '%s' '%s' && ", p.own, p.at)
	}
	script.WriteString(`exec "$@"`)
	// The machine's own programs: interpreters of other kinds may come first elsewhere.
	path := "PATH=/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
	return append([]string{"env", path, "unshare", "--mount", "sh", "-c", script.String(), "sh"}, argv...)
}

// Run runs a command among the program's own files.
func (m *Managed) Run(argv ...string) string {
	m.lab.T.Helper()
	return m.pipe("", argv...)
}

// pipe gives a command its input. What it says goes to either output.
func (m *Managed) pipe(stdin string, argv ...string) string {
	m.lab.T.Helper()
	out, err := m.lab.FW.Pipe(stdin, m.among(argv...)...)
	if err != nil {
		m.lab.T.Fatalf("%v\n%s", err, out)
	}
	return out
}

// Script runs a shell script among the program's own files.
func (m *Managed) Script(script string) string {
	m.lab.T.Helper()
	return m.pipe(script, "sh", "-s")
}

// Rules are what sipnatd writes for the program, with options if there are any. The
// daemon need not run.
func (m *Managed) Rules(options ...string) string {
	m.lab.T.Helper()
	bin, err := BuildDaemon()
	config := filepath.Join(m.lab.Dir, "rules.conf")
	if err == nil {
		err = os.WriteFile(config, []byte(Config), 0o644)
	}
	if err != nil {
		m.lab.T.Fatalf("%v", err)
	}
	argv := append([]string{bin, "rules", "-c", config}, options...)
	return m.lab.FW.Run(append(argv, m.Name)...)
}

// Reload has the program put its rules in place anew, as an administrator would.
func (m *Managed) Reload() {
	m.lab.T.Helper()
	m.Run(m.reload...)
}

// State is the firewall's rules, and the program's files below /etc.
func (m *Managed) State() string {
	m.lab.T.Helper()
	var state strings.Builder
	rules := m.lab.FW.Run("nft", "--stateless", "list", "ruleset")
	// Shorewall gives two of its chains new names each time.
	state.WriteString(regexp.MustCompile(`(sha-[lr]h-)[0-9a-f]*`).ReplaceAllString(rules, "$1"))
	for _, p := range m.own {
		if !strings.HasPrefix(p.at, "/etc/") {
			continue
		}
		err := filepath.WalkDir(p.own, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			content, err := os.ReadFile(path)
			fmt.Fprintf(&state, "\n--- %s%s %v\n%s", p.at, strings.TrimPrefix(path, p.own), info.Mode(), content)
			return err
		})
		if err != nil {
			m.lab.T.Fatalf("%v", err)
		}
	}
	return state.String()
}

// Ufw is ufw as it is shipped, enabled: nothing is forwarded.
func (l *Lab) Ufw() *Managed {
	l.T.Helper()
	m := l.managed("ufw", "ufw", "iptables")
	files := map[string]string{"sysctl.conf": "#net/ipv4/ip_forward=1\n", "applications.d/empty": ""}
	for _, pattern := range []string{"ufw.conf", "*.init", "iptables/*.rules"} {
		shipped, err := filepath.Glob("/usr/share/ufw/" + pattern)
		for _, path := range shipped {
			var content []byte
			if err == nil {
				content, err = os.ReadFile(path)
			}
			files[filepath.Base(path)] = string(content)
		}
		if err != nil {
			l.T.Fatalf("%v", err)
		}
	}
	m.dir("/run", nil)
	m.dir("/etc/ufw", files)
	m.file("/etc/default/ufw", `IPV6=yes
DEFAULT_INPUT_POLICY="DROP"
DEFAULT_OUTPUT_POLICY="ACCEPT"
DEFAULT_FORWARD_POLICY="DROP"
DEFAULT_APPLICATION_POLICY="SKIP"
MANAGE_BUILTINS=no
IPT_SYSCTL=/etc/ufw/sysctl.conf
IPT_MODULES=""
`)
	m.reload = []string{"ufw", "reload"}
	m.Run("ufw", "--force", "enable")
	m.Reload() // adds to what the first start does
	// What iptables-nft once has made, it leaves behind empty.
	m.Run("iptables", "-t", "nat", "-P", "POSTROUTING", "ACCEPT")
	return m
}

// Firewalld is firewalld with eth0 in the zone internal and ppp0 in the zone external.
// Nothing is masqueraded, and nothing forwarded from one to the other. The zone
// internal has the service sip, and so the kernel's own SIP helper.
func (l *Lab) Firewalld() *Managed {
	l.T.Helper()
	m := l.managed("firewalld", "firewalld", "firewall-cmd", "dbus-daemon")
	m.dir("/run", map[string]string{"dbus/system.conf": `<busconfig>
	<type>system</type>
	<listen>unix:path=/run/dbus/system_bus_socket</listen>
	<policy context="default">
		<allow user="root"/>
		<allow own="*"/>
		<allow send_destination="*"/>
		<allow receive_sender="*"/>
	</policy>
</busconfig>
`})
	m.dir("/etc/firewalld", map[string]string{
		"firewalld.conf":     "DefaultZone=public\nFirewallBackend=nftables\n",
		"zones/internal.xml": `<zone><interface name="eth0"/><service name="sip"/></zone>`,
		"zones/external.xml": `<zone><interface name="ppp0"/></zone>`,
	})
	m.reload = []string{"firewall-cmd", "--reload"}
	l.FW.Start("dbus", m.among("dbus-daemon", "--config-file=/run/dbus/system.conf", "--nofork", "--nopidfile", "--print-address")).
		WaitLine("unix:path=", Moment())
	firewalld := l.FW.Start("firewalld", m.among("firewalld", "--nofork", "--nopid", "--log-target=console"))
	// It tells nobody when it serves.
	for deadline := time.Now().Add(Patience(20 * time.Second)); ; {
		_, err := l.FW.Output(m.among("firewall-cmd", "--state")...)
		if err == nil {
			return m
		}
		if !firewalld.Running() || time.Now().After(deadline) {
			l.T.Fatalf("%v\n%s", err, firewalld.Log())
		}
	}
}

// Shorewall is Shorewall for two interfaces as its documentation has it, but with a
// policy that lets nothing out, and without masquerade. Every conntrack helper of the
// kernel is assigned to flows.
func (l *Lab) Shorewall() *Managed {
	l.T.Helper()
	m := l.managed("shorewall", "shorewall", "iptables")
	files := map[string]string{
		"zones":      "fw firewall\nnet ipv4\nloc ipv4\n",
		"interfaces": "?FORMAT 2\nnet NET_IF tcpflags,nosmurfs,physical=ppp0\nloc $LOC tcpflags\n",
		"params":     "LOC=eth0\n",
		"policy":     "net all DROP\nall all REJECT\n",
		"rules":      "?SECTION ALL\n?SECTION ESTABLISHED\n?SECTION RELATED\n?SECTION NEW\nPing(ACCEPT) loc $FW\n",
	}
	for _, name := range []string{"shorewall.conf", "conntrack"} {
		content, err := os.ReadFile("/usr/share/shorewall/configfiles/" + name)
		if err != nil {
			l.T.Fatalf("%v", err)
		}
		files[name] = string(content)
	}
	// A later line counts.
	files["shorewall.conf"] += "STARTUP_ENABLED=Yes\nAUTOHELPERS=Yes\nLOGFILE=/dev/null\nSTARTUP_LOG=\n"
	m.dir("/run", nil)
	m.dir("/var/lib/shorewall", nil)
	m.dir("/etc/shorewall", files)
	m.reload = []string{"shorewall", "reload"}
	m.Run("shorewall", "start")
	return m
}
