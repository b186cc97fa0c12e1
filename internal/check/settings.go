package check

import (
	"errors"
	"fmt"
	"os/user"

	"sipnatd/internal/config"
	"sipnatd/internal/privilege"
)

// settings passes on what is to be said about the configuration.
func settings(cfg *config.Config) []Finding {
	if len(cfg.Warnings) == 0 {
		return []Finding{{ID: Settings, Subject: "configuration", Text: cfg.File}}
	}
	var all []Finding
	for _, w := range cfg.Warnings {
		all = append(all, Finding{ID: Settings, Level: Note, Subject: "configuration", Text: w})
	}
	return all
}

// account finds out whether the daemon can become its user, and can then read its
// configuration again.
func account(cfg *config.Config, exists func(name string) error, reads func(name, path string) error) []Finding {
	if cfg.User == "" {
		return []Finding{{ID: User, Subject: "user", Text: "none is set: the daemon stays what it is started as"}}
	}
	subject := "user = " + cfg.User
	if err := exists(cfg.User); err != nil {
		return []Finding{{ID: User, Level: Fault, Subject: subject, Text: err.Error(), Remedy: "useradd --system --shell /usr/sbin/nologin " + cfg.User}}
	}
	all := []Finding{{ID: User, Subject: subject, Text: "there is such a user"}}
	if cfg.File == "" {
		return all
	}
	switch err := reads(cfg.User, cfg.File); {
	case err == nil:
		return append(all, Finding{ID: ConfigFile, Subject: cfg.File, Text: "the user can read it again"})
	case errors.Is(err, privilege.ErrNotRoot):
		return append(all, Finding{ID: ConfigFile, Level: Note, Subject: cfg.File, Text: "whether the user can read it again was not tried: " + err.Error()})
	default:
		return append(all, Finding{ID: ConfigFile, Level: Warning, Subject: cfg.File,
			Text:   "the user cannot read it, so that SIGHUP changes nothing: " + err.Error(),
			Remedy: fmt.Sprintf("chgrp %s %[2]s && chmod g+r %[2]s", groupOf(cfg.User), cfg.File)})
	}
}

// groupOf is a user's own group.
func groupOf(name string) string {
	if u, err := user.Lookup(name); err == nil {
		return u.Gid
	}
	return name
}
