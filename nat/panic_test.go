package nat

import "testing"

// panickyKernel fails in a way that nobody thought of.
type panickyKernel struct{ fakeKernel }

func (k *panickyKernel) Apply(changes []Change) error {
	if len(k.applied) == 0 {
		k.fakeKernel.Apply(changes)
		panic("a fault")
	}
	return k.fakeKernel.Apply(changes)
}

// TestPanic has a message fail on its way. The engine must go on with the next.
func TestPanic(t *testing.T) {
	w := newWorld(t, nil)
	k := new(panickyKernel)
	w.engine.kernel = k
	func() {
		defer func() {
			if recover() == nil {
				t.Error("no panic")
			}
		}()
		w.send(phoneA, provider, inviteA)
	}()
	if !w.engine.mu.TryLock() {
		t.Fatal("the lock is kept")
	}
	w.engine.mu.Unlock()
	if w.send(provider, phoneA, answerA) == nil {
		t.Error("the answer was not rewritten")
	}
	opened := 0
	for _, c := range k.applied {
		if c.Verb == OpenBinding {
			opened++
		}
	}
	if opened != 1 {
		t.Errorf("the binding was opened %d times", opened)
	}
}
