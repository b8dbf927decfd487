package config

import (
	"fmt"
	"io"
	"regexp"
	"strings"
)

var (
	// plainText needs no quotes in YAML, nor inside its flow style.
	plainText = regexp.MustCompile(`^[A-Za-z0-9/._$+-]([A-Za-z0-9/._$+ -]|:[^ \[\]{},#&*!|>'"%@` + "`" + `\\\s])*$`)
	// wordWithMeaning is read as something else than text by this or another reader of YAML, or is awkward in a list.
	wordWithMeaning = regexp.MustCompile(`(?i)^(true|false|yes|no|on|off|null|y|n|-.*|.* |\.\.\.)$`)
)

// Markdown writes one table for each top-level key, headed by the key and its doc, with a row for each key below it in
// the order given. A top-level key that is no section gets a row in a table without a heading, before the others.
func Markdown(w io.Writer, keys ...Key) error {
	var plain, rest []Key
	for i, k := range keys {
		lonely := !strings.ContainsAny(k.Key, ".[") && !k.Section &&
			(i+1 == len(keys) || !strings.HasPrefix(keys[i+1].Key, k.Key+"."))
		if lonely {
			plain = append(plain, k)
		} else {
			rest = append(rest, k)
		}
	}
	m := &markdown{w: w}
	if len(plain) > 0 {
		m.table(plain)
	}
	for len(rest) > 0 {
		top, _, _ := strings.Cut(rest[0].Key, ".")
		top = strings.TrimSuffix(top, "[]")
		end := 1
		for end < len(rest) && (strings.HasPrefix(rest[end].Key, top+".") || strings.HasPrefix(rest[end].Key, top+"[]")) {
			end++
		}
		m.section(top, rest[:end])
		rest = rest[end:]
	}
	return m.err
}

// markdown keeps the first error of its writer.
type markdown struct {
	w      io.Writer
	err    error
	behind bool
}

func (m *markdown) print(format string, args ...any) {
	if m.err == nil {
		_, m.err = fmt.Fprintf(m.w, format, args...)
	}
}

func (m *markdown) section(top string, keys []Key) {
	if m.behind {
		m.print("\n")
	}
	m.print("## %s\n\n", top)
	m.behind = false
	if keys[0].Key == top && keys[0].Type == "section" {
		if keys[0].Doc != "" {
			m.print("%s\n\n", keys[0].Doc)
		}
		keys = keys[1:]
	}
	m.table(keys)
}

func (m *markdown) table(keys []Key) {
	m.print("| key | type | default | what it does | variable |\n|---|---|---|---|---|\n")
	for _, k := range keys {
		m.print("| %s | %s | %s | %s | %s |\n", code(k.Key), prose(k.Type), code(k.Default), prose(k.Doc), code(k.Env))
	}
	m.behind = true
}

func code(text string) string {
	if text == "" {
		return ""
	}
	if strings.Contains(text, "`") {
		return "`` " + cell(text) + " ``"
	}
	return "`" + cell(text) + "`"
}

// prose is a cell whose <name> is not taken for a tag, nor its asterisk for emphasis.
func prose(text string) string {
	return strings.NewReplacer("<", `\<`, "*", `\*`).Replace(cell(text))
}

// cell keeps a text inside its column.
func cell(text string) string {
	return strings.NewReplacer("|", `\|`, "\n", " ").Replace(text)
}
