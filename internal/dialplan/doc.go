// Package dialplan is what the administrator wants to happen to calls that go through
// the proxy: called numbers that are short, prefixed or replaced, a target for calls
// that are for nobody, headers that are taken away, codecs that are not offered, a log
// of calls, and hosts that are blocked because they fail too often. siproxd has plugins
// for these.
package dialplan
