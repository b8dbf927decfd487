package config

import (
	"fmt"
	"iter"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// place is where in the configuration a value stands.
type place struct {
	key   string
	enum  []string
	depth int
	// line is the key's; 0 for what has no key of its own.
	line int
	// top is set for the whole file, where other sections may stand.
	top bool
}

func (p place) below(key string) place { return place{key: key, depth: p.depth + 1} }

// decode reads n into v, which is settable, and collects faults; v keeps its value where there is one.
func (l *loader) decode(n *yaml.Node, v reflect.Value, p place) {
	if p.line == 0 {
		p.line = n.Line
	}
	if !l.spend(n, p) {
		return
	}
	if n.Style&yaml.TaggedStyle != 0 {
		l.fault(n.Line, p.key, "has the tag %s, want none", n.Tag)
		return
	}
	if p.depth > DepthMax {
		l.fault(n.Line, p.key, "nested deeper than %d levels", DepthMax)
		return
	}
	if p.key != "" {
		l.origins[p.key] = l.at(p.line)
	}
	if n.Kind == yaml.AliasNode {
		p.depth++
		l.decode(n.Alias, v, p)
		return
	}
	switch t := v.Type(); {
	case isScalar(t):
		l.scalar(n, v, p)
	case t.Kind() == reflect.Pointer:
		l.pointer(n, v, p)
	case t.Kind() == reflect.Slice:
		l.list(n, v, p)
	case t.Kind() == reflect.Map:
		l.mapping(n, v, p)
	default:
		l.section(n, v, p)
	}
}

// spend counts one value, and is false when there have been too many of them or of their faults.
func (l *loader) spend(n *yaml.Node, p place) bool {
	l.nodes++
	if l.nodes == NodesMax+1 {
		l.fault(n.Line, p.key, "more than %d values with all aliases followed", NodesMax)
	}
	return l.nodes <= NodesMax && len(l.faults) < FaultsMax
}

// found describes in a few words what stands in the file.
func found(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.AliasNode && n.Alias != nil && n.Alias.Kind != yaml.AliasNode:
		return found(n.Alias)
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.Kind == yaml.MappingNode:
		return "a section"
	case isNull(n):
		return "is empty"
	}
	return quote(n.Value)
}

// quote shows at most the beginning of a long value.
func quote(text string) string {
	const longest = 80
	if len(text) > longest {
		return strconv.Quote(text[:longest]) + "…"
	}
	return strconv.Quote(text)
}

