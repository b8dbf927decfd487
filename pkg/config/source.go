package config

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
)

const (
	// FileBytesMax is the size of the largest configuration file that is read; a larger one is a fault.
	FileBytesMax = 1 << 20
	// DepthMax is how deeply keys may be nested; what lies deeper is a fault.
	DepthMax = 64
	// NodesMax is how many YAML values a file may amount to with its aliases followed; more is a fault.
	NodesMax = 100_000
	// FaultsMax is how many faults are told at most; what comes after them is not read.
	FaultsMax = 1000
	// DefaultEnvPrefix begins the name of every variable that is a key.
	DefaultEnvPrefix = "MILLRACE_"
)

// Source says where a configuration comes from. The zero value reads nothing and so keeps the defaults.
type Source struct {
	// File is read when YAML is nil, and names the file in faults. Empty: no file.
	File string
	// YAML is the file's content, for callers that have read it already.
	YAML []byte
	// Env is the environment as os.Environ gives it. Variables that begin with EnvPrefix are keys, with every "." and
	// "-" as "_" and in capitals: MILLRACE_INGEST_MQTT_ADDR is ingest.mqtt.addr. All of them serve ${VAR}.
	// A list is given as "a, b" or in YAML's flow style, a map in flow style.
	Env []string
	// EnvPrefix is DefaultEnvPrefix when empty.
	EnvPrefix string
	// OtherEnv names variables with the prefix that somebody else reads, so that they are no fault.
	OtherEnv []string
	// Flags maps dotted keys to values, written as in Env. They win over everything.
	Flags map[string]string
	// Section is the top-level key under which cfg lies in the file. Empty: cfg is the whole file.
	Section string
	// OtherSections names top-level keys that somebody else reads: they are known, and not looked into, wherever they
	// come from. A key that cfg has itself is not one of these.
	OtherSections []string
	// Partly says that cfg has some keys of Section: the rest of them are known to somebody else, who reads the whole section
	// strictly, and are not looked into.
	Partly bool
}

// Load reads src into cfg, a non-nil pointer to the defaults, then calls Validate on everything in it that has the
// method. It returns nil, or Faults with all that is wrong; cfg is then half read and to be thrown away.
// Any other error means that cfg's type is none that a configuration can have, which is the programmer's fault.
//
// Validate() error reports one or, by errors.Join, several faults; each begins with "key: ", relative to the value that
// has the method. It need not call the Validate of what lies below: Load does.
//
// In values, ${VAR} is the variable of that name, ${VAR:-text} is text when it is unset or empty, ${file:/path} is the
// content of a file without its last newline, and $${ is a plain ${. Not safe for concurrent use on the same cfg.
func Load(src Source, cfg any) error {
	root := reflect.ValueOf(cfg)
	if root.Kind() != reflect.Pointer || root.IsNil() {
		return fmt.Errorf("load configuration: got %T, want a non-nil pointer", cfg)
	}
	if err := checkType(root.Type().Elem(), src.Section, nil); err != nil {
		return fmt.Errorf("load configuration: %w", err)
	}
	text := src.YAML
	if text == nil && src.File != "" {
		var err error
		if text, err = ReadFile(src.File); err != nil {
			return err
		}
	}
	if len(text) > FileBytesMax {
		return Faults{{Where: src.File, Text: tooLarge(FileBytesMax).Error()}}
	}
	own := []string{src.Section}
	if src.Section == "" {
		own = topKeys(root.Type().Elem())
	}
	src.OtherSections = slices.DeleteFunc(slices.Clone(src.OtherSections), func(s string) bool { return slices.Contains(own, s) })
	l := newLoader(src)
	l.file(text, root.Elem())
	l.environment(root.Elem())
	l.flags(root.Elem())
	l.validate(root.Elem(), src.Section)
	if len(l.faults) == 0 {
		return nil
	}
	return l.faults.sorted()
}

func topKeys(t reflect.Type) []string {
	if !isSection(t) {
		return nil
	}
	return keysOf(t)
}

// ReadFile reads a configuration file of at most FileBytesMax for Source.YAML, for callers that load from it more than
// once and want the same content each time. The error is Faults.
func ReadFile(path string) ([]byte, error) {
	text, err := readBounded(path, FileBytesMax)
	if err != nil {
		return nil, Faults{{Where: path, Text: err.Error()}}
	}
	return text, nil
}

// readBounded leaves the path out of its errors: the caller says where.
func readBounded(path string, bytesMax int) ([]byte, error) {
	text, err := os.ReadFile(path) //nolint:gosec // the operator names the file
	if err != nil {
		if pathErr, ok := errors.AsType[*os.PathError](err); ok {
			return nil, fmt.Errorf("%s: %w", pathErr.Op, pathErr.Err)
		}
		return nil, err
	}
	if len(text) > bytesMax {
		return nil, tooLarge(bytesMax)
	}
	return text, nil
}

func tooLarge(bytesMax int) error { return fmt.Errorf("is larger than %v", Bytes(bytesMax)) }
