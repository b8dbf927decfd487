package store

import (
	"errors"
	"fmt"

	"github.com/millrace/millrace/pkg/telemetry"
)

// Validate reports what no engine takes: names that are no identifiers, a limit below 1, an operator or a value of a type that
// Condition does not know, keys of After that do not match Order. Whether the table has the columns is for the driver to say.
func (s *Selection) Validate() error {
	var errs []error
	add := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("select from %.100q: "+format, append([]any{s.Table}, args...)...))
	}
	if s.Limit < 1 {
		add("limit %d, want at least 1", s.Limit)
	}
	if len(s.Columns) == 0 || len(s.Order) == 0 {
		add("%d columns ordered by %d, want at least one each", len(s.Columns), len(s.Order))
	}
	if s.After != nil && len(s.After) != len(s.Order) {
		add("%d keys for %d columns of order", len(s.After), len(s.Order))
	}
	if !identifiers(s.Table) || !identifiers(s.Columns...) || !identifiers(s.Order...) {
		add("a name that is none")
	}
	for _, k := range s.After {
		switch k.(type) {
		case string, bool, int64, float64, telemetry.Time:
		default:
			add("a key of type %T", k)
		}
	}
	for _, c := range s.Where {
		if err := c.validate(); err != nil {
			add("condition on %.200q: %w", c.Columns, err)
		}
	}
	return errors.Join(errs...)
}

func (c *Condition) validate() error {
	if len(c.Columns) == 0 || !identifiers(c.Columns...) {
		return errors.New("want names of columns")
	}
	ok := false
	switch c.Op {
	case Equal, NotEqual:
		switch c.Value.(type) {
		case string, bool, int64:
			ok = true
		}
	case AtLeast, Below:
		_, ok = c.Value.(telemetry.Time)
	case In:
		values, texts := c.Value.([]string)
		ok = texts && len(values) > 0
	case Contains:
		_, ok = c.Value.(string)
	default:
		return fmt.Errorf("operator %d is not known", c.Op)
	}
	if !ok {
		return fmt.Errorf("a value of type %T, or an empty one", c.Value)
	}
	return nil
}

// identifiers reports whether all names are small letters, digits and underscores, beginning with a letter, as those of every
// table and column of ours are.
func identifiers(names ...string) bool {
	for _, name := range names {
		for i, c := range []byte(name) {
			if (c < 'a' || c > 'z') && c != '_' && (c < '0' || c > '9' || i == 0) {
				return false
			}
		}
		if name == "" || len(name) > 64 {
			return false
		}
	}
	return true
}
