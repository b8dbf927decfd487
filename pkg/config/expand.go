package config

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// referencedBytesMax is the size of the largest file that ${file:…} takes.
const referencedBytesMax = 64 << 10

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// expand replaces ${VAR}, ${VAR:-default} and ${file:/path}; changed tells whether there was any.
func (l *loader) expand(text string) (result string, changed bool, err error) {
	var out strings.Builder
	for {
		before, after, found := strings.Cut(text, "${")
		if !found {
			out.WriteString(text)
			return out.String(), changed, nil
		}
		if strings.HasSuffix(before, "$") {
			out.WriteString(before + "{") // "$${" is a literal "${": the first dollar stands in for both
			text = after
			continue
		}
		reference, rest, closed := strings.Cut(after, "}")
		if !closed {
			return "", changed, errors.New(`"${" without its "}", write $${ for a plain one`)
		}
		value, err := l.resolve(reference)
		if err != nil {
			return "", changed, err
		}
		out.WriteString(before + value)
		text, changed = rest, true
	}
}

func (l *loader) resolve(reference string) (string, error) {
	if path, ok := strings.CutPrefix(reference, "file:"); ok {
		text, err := readBounded(path, referencedBytesMax)
		if err != nil {
			return "", fmt.Errorf("${%s}: %w", reference, err)
		}
		return strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r"), nil
	}
	name, fallback, hasFallback := strings.Cut(reference, ":-")
	if !variableName.MatchString(name) {
		return "", fmt.Errorf("${%s} names no variable, write $${ for a plain ${", reference)
	}
	value, set := l.variables[name]
	switch {
	case hasFallback && value == "":
		return fallback, nil
	case !set:
		return "", fmt.Errorf("variable %s is not set, write ${%s:-text} for a default", name, name)
	}
	return value, nil
}
