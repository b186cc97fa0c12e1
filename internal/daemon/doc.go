// Package daemon puts the parts together: interfaces, the daemon's table,
// conntrack, the engine and the queues, the joined connections and the proxy mode,
// each a task that runs until the context ends.
package daemon
