package ere

import "errors"

// compiler turns the parts of an expression into instructions.
type compiler struct {
	prog []inst
	sets []set
}

func compile(text string) (*Pattern, error) {
	p := parser{text: text}
	n, err := p.alternatives()
	if err != nil {
		return nil, err
	}
	if p.text != "" {
		return nil, errors.New("a parenthesis closes nothing")
	}
	var c compiler
	c.emit(inst{op: opSave, x: 1, y: 0})
	c.compile(n)
	c.emit(inst{op: opSave, x: len(c.prog) + 1, y: 1})
	c.emit(inst{op: opMatch})
	if len(c.prog) > maxSize {
		return nil, errors.New("too long, with its repetitions")
	}
	return &Pattern{prog: c.prog, sets: c.sets, groups: p.groups}, nil
}

func (c *compiler) emit(i inst) int {
	if len(c.prog) <= maxSize { // more is refused at the end
		c.prog = append(c.prog, i)
	}
	return len(c.prog) - 1
}

// next is where the next instruction will stand.
func (c *compiler) next() int { return len(c.prog) }

// compile appends the instructions of a part, which go on behind the last one.
func (c *compiler) compile(n *node) {
	if len(c.prog) > maxSize {
		return
	}
	switch n.kind {
	case 'c':
		c.sets = append(c.sets, n.set)
		c.emit(inst{op: opSet, set: len(c.sets) - 1, x: c.next() + 1})
	case '^':
		c.emit(inst{op: opBegin, x: c.next() + 1})
	case '$':
		c.emit(inst{op: opEnd, x: c.next() + 1})
	case '.':
		for _, s := range n.subs {
			c.compile(s)
		}
	case '(':
		c.emit(inst{op: opSave, x: c.next() + 1, y: 2 * n.group})
		c.compile(n.subs[0])
		c.emit(inst{op: opSave, x: c.next() + 1, y: 2*n.group + 1})
	case '|':
		var jumps []int
		for i, s := range n.subs {
			if i == len(n.subs)-1 {
				c.compile(s)
				break
			}
			split := c.emit(inst{op: opSplit, x: c.next() + 1})
			c.compile(s)
			jumps = append(jumps, c.emit(inst{op: opJump}))
			c.prog[split].y = c.next()
		}
		for _, j := range jumps {
			c.prog[j].x = c.next()
		}
	case '*':
		for range n.min {
			c.compile(n.subs[0])
		}
		if n.max < 0 {
			split := c.emit(inst{op: opSplit, x: c.next() + 1})
			c.compile(n.subs[0])
			c.emit(inst{op: opJump, x: split})
			c.prog[split].y = c.next()
			return
		}
		var splits []int
		for range n.max - n.min {
			splits = append(splits, c.emit(inst{op: opSplit, x: c.next() + 1}))
			c.compile(n.subs[0])
		}
		for _, s := range splits {
			c.prog[s].y = c.next()
		}
	}
}

// A thread is a way through the automaton.
type thread struct {
	pc int
	at Match
}

// threads are those at one place of the text, the ones that began first in front. No
// two are at the same instruction: of those that would do the same from there on, the
// first one counts.
type threads struct {
	list []thread
	seen []bool
}

// find returns the leftmost longest match that begins at from or later.
func (p *Pattern) find(text []byte, from int) (best Match, ok bool) {
	now, then := threads{seen: make([]bool, len(p.prog))}, threads{seen: make([]bool, len(p.prog))}
	var none Match
	for i := range none {
		none[i] = -1
	}
	best = none
	for i := from; ; i++ {
		if !ok {
			p.follow(&now, 0, none, i, len(text))
		}
		if len(now.list) == 0 && ok {
			return best, true
		}
		for _, t := range now.list {
			in := &p.prog[t.pc]
			switch {
			case ok && t.at[0] > best[0]: // it began later
			case in.op == opMatch:
				if !ok || t.at[0] < best[0] || t.at[1] > best[1] {
					best, ok = t.at, true
				}
			case i < len(text) && p.sets[in.set].has(text[i]):
				p.follow(&then, in.x, t.at, i+1, len(text))
			}
		}
		if i >= len(text) {
			return best, ok
		}
		now.list = now.list[:0]
		clear(now.seen)
		now, then = then, now
	}
}

// follow adds a thread and, in the place of instructions that take no byte, those that
// they lead to.
func (p *Pattern) follow(t *threads, pc int, at Match, i, end int) {
	if t.seen[pc] {
		return
	}
	t.seen[pc] = true
	in := &p.prog[pc]
	switch in.op {
	case opJump:
		p.follow(t, in.x, at, i, end)
	case opSplit:
		p.follow(t, in.x, at, i, end)
		p.follow(t, in.y, at, i, end)
	case opSave:
		at[in.y] = int32(i)
		p.follow(t, in.x, at, i, end)
	case opBegin:
		if i == 0 {
			p.follow(t, in.x, at, i, end)
		}
	case opEnd:
		if i == end {
			p.follow(t, in.x, at, i, end)
		}
	default:
		t.list = append(t.list, thread{pc, at})
	}
}
