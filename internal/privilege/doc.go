// Package privilege takes away from the process what it does not need: root,
// once everything that needs root is done ([Drop]), and the terminal, once it
// is ready ([Detach] and [Child]).
package privilege
