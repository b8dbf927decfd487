package check

import (
	"context"
	"time"

	"github.com/millrace/millrace/test/torture/ledger"
)

// Store is one check that can be asked again while the store catches up.
type Store struct {
	Name  string
	Check func(ctx context.Context) (Verdict, error)
}

// Stores returns the checks of every table, in the order in which they fill.
func Stores(s func() Source, l *ledger.Ledger) []Store {
	return []Store{
		{"device_messages", func(ctx context.Context) (Verdict, error) { return Rows(ctx, s(), l, "device_messages") }},
		{"logs", func(ctx context.Context) (Verdict, error) { return Logs(ctx, s(), l) }},
		{"dead_letters", func(ctx context.Context) (Verdict, error) { return Letters(ctx, s(), l) }},
		{"device_state", func(ctx context.Context) (Verdict, error) { return State(ctx, s(), l) }},
		{"aggregates 10s", func(ctx context.Context) (Verdict, error) { return Windows(ctx, s(), 10) }},
		{"aggregates 60s", func(ctx context.Context) (Verdict, error) { return Windows(ctx, s(), 60) }},
		{"alarms", func(ctx context.Context) (Verdict, error) { return Alarms(ctx, s(), l) }},
	}
}

// Archive returns the check of the closed files, as SQL sees them.
func Archive(s func() Source, l *ledger.Ledger) Store {
	return Store{"archive", func(ctx context.Context) (Verdict, error) { return Rows(ctx, s(), l, "archive") }}
}

// doubledPatience is shorter: what is there twice seldom goes away.
const doubledPatience = 10 * time.Second

// Settle asks until the verdict is clean, or nothing has changed for so long that nothing will. The error is the last one.
func (c Store) Settle(ctx context.Context, patience time.Duration) (Verdict, error) {
	const every = 500 * time.Millisecond
	changed, last := time.Now(), Verdict{}
	for {
		v, err := c.Check(ctx)
		if v.Store == "" {
			v.Store = c.Name
		}
		switch {
		case err == nil && v.Clean():
			return v, nil
		case v.Found != last.Found || v.Lost != last.Lost || v.Doubled != last.Doubled || v.Unexpected != last.Unexpected:
			changed, last = time.Now(), v
		case time.Since(changed) > patience || err == nil && v.Doubled > 0 && v.Lost == 0 && time.Since(changed) > doubledPatience:
			return v, err
		}
		select {
		case <-ctx.Done():
			return v, ctx.Err()
		case <-time.After(every):
		}
	}
}
