package config

// A Value is the effective value of a setting.
type Value struct {
	Setting
	Text   string // as it would be written in the file
	Origin string // "default", "FILE:LINE" or "-d"
}

// Values returns the effective value of every setting, in the order of Settings.
func (c *Config) Values() []Value {
	return nil
}

// A Change is a setting whose value differs between two configurations.
type Change struct {
	Setting
	Old, New string // as they would be written in the file
}

// Changes returns what differs between two configurations, in the order of Settings.
func Changes(old, new *Config) []Change {
	return nil
}
