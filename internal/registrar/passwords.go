package registrar

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// maxFile bounds the files that are read, in bytes.
const maxFile = 64 << 20

// readPasswords reads siproxd's file of passwords: in each line a user and a password,
// with blanks between them. Lines that begin with # are comments, and of several
// passwords of a user the first one holds.
func readPasswords(name string, log *slog.Logger) (map[string]string, error) {
	text, mode, err := readFile(name)
	if err != nil {
		return nil, err
	}
	if mode&0o004 != 0 {
		log.Warn("proxy_auth_pwfile can be read by everybody on this machine", "file", name, "remedy", "chmod o= "+name)
	}
	passwords := make(map[string]string)
	number := 0
	for line := range bytes.Lines(text) {
		number++
		words := strings.Fields(string(line))
		switch {
		case len(words) == 0 || words[0][0] == '#':
			continue
		case len(words) == 1:
			log.Warn("a line of proxy_auth_pwfile has no password, and is left out", "file", name, "line", number)
			continue
		}
		if _, twice := passwords[words[0]]; twice {
			log.Warn("a user has a second password in proxy_auth_pwfile, which is left out", "file", name, "line", number)
			continue
		}
		passwords[words[0]] = words[1]
	}
	return passwords, nil
}

// readFile reads a regular file.
func readFile(name string) ([]byte, os.FileMode, error) {
	// Opening a pipe would wait for somebody who writes to it.
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	if !info.Mode().IsRegular() {
		return nil, 0, errors.New("it is not a regular file")
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, 0, err
	}
	if len(text) > maxFile {
		return nil, 0, fmt.Errorf("it is larger than %d MiB", maxFile>>20)
	}
	return text, info.Mode(), nil
}
