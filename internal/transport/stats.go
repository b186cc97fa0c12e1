package transport

// Stats counts what has happened since Open.
type Stats struct {
}
