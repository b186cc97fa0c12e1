// Demo shows sipnatd at work: a private network with a real phone behind a
// firewall that drops what it does not know, a provider with a registrar and
// another phone outside, and a call between the two.
//
//	make demo                          # as root
//	go run ./internal/lab/demo         # the same, the packages being installed
//	go run ./internal/lab/demo -bin bin/sipnatd
//
// Everything happens in network namespaces of its own. The exit status is the
// truth: 0 if every check held.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"sipnatd/internal/lab"
)

func main() {
	bin := flag.String("bin", os.Getenv("SIPNATD_BIN"), "the daemon; built if not given")
	keep := flag.String("report", "", "directory for captures, traces and logs")
	flag.Parse()
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "demo: network namespaces need root")
		os.Exit(2)
	}
	if *bin != "" {
		path, err := filepath.Abs(*bin)
		if err != nil {
			fmt.Fprintln(os.Stderr, "demo:", err)
			os.Exit(2)
		}
		os.Setenv("SIPNATD_BIN", path)
	}
	if *keep != "" {
		os.Setenv("SIPNATD_LAB_OUT", *keep)
	}
	begin := time.Now()
	s := newStory(os.Stdout)
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-interrupted
		s.check(false, "interrupted")
		s.cleanUp()
		os.Exit(1)
	}()
	s.run(tell)
	s.end(time.Since(begin))
	if s.Failed() {
		os.Exit(1)
	}
}

// tell is the story.
func tell(s *story) {
	s.chapter("The network")
	s.text(topology)
	l := lab.New(s, lab.Options{Phones: 1, Outside: []string{"203.0.113.10", "198.51.100.20"}})
	d := &demo{story: s, Lab: l}
	if rules, _ := l.Firewall.Script(); rules != "" {
		s.say("\nThe firewall's rules. There is no hole for RTP, and none for SIP from outside:\n")
		s.text(rules)
	}

	d.start()
	d.register()
	d.call()
	d.signalling()
	d.kernel()
	d.media()
	d.hangUp()
}

const topology = `
   private network           firewall                          provider and beyond

  +---------------+      eth0 +---------+ ppp0           +-- 203.0.113.10   Kamailio, registrar
  | alice         |           |         |                |
  | 10.0.0.10     |-----------| sipnatd |----------------+
  | baresip       |  10.0.0.1 |         | 203.0.113.1    |
  +---------------+           +---------+                +-- 198.51.100.20  bob, baresip
`
