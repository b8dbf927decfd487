package router

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/millrace/millrace/services/router/internal/reference"
)

// Reference is a table in a file, by which messages are enriched.
type Reference struct {
	Name   string            `yaml:"name" doc:"Name under which conditions see the row: reference.<name>.<column>."`
	File   string            `yaml:"file" doc:"A CSV file whose first line names the columns, or a JSON file: an array of objects, or an object of objects by key."`
	Format string            `yaml:"format" doc:"csv or json; by default what the file's name ends with."`
	Key    string            `yaml:"key" doc:"The column by which a row is found."`
	Match  string            `yaml:"match" doc:"What of the message must equal it: deviceId (the default), deviceType, channelKey, channelType, tenant, source, credential, properties.<name> or attributes.<name>."`
	Set    map[string]string `yaml:"set" doc:"What of the message is set from which column: deviceType, or properties.<name>."`
	Reload time.Duration     `yaml:"reload" doc:"How often is looked whether the file has changed; 0 means 1s."`
}

// SetDefaults fills what reference data of a file has where the file says nothing.
func (r *Reference) SetDefaults() { r.Match, r.Reload = "deviceId", reloadDefault }

// ReadReference reads the files of reference data as Run will, and reports every one that Run would stop at. Validate does not
// look at them: they may lie on another machine.
func (c Config) ReadReference() error {
	var errs []error
	for i, r := range c.Reference {
		if _, err := reference.Load(r.from()); err != nil {
			errs = append(errs, fmt.Errorf("router.reference[%d].file: %w", i, err))
		}
	}
	return errors.Join(errs...)
}

func (r Reference) from() reference.Source {
	return reference.Source{Name: r.Name, File: r.File, Format: r.Format, Key: r.Key, Needs: slices.Collect(maps.Values(r.Set))}
}

var columnName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

func checkReference(key string, r Reference) []error {
	var errs []error
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf(key+"."+format, args...)) }
	if !columnName.MatchString(r.Name) {
		fault("name: %q, want letters, digits and _, the first no digit", r.Name)
	}
	if r.File == "" {
		fault("file: it is empty, want a CSV or JSON file")
	}
	switch {
	case r.Format == "" && r.File != "" && reference.FormatOf(r.File) == "":
		fault("format: it is empty and %q ends with neither .csv nor .json, want csv or json", r.File)
	case r.Format != "" && r.Format != "csv" && r.Format != "json":
		fault("format: %q, want csv or json", r.Format)
	}
	if r.Key == "" {
		fault("key: it is empty, want the name of a column")
	}
	if _, err := newMatch(r.Match); err != nil {
		fault("match: %w", err)
	}
	for target, column := range r.Set {
		if name, ok := strings.CutPrefix(target, "properties."); target != "deviceType" && (!ok || name == "") {
			fault("set.%s: want deviceType or properties.<name>", target)
		}
		if column == "" {
			fault("set.%s: it is empty, want the name of a column", target)
		}
	}
	if r.Reload < 0 {
		fault("reload: %v, want 0 or more", r.Reload)
	}
	return errs
}
