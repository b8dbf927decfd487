package virtual

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/millrace/millrace/pkg/bus"
	busmem "github.com/millrace/millrace/pkg/bus/mem"
	"github.com/millrace/millrace/pkg/store"
	storemem "github.com/millrace/millrace/pkg/store/mem"
)

var errBroken = errors.New("the connection broke")

// refuseMessages is the channel type of rows that no store of history takes.
const refuseMessages = "refused"

// fired is one call that failed: which one, and how.
type fired struct {
	call string
	n    int
	how  string
}

func (f fired) String() string { return fmt.Sprintf("%s #%d: %s", f.call, f.n, f.how) }

// How a call may fail.
const (
	howError = "error"
	howCrash = "crash"
	howHang  = "hang"
	howSlow  = "slow"
	howFull  = "full"
)

// decide says how the next call of that name fails; "" not at all.
func (s *sim) decide(p *process, call string, weight float64, how ...string) (string, uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := p.name + " " + call
	n := s.calls[name]
	s.calls[name]++
	if s.quiet {
		return "", 0
	}
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:], s.plan.seed)
	binary.LittleEndian.PutUint64(b[8:], uint64(n))
	h := xxhash.Sum64(append(b[:], name...))
	chosen := how[h>>40%uint64(len(how))]
	at := fired{name, n, chosen}
	switch {
	case s.plan.only != nil:
		if !s.plan.only[at] {
			return "", h
		}
	case s.plan.budget <= len(s.fired) || float64(h%(1<<32))/(1<<32) >= s.plan.rate*weight:
		return "", h
	}
	s.fired = append(s.fired, at)
	return chosen, h
}

// fail makes a call of p wait, fail or die as the seed says.
func (s *sim) fail(ctx context.Context, p *process, call string, weight float64, how ...string) error {
	if err := p.gate(); err != nil {
		return err
	}
	chosen, h := s.decide(p, call, weight, how...)
	if chosen != "" {
		s.note("%s %s: %s", p.name, call, chosen)
	}
	switch chosen {
	case howError:
		return errBroken
	case howFull:
		return bus.ErrFull
	case howCrash:
		p.crash()
		return busmem.ErrCrashed
	case howHang:
		if err := p.wait(ctx, time.Duration(h%30)*time.Second); err != nil {
			return err
		}
		return errBroken
	case howSlow:
		return p.wait(ctx, time.Duration(h%3000)*time.Millisecond)
	}
	return nil
}

// busFaults are those of p's handle on the log.
func (s *sim) busFaults(p *process) busmem.Faults {
	return busmem.Faults{
		BeforeAppend: func(ctx context.Context, id bus.PartitionID, recs []bus.Record) error {
			s.noteAppend(p, "append", id, recs)
			return s.fail(ctx, p, "append "+id.String(), 2, howError, howCrash, howHang, howSlow, howFull)
		},
		AfterAppend: func(ctx context.Context, id bus.PartitionID, recs []bus.Record) error {
			s.noteAppend(p, "appended", id, recs)
			return s.fail(ctx, p, "appended "+id.String(), 2, howError, howCrash, howHang)
		},
		BeforeAsk: func(ctx context.Context, id bus.PartitionID) error {
			return s.fail(ctx, p, "ask "+id.String(), 0.1, howError, howSlow, howCrash)
		},
		BeforeRead: func(ctx context.Context, id bus.PartitionID, _ bus.Position) error {
			return s.fail(ctx, p, "read "+id.String(), 0.3, howError, howSlow, howCrash)
		},
		BeforeCommit: func(ctx context.Context, group string, id bus.PartitionID, progress bus.Progress) error {
			s.note("%s commit %s %v through %v", p.name, group, id, progress.Through)
			return s.fail(ctx, p, "commit "+id.String(), 1, howError, howCrash, howHang)
		},
		AfterCommit: func(ctx context.Context, _ string, id bus.PartitionID, _ bus.Progress) error {
			return s.fail(ctx, p, "committed "+id.String(), 1, howError, howCrash)
		},
	}
}

// storeFaults are those of p's handle on the stores.
func (s *sim) storeFaults(p *process) storemem.Faults {
	return storemem.Faults{
		Before: func(ctx context.Context, c storemem.Call) error {
			call := c.Op.String() + " " + c.Table
			switch c.Op {
			case storemem.OpWrite, storemem.OpFlush:
				s.note("%s %s: %d rows, %s", p.name, call, c.Rows, spans(c.Spans))
				return s.fail(ctx, p, call+at(c.Spans), 2, howError, howCrash, howHang, howSlow)
			default:
				return s.fail(ctx, p, call, 0.5, howError, howCrash, howHang)
			}
		},
		After: func(ctx context.Context, c storemem.Call) error {
			s.note("%s %s is done: %s", p.name, c.Op.String()+" "+c.Table, spans(c.Spans))
			return s.fail(ctx, p, "done "+c.Op.String()+" "+c.Table+at(c.Spans), 2, howError, howCrash, howHang)
		},
		Refuse: func(table string, row any) string {
			m, ok := row.(*store.MessageRow)
			if !ok || m.ChannelType != refuseMessages || table != store.TableMessages && table != storemem.TableSegments {
				return ""
			}
			return "this engine does not take it"
		},
	}
}

// at names the share of a write.
func at(all []store.Span) string {
	if len(all) == 0 {
		return ""
	}
	return fmt.Sprintf("[%d]", all[0].Partition.Number)
}

func spans(all []store.Span) string {
	text := ""
	for _, s := range all {
		text += fmt.Sprintf(" %v %v..%v", s.Partition, s.After, s.Through.Through)
	}
	return text
}

// sortFired orders faults so that a shrunk list reads well.
func sortFired(all []fired) {
	slices.SortFunc(all, func(a, b fired) int { return cmp.Or(cmp.Compare(a.call, b.call), cmp.Compare(a.n, b.n)) })
}
