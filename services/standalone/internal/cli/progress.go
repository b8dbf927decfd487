package cli

import (
	"fmt"
	"io"
	"time"
)

const printEvery = 5 * time.Second // where lines cannot be written over

// progressLine shows how far something is: in place on a terminal, now and then elsewhere.
type progressLine struct {
	out      io.Writer
	terminal bool
	now      func() time.Time
	last     time.Time
}

func (p *progressLine) show(line string, ended bool) {
	switch {
	case p.terminal && ended:
		_, _ = fmt.Fprintf(p.out, "\r\x1b[K%s\n", line)
	case p.terminal:
		_, _ = fmt.Fprintf(p.out, "\r\x1b[K%s", line)
	case ended || p.now().Sub(p.last) >= printEvery:
		p.last = p.now()
		_, _ = fmt.Fprintln(p.out, line)
	}
}
