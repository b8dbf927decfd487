// Package config reads Millrace's one YAML file strictly into Go structs, over which environment variables and flags
// are laid: file < environment < flags.
//
// A configuration is a plain struct. A field is a key when it has a `yaml:"key"` tag (`yaml:",inline"` puts a struct's
// keys among those of its parent); a field without the tag is none of the file's business. What the struct holds before
// Load are the defaults. The other tags are `doc:"one sentence"`, from which the documentation is made, and
// `enum:"a|b"`, the only texts that a string may be.
//
// A field may be a bool, an integer, a float, a string, a time.Duration ("30s", "7d"), a Bytes ("256KiB"), a Secret,
// anything that implements encoding.TextUnmarshaler, a nested struct, and a pointer, slice or map of these. A list or
// map that is given replaces the default one as a whole; what it holds starts from zero, or from what SetDefaults says.
//
// The promise: nothing in the file is ignored. An unknown key, a wrong type, a key given twice, an unset variable and
// whatever a Validate method refuses are all reported, all at once, each with its file and line (or variable, or flag),
// its full dotted key, what stood there and what was wanted. So a process either runs on what its operator wrote, or
// does not run.
//
// Start reading at Load and Source; Describe, Markdown and Example make the documentation out of the same structs.
package config