// shorten keeps a key's end, which tells more than its beginning.
func shorten(key string) string {
	const longest = 200
	if len(key) > longest {
		return "…" + key[len(key)-longest:]
	}
	return key
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

func (l *loader) scalar(n *yaml.Node, v reflect.Value, p place) {
	want := wanted(v.Type(), p.enum)
	if n.Kind != yaml.ScalarNode || isNull(n) {
		l.fault(n.Line, p.key, "%s, want %s", found(n), want)
		return
	}
	text, expanded, err := l.expand(n.Value)
	if err != nil {
		l.fault(n.Line, p.key, "%v", err)
		return
	}
	if err := setScalar(v, text, p.enum); err != nil {
		// what a variable held may be a secret: the reference is shown, not its value
		shown := quote(n.Value)
		if expanded {
			shown += " (filled in)"
		}
		l.fault(n.Line, p.key, "%s, %v", shown, hideValue(err, want, expanded))
	}
}

// hideValue keeps errors of foreign types, which may quote their input, from showing what a variable held.
func hideValue(err error, want string, expanded bool) error {
	if expanded {
		return fmt.Errorf("want %s", want)
	}
	return err
}

func (l *loader) pointer(n *yaml.Node, v reflect.Value, p place) {
	if isNull(n) {
		v.SetZero()
		return
	}
	if v.IsNil() {
		v.Set(newDefault(v.Type().Elem()).Addr())
	}
	l.decode(n, v.Elem(), p)
}

func (l *loader) list(n *yaml.Node, v reflect.Value, p place) {
	if n.Kind != yaml.SequenceNode {
		l.fault(n.Line, p.key, "%s, want a list%s", found(n), emptyHint(n, "[]"))
		return
	}
	items := reflect.MakeSlice(v.Type(), 0, min(len(n.Content), NodesMax))
	for i, item := range n.Content {
		one := newDefault(v.Type().Elem())
		below := p.below(fmt.Sprintf("%s[%d]", p.key, i))
		below.enum = p.enum
		l.decode(item, one, below)
		items = reflect.Append(items, one)
	}
	v.Set(items)
}

func (l *loader) mapping(n *yaml.Node, v reflect.Value, p place) {
	if n.Kind != yaml.MappingNode {
		l.fault(n.Line, p.key, "%s, want a section of names and values%s", found(n), emptyHint(n, "{}"))
		return
	}
	items := reflect.MakeMap(v.Type())
	for key, value := range l.entries(n, p) {
		name := reflect.New(v.Type().Key()).Elem()
		if err := setScalar(name, key.Value, nil); err != nil {
			l.fault(key.Line, join(p.key, key.Value), "name %s, %v", quote(key.Value), err)
			continue
		}
		one := newDefault(v.Type().Elem())
		below := p.below(join(p.key, key.Value))
		below.enum, below.line = p.enum, key.Line
		l.decode(value, one, below)
		items.SetMapIndex(name, one)
	}
	v.Set(items)
}

func emptyHint(n *yaml.Node, none string) string {
	if isNull(n) {
		return " (" + none + " for none)"
	}
	return ""
}

func (l *loader) section(n *yaml.Node, v reflect.Value, p place) {
	if isNull(n) {
		return // a section whose keys are all commented out
	}
	keys := keysOf(v.Type())
	if n.Kind != yaml.MappingNode {
		l.fault(n.Line, p.key, "%s, want a section%s", found(n), withKeys(keys))
		return
	}
	fields := fieldsOf(v.Type())
	for key, value := range l.entries(n, p) {
		i := slices.IndexFunc(fields, func(f field) bool { return f.key == key.Value })
		if i >= 0 {
			below := p.below(join(p.key, key.Value))
			below.enum, below.line = fields[i].enum, key.Line
			l.decode(value, v.FieldByIndex(fields[i].index), below)
			continue
		}
		if p.top {
			keys = append(keysOf(v.Type()), l.src.OtherSections...)
			if slices.Contains(keys, key.Value) {
				continue
			}
		} else if l.src.Partly {
			continue
		}
		l.fault(key.Line, join(p.key, key.Value), "unknown key%s", didYouMean(key.Value, keys))
	}
}

func withKeys(keys []string) string {
	if len(keys) == 0 || len(keys) > listedMax {
		return ""
	}
	return " with " + strings.Join(keys, ", ")
}

// entries yields the pairs of a mapping, and reports keys that are given twice or are no plain text.
func (l *loader) entries(n *yaml.Node, p place) iter.Seq2[*yaml.Node, *yaml.Node] {
	return func(yield func(key, value *yaml.Node) bool) {
		lines := make(map[string]int, len(n.Content)/2)
		for i := 0; i+1 < len(n.Content); i += 2 {
			key, value := n.Content[i], n.Content[i+1]
			if !l.spend(key, p) {
				return
			}
			full := join(p.key, key.Value)
			first, double := lines[key.Value]
			switch {
			case key.Kind != yaml.ScalarNode:
				l.fault(key.Line, p.key, "%s as a key, want plain text", found(key))
				continue
			case key.ShortTag() == "!!merge":
				l.fault(key.Line, full, "merge keys are not read, write the keys out or use an alias for a whole value")
				continue
			case double:
				l.fault(key.Line, full, "given twice, first in line %d", first)
				continue
			}
			lines[key.Value] = key.Line
			if !yield(key, value) {
				return
			}
		}
	}
}
