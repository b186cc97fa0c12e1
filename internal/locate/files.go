package locate

import (
	"bufio"
	"cmp"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// recheck is how often the files are looked at for changes.
const recheck = 5 * time.Second

// maxFile bounds how much of a file is read, in bytes. There are hosts files of
// megabytes that block advertisers.
const maxFile = 8 << 20

// files are resolv.conf and hosts, as they were when they were looked at last.
type files struct {
	cfg Config
	log *slog.Logger
	now func() time.Time

	mu     sync.Mutex
	looked time.Time
	stamps [2]stamp
	conf   resolvConf
	hosts  map[string][]netip.Addr
}

// stamp tells a file from what it was before.
type stamp struct {
	modified time.Time
	size     int64
}

// resolvConf is what resolv.conf says that concerns us.
type resolvConf struct {
	servers  []netip.AddrPort
	search   []string // domains that a name without a dot may be in
	timeout  time.Duration
	attempts int
}

func (f *files) open(cfg Config, log *slog.Logger) {
	cfg.ResolvConf = cmp.Or(cfg.ResolvConf, "/etc/resolv.conf")
	cfg.Hosts = cmp.Or(cfg.Hosts, "/etc/hosts")
	f.cfg, f.log, f.now = cfg, log, time.Now
	f.changed()
}

// due reports whether the files should be looked at.
func (f *files) due() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now().Sub(f.looked) >= recheck
}

// changed looks, if that is due, whether the files have changed, and reads them if so.
// Meanwhile they are as they were.
func (f *files) changed() bool {
	f.mu.Lock()
	now, before, read := f.now(), f.stamps, f.hosts != nil
	due := now.Sub(f.looked) >= recheck
	if due {
		f.looked = now
	}
	f.mu.Unlock()
	if !due {
		return false
	}
	var stamps [2]stamp
	for i, name := range []string{f.cfg.ResolvConf, f.cfg.Hosts} {
		if info, err := os.Stat(name); err == nil {
			stamps[i] = stamp{info.ModTime(), info.Size()}
		}
	}
	if stamps == before && read {
		return false
	}
	conf, hosts := readResolvConf(f.text(f.cfg.ResolvConf)), readHosts(f.text(f.cfg.Hosts))
	if len(f.cfg.Servers) > 0 {
		conf.servers = f.cfg.Servers
	}
	conf.timeout = cmp.Or(f.cfg.Timeout, conf.timeout)
	conf.attempts = cmp.Or(f.cfg.Attempts, conf.attempts)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stamps, f.conf, f.hosts = stamps, conf, hosts
	return true
}

// text returns the contents of a file, nothing if it can not be read.
func (f *files) text(name string) string {
	file, err := os.Open(name)
	if err != nil {
		f.log.Debug("not read", "error", err)
		return ""
	}
	defer file.Close()
	b, err := io.ReadAll(io.LimitReader(file, maxFile))
	if err != nil {
		f.log.Warn("not read to its end", "file", name, "error", err)
	}
	return string(b)
}

func (f *files) resolv() resolvConf {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.conf
}

// addresses returns what the hosts file says of a name, nil for nothing.
func (f *files) addresses(name string) []netip.Addr {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.hosts[name]
}

// lists reports whether the hosts file has a name.
func (f *files) lists(name string) bool { return f.addresses(name) != nil }

// names returns the names that a host may have: itself if it has a dot or stands in the
// hosts file, else with each of the search domains, and at last alone.
func (f *files) names(host string) []string {
	if strings.Contains(host, ".") || f.lists(host) {
		return []string{host}
	}
	var list []string
	for _, domain := range f.resolv().search {
		if name := host + "." + domain; validName(name) {
			list = append(list, name)
		}
	}
	return append(list, host)
}

// readResolvConf reads the format of resolv.conf(5), as leniently as the C library.
func readResolvConf(text string) resolvConf {
	c := resolvConf{timeout: 2 * time.Second, attempts: 2}
	for fields := range lines(text, "#;") {
		switch fields[0] {
		case "nameserver":
			if len(fields) > 1 && len(c.servers) < 3 {
				if addr, err := netip.ParseAddr(fields[1]); err == nil {
					c.servers = append(c.servers, netip.AddrPortFrom(addr, 53))
				}
			}
		case "domain", "search":
			c.search = nil
			for _, d := range fields[1:] {
				if d = strings.ToLower(strings.Trim(d, ".")); validName(d) && len(c.search) < 6 {
					c.search = append(c.search, d)
				}
			}
		case "options":
			for _, option := range fields[1:] {
				name, value, _ := strings.Cut(option, ":")
				n, err := strconv.Atoi(value)
				if err != nil || n < 1 {
					continue
				}
				switch name {
				case "timeout":
					c.timeout = time.Duration(min(n, 5)) * time.Second
				case "attempts":
					c.attempts = min(n, 5)
				}
			}
		}
	}
	if len(c.servers) == 0 {
		c.servers = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:53")}
	}
	return c
}

// readHosts reads the IPv4 addresses of a file in the format of hosts(5).
func readHosts(text string) map[string][]netip.Addr {
	hosts := make(map[string][]netip.Addr)
	for fields := range lines(text, "#") {
		addr, err := netip.ParseAddr(fields[0])
		if err != nil || !addr.Is4() {
			continue
		}
		for _, name := range fields[1:] {
			name = strings.ToLower(strings.TrimSuffix(name, "."))
			if list := hosts[name]; len(list) < maxTargets && !slices.Contains(list, addr) {
				hosts[name] = append(list, addr)
			}
		}
	}
	return hosts
}

// lines yields the fields of each line that has any, without comments.
func lines(text, comment string) func(yield func([]string) bool) {
	return func(yield func([]string) bool) {
		s := bufio.NewScanner(strings.NewReader(text))
		for s.Scan() {
			line := s.Text()
			if i := strings.IndexAny(line, comment); i >= 0 {
				line = line[:i]
			}
			if fields := strings.Fields(line); len(fields) > 0 && !yield(fields) {
				return
			}
		}
	}
}
