package main

import (
	"errors"
	"fmt"
	"io/fs"

	"sipnatd/internal/config"
)

// defaultConfigs are the files that are read where -c names none: the first that
// is there.
var defaultConfigs = [...]string{"/etc/sipnatd.conf", "/etc/siproxd.conf"}

// load reads the configuration. Where -c names no file and none of the usual ones
// is there, it is that of an empty file, with a warning.
func load(file string) (*config.Config, error) {
	if file != "" {
		cfg, err := config.Load(file)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("configuration: %w; an empty file is enough, -c names another", err)
		}
		return cfg, err
	}
	for _, name := range defaultConfigs {
		cfg, err := config.Load(name)
		if !errors.Is(err, fs.ErrNotExist) {
			return cfg, err
		}
	}
	cfg := config.Default()
	cfg.Warnings = append(cfg.Warnings, "there is neither "+defaultConfigs[0]+" nor "+defaultConfigs[1]+": every setting has its default")
	return cfg, nil
}
