package registrar

import "context"

// store is the registration file.
type store struct {
	wake chan struct{} // the configuration has changed
}

func (r *Registrar) load() {}

func (r *Registrar) keep(ctx context.Context) { <-ctx.Done() }
