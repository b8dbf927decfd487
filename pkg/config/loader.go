package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

var yamlLine = regexp.MustCompile(`line (\d+): `)

// origin is where a key got its value.
type origin struct {
	where string
	line  int
}

// loader carries one Load.
type loader struct {
	src       Source
	prefix    string
	variables map[string]string
	faults    Faults
	origins   map[string]origin
	// from names the variable or flag that is being read; empty while the file is.
	from string
	// nodes counts the values visited, so that aliases of aliases end.
	nodes int
}

func newLoader(src Source) *loader {
	l := &loader{src: src, prefix: src.EnvPrefix, origins: make(map[string]origin)}
	if l.prefix == "" {
		l.prefix = DefaultEnvPrefix
	}
	l.variables = make(map[string]string, len(src.Env))
	for _, entry := range src.Env {
		name, value, _ := strings.Cut(entry, "=")
		l.variables[name] = value
	}
	return l
}

func (l *loader) at(line int) origin {
	if l.from != "" {
		return origin{where: l.from}
	}
	name := l.src.File
	if name == "" {
		name = "configuration"
	}
	return origin{where: name + ":" + strconv.Itoa(line), line: line}
}

func (l *loader) fault(line int, key, format string, args ...any) {
	o := l.at(line)
	l.faults = append(l.faults, Fault{Where: o.where, Line: o.line, Key: shorten(key), Text: fmt.Sprintf(format, args...)})
}

// parse returns the only document's node, nil when the text is empty or faulty.
func (l *loader) parse(text []byte, key string) *yaml.Node {
	in := yaml.NewDecoder(bytes.NewReader(text))
	var doc, second yaml.Node
	if err := in.Decode(&doc); err != nil {
		if !errors.Is(err, io.EOF) {
			l.syntax(text, key, err)
		}
		return nil
	}
	switch err := in.Decode(&second); {
	case err == nil:
		l.fault(second.Line, key, "a second document, want only one")
	case !errors.Is(err, io.EOF):
		l.syntax(text, key, err)
	}
	if len(doc.Content) == 0 {
		return nil
	}
	return doc.Content[0]
}

// syntax turns the parser's error into a fault; the parser counts lines from 1 and says so only in its text.
func (l *loader) syntax(text []byte, key string, err error) {
	what := strings.TrimPrefix(err.Error(), "yaml: ")
	line := 1
	if m := yamlLine.FindStringSubmatch(what); m != nil {
		if n, numErr := strconv.Atoi(m[1]); numErr == nil {
			line = n
		}
		what = strings.Replace(what, m[0], "", 1)
	}
	for i, one := range bytes.Split(text, []byte("\n")) {
		// the parser names the line before or after a tab, never the reason
		if i+1 >= line-1 && i+1 <= line+1 && bytes.HasPrefix(bytes.TrimLeft(one, " "), []byte("\t")) {
			line, what = i+1, "indented with a tab, want spaces"
			break
		}
	}
	l.fault(line, key, "not YAML: %s", what)
}

// file reads the whole file: its section, or all of it, into v.
func (l *loader) file(text []byte, v reflect.Value) {
	root := l.parse(text, "")
	if root == nil {
		return
	}
	if l.src.Section == "" {
		l.decode(root, v, place{top: true})
		return
	}
	if root.Kind != yaml.MappingNode {
		l.fault(root.Line, "", "%s, want a section with the key %s", found(root), l.src.Section)
		return
	}
	known := append([]string{l.src.Section}, l.src.OtherSections...)
	for key, value := range l.entries(root, place{}) {
		switch {
		case key.Value == l.src.Section:
			l.decode(value, v, place{key: key.Value, line: key.Line})
		case !slices.Contains(known, key.Value):
			l.fault(key.Line, key.Value, "unknown key%s", didYouMean(key.Value, known))
		}
	}
}
