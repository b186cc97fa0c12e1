// Package state keeps what a process must know again after it has been killed at any
// moment: records by key, appended to a file by plain write(2) before anything is done
// that rests on them. Nothing is ever synced, since the state has to outlive the
// process only, not the machine, and counts for one boot and one network namespace.
//
// A [Log] is two files, NAME.0 and NAME.1. One of them is appended to. When it holds
// mostly outdated records, the other one becomes the one that is appended to, and each
// Flush copies a little of what still counts over to it, until the first can be
// emptied. So there is never a moment at which killing the process loses a record whose
// Flush has returned, no file is renamed, and the directory is not needed again once
// the process has given up its privileges.
package state
