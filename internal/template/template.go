// Package template fills in texts in the language of text/template, as far as rule files
// need it: no pipelines, one variable in range. It reads them with text/template/parse.
// What text/template does with them finds methods by their names, for which the linker
// keeps every exported method of the whole program: a sixth of the daemon.
//
// False are all zero values, those of structs too, and empty lists.
package template

import (
	"fmt"
	"io"
	"maps"
	"reflect"
	"text/template/parse"
)

// Functions are called by their names. They have one result, and no variable number of
// arguments.
type Functions map[string]any

// Methods is a value with methods for templates: what is no field of it is looked for
// among them.
type Methods interface {
	Methods() Functions
}

// Set is texts that can name each other.
type Set struct {
	functions Functions
	texts     map[string]*parse.Tree
}

// New returns a set without texts. Besides functions there are "index" and "not".
func New(functions Functions) *Set {
	own := Functions{
		"index": func(list any, i int) any { return reflect.ValueOf(list).Index(i).Interface() },
		"not":   func(v any) bool { return !truth(v) },
	}
	maps.Copy(own, functions)
	return &Set{own, make(map[string]*parse.Tree)}
}

// Add takes in a text, with those that it defines.
func (s *Set) Add(name, text string) error {
	trees, err := parse.Parse(name, text, "", "", s.functions)
	maps.Copy(s.texts, trees)
	return err
}

// Execute writes a text that is filled in with what dot has. The error names the place
// in the text.
func (s *Set) Execute(w io.Writer, name string, dot any) (err error) {
	tree, ok := s.texts[name]
	if !ok {
		return fmt.Errorf("there is no template %q", name)
	}
	r := &run{set: s, out: w, vars: map[string]any{"$": dot}, at: tree.Root}
	defer func() {
		if x := recover(); x != nil {
			place, _ := tree.ErrorContext(r.at)
			err = fmt.Errorf("%s: %v: %v", place, r.at, x)
		}
	}()
	r.node(tree.Root, dot)
	return nil
}

// run is a text on its way. Its methods panic for what is wrong with the text.
type run struct {
	set  *Set
	out  io.Writer
	vars map[string]any
	at   parse.Node // for errors
}

func (r *run) node(n parse.Node, dot any) {
	switch n := n.(type) {
	case *parse.ListNode:
		if n == nil { // there is no else
			return
		}
		for _, one := range n.Nodes {
			r.node(one, dot)
		}
	case *parse.TextNode:
		r.write(string(n.Text))
	case *parse.ActionNode:
		r.write(r.pipe(n.Pipe, dot))
	case *parse.TemplateNode:
		v := r.pipe(n.Pipe, dot)
		r.at = n
		if err := r.set.Execute(r.out, n.Name, v); err != nil {
			panic(err)
		}
	case *parse.IfNode:
		r.branch(&n.BranchNode, dot, func(any) { r.node(n.List, dot) })
	case *parse.WithNode:
		r.branch(&n.BranchNode, dot, func(v any) { r.node(n.List, v) })
	case *parse.RangeNode:
		r.branch(&n.BranchNode, dot, func(list any) {
			for _, v := range reflect.ValueOf(list).Seq2() {
				for _, name := range n.Pipe.Decl {
					r.vars[name.Ident[0]] = v.Interface()
				}
				r.node(n.List, v.Interface())
			}
		})
	default:
		panic(fmt.Sprintf("%v is not understood", n))
	}
}

func (r *run) write(v any) {
	if _, err := fmt.Fprint(r.out, v); err != nil {
		panic(err)
	}
}

// branch does something with the value of an action, if there is one.
func (r *run) branch(n *parse.BranchNode, dot any, do func(v any)) {
	if v := r.pipe(n.Pipe, dot); truth(v) {
		do(v)
	} else {
		r.node(n.ElseList, dot)
	}
}

func truth(v any) bool {
	x := reflect.ValueOf(v)
	return x.IsValid() && !x.IsZero() && (x.Kind() != reflect.Slice || x.Len() > 0)
}

// pipe returns what a function makes of its arguments, or what is there in its place.
func (r *run) pipe(p *parse.PipeNode, dot any) any {
	if p == nil {
		return nil
	}
	r.at = p
	if len(p.Cmds) != 1 {
		panic("pipelines are not understood")
	}
	values := p.Cmds[0].Args
	var in []reflect.Value
	for _, a := range values[1:] {
		in = append(in, reflect.ValueOf(call(r.value(a, dot))))
	}
	return call(r.value(values[0], dot), in...)
}

// value returns what an operand stands for. Functions and methods are not called.
func (r *run) value(n parse.Node, dot any) any {
	switch n := n.(type) {
	case *parse.DotNode:
		return dot
	case *parse.StringNode:
		return n.Text
	case *parse.NumberNode:
		return int(n.Int64)
	case *parse.IdentifierNode:
		return r.set.functions[n.Ident]
	case *parse.FieldNode:
		return field(dot, n.Ident)
	case *parse.VariableNode:
		return field(r.vars[n.Ident[0]], n.Ident[1:])
	case *parse.PipeNode:
		return r.pipe(n, dot)
	}
	panic(fmt.Sprintf("%v is not understood", n))
}

// field follows names to a field or method.
func field(v any, names []string) any {
	for _, name := range names {
		var f reflect.Value
		if x := reflect.Indirect(reflect.ValueOf(v)); x.Kind() == reflect.Struct {
			f = x.FieldByName(name)
		}
		if m, ok := v.(Methods); ok && !f.IsValid() {
			f = reflect.ValueOf(m.Methods()[name])
		}
		if !f.IsValid() {
			panic(fmt.Sprintf("%T has no %s", v, name))
		}
		v = f.Interface()
	}
	return v
}

// call returns the result of a function, or what is not one as it is.
func call(f any, in ...reflect.Value) any {
	x := reflect.ValueOf(f)
	if x.Kind() == reflect.Func {
		return x.Call(in)[0].Interface()
	}
	if len(in) > 0 {
		panic(fmt.Sprintf("%v is not a function", f))
	}
	return f
}
