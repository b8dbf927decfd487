package clickhouse

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/millrace/millrace/pkg/store/answer"
)

// bind puts params, as literals, in the place of the question marks of sql, or of $1, $2, … Texts, quoted names and comments are left
// as they are. Without params sql is not looked at, since ClickHouse has a use of its own for the question mark.
func bind(sql string, params []any) (string, error) {
	if len(params) == 0 {
		return sql, nil
	}
	b := binder{sql: sql, params: params, used: make([]bool, len(params))}
	if err := b.bind(); err != nil {
		return "", fmt.Errorf("%w: %w", answer.ErrInvalid, err)
	}
	return b.out.String(), nil
}

type binder struct {
	sql    string
	params []any
	used   []bool
	marks  int // question marks so far
	out    strings.Builder
}

func (b *binder) bind() error {
	for at := 0; at < len(b.sql); {
		end := skip(b.sql, at)
		if end == at {
			n, after := b.placeholder(at)
			if n == 0 {
				b.out.WriteByte(b.sql[at])
				at++
				continue
			}
			if n > len(b.params) {
				return fmt.Errorf("parameter %d of %d", n, len(b.params))
			}
			text, err := literal(b.params[n-1])
			if err != nil {
				return fmt.Errorf("parameter %d: %w", n, err)
			}
			b.used[n-1] = true
			b.out.WriteString(text)
			end = after
		} else {
			b.out.WriteString(b.sql[at:end])
		}
		at = end
	}
	for i, used := range b.used {
		if !used {
			return fmt.Errorf("parameter %d of %d has no place in the query", i+1, len(b.params))
		}
	}
	return nil
}

// placeholder returns which parameter stands at a place, 0 for none, and where it ends.
func (b *binder) placeholder(at int) (n, end int) {
	if b.sql[at] == '?' {
		b.marks++
		return b.marks, at + 1
	}
	if b.sql[at] != '$' {
		return 0, at
	}
	end = at + 1
	for end < len(b.sql) && b.sql[end] >= '0' && b.sql[end] <= '9' {
		end++
	}
	n, err := strconv.Atoi(b.sql[at+1 : end])
	if err != nil || n < 1 || end < len(b.sql) && (isWord(b.sql[end]) || b.sql[end] == '$') {
		return 0, at
	}
	return n, end
}

func isWord(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}

// skip returns the end of what begins at a place and holds no placeholders: a text, a quoted name, a comment, a word; at itself where
// there is none.
func skip(sql string, at int) int {
	rest := sql[at:]
	switch c := sql[at]; {
	case c == '\'' || c == '"' || c == '`':
		return at + quotedLen(rest)
	case strings.HasPrefix(rest, "--"), strings.HasPrefix(rest, "//"), strings.HasPrefix(rest, "# "), strings.HasPrefix(rest, "#!"):
		return at + lenThrough(rest, 0, "\n")
	case strings.HasPrefix(rest, "/*"):
		return at + lenThrough(rest, 2, "*/")
	case c == '$':
		if tag := heredocTag(rest); tag != "" {
			return at + lenThrough(rest, len(tag), tag)
		}
	case isWord(c): // as a whole, so that a$1 is no placeholder
		end := at
		for end < len(sql) && (isWord(sql[end]) || sql[end] == '$') {
			end++
		}
		return end
	}
	return at
}

// quotedLen returns the length of what begins with a quote, through the same one; a backslash takes the meaning of what follows it.
func quotedLen(s string) int {
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case s[0]:
			return i + 1 // of '' the second begins another
		}
	}
	return len(s)
}

func lenThrough(s string, from int, end string) int {
	if i := strings.Index(s[from:], end); i >= 0 {
		return from + i + len(end)
	}
	return len(s)
}

// heredocTag returns $tag$ where s begins with one and has it a second time, else "".
func heredocTag(s string) string {
	for i := 1; i < len(s); i++ {
		if s[i] == '$' {
			tag := s[:i+1]
			if strings.Contains(s[i+1:], tag) {
				return tag
			}
			return ""
		}
		if !isWord(s[i]) {
			return ""
		}
	}
	return ""
}

// literal returns v as ClickHouse reads it.
func literal(v any) (string, error) {
	switch v := v.(type) {
	case nil:
		return "NULL", nil
	case bool:
		return strconv.FormatBool(v), nil
	case string:
		return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`, "\x00", `\0`).Replace(v) + "'", nil
	case float64:
		const exact = 1 << 53
		text := strconv.FormatFloat(v, 'g', -1, 64)
		if v == float64(int64(v)) && v > -exact && v < exact {
			text = strconv.FormatInt(int64(v), 10) // LIMIT and the like take no fractions
		}
		if v < 0 {
			text = "(" + text + ")" // two minus signs begin a comment
		}
		return text, nil
	}
	return "", fmt.Errorf("a %T, want text, a number, true, false or null", v)
}
