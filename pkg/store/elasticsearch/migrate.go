package elasticsearch

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/millrace/millrace/schemas"
)

// MigrateOptions say how Migrate works.
type MigrateOptions struct {
	DryRun bool // change nothing
}

// Change is one request of a migration.
type Change struct {
	What   string          // in a few words
	Method string          // PUT, always
	Path   string          // on the server
	Body   json.RawMessage // indented
}

// String returns the change as a request that could be made by hand.
func (c Change) String() string { return c.Method + " " + c.Path + "\n" + string(c.Body) }

// Migrate puts the index templates on the server, gives indices that exist the fields that have been added, and makes the
// policies that delete old indices where the server has index lifecycle management. It returns what was changed, or would
// be; nothing, where all is as it should be. Several may call it at once, and what was interrupted may be repeated. Templates
// of a newer program are left alone.
func Migrate(ctx context.Context, cfg Config, o MigrateOptions) ([]Change, error) {
	db, err := connect(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("migrate elasticsearch: %w", err)
	}
	defer func() { _ = db.client.close(ctx) }()
	changes, err := db.plan(ctx)
	if err != nil {
		return nil, fmt.Errorf("migrate elasticsearch: %w", err)
	}
	if o.DryRun {
		return changes, nil
	}
	for i, c := range changes {
		if err := db.client.call(ctx, c.Method, c.Path, []byte(c.Body), nil); err != nil {
			return changes[:i], fmt.Errorf("migrate elasticsearch: %s: %w", c.What, err)
		}
	}
	return changes, nil
}

// wanted is one template as it should be on the server.
type wanted struct {
	name    string // with the prefix
	pattern string // of its indices; "" for the component
	version int
	body    map[string]any
}

const (
	componentName = "settings"
	versionKey    = "millrace_version"
	schemaPrefix  = `"millrace-` // in the files
)

// templates returns what should be there, the component first.
func (db *DB) templates() ([]wanted, error) {
	files := schemas.Elasticsearch()
	names, err := fs.Glob(files, "*.json")
	if err != nil {
		return nil, err
	}
	var all []wanted
	for _, file := range names {
		b, err := fs.ReadFile(files, file)
		if err != nil {
			return nil, err
		}
		b = bytes.ReplaceAll(b, []byte(schemaPrefix), []byte(`"`+db.cfg.Prefix+"-"))
		w := wanted{name: db.name(strings.TrimSuffix(file, ".json"))}
		if err := json.Unmarshal(b, &w.body); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		w.version = versionIn(w.body)
		if patterns, ok := w.body["index_patterns"].([]any); ok && len(patterns) == 1 {
			w.pattern, _ = patterns[0].(string)
		}
		all = append(all, w)
	}
	slices.SortStableFunc(all, func(a, b wanted) int { return strings.Compare(min(a.pattern, "a"), min(b.pattern, "a")) })
	return all, nil
}

func versionIn(body map[string]any) int {
	meta, _ := body["_meta"].(map[string]any)
	version, _ := meta[versionKey].(float64)
	return int(version)
}

// present returns the versions of the templates that are there.
func (db *DB) present(ctx context.Context) (map[string]int, error) {
	var found struct {
		Index []struct {
			Name string         `json:"name"`
			Body map[string]any `json:"index_template"`
		} `json:"index_templates"`
		Component []struct {
			Name string         `json:"name"`
			Body map[string]any `json:"component_template"`
		} `json:"component_templates"`
	}
	for _, kind := range []string{"/_index_template/", "/_component_template/"} {
		err := db.client.call(ctx, http.MethodGet, kind+db.cfg.Prefix+"-*", nil, &found)
		if err != nil && !answered(err, http.StatusNotFound) {
			return nil, fmt.Errorf("read the templates: %w", err)
		}
	}
	versions := make(map[string]int)
	for _, t := range found.Index {
		versions[t.Name] = versionIn(t.Body)
	}
	for _, t := range found.Component {
		versions[t.Name] = versionIn(t.Body)
	}
	return versions, nil
}

// checkTemplates compares the server with what this program needs. Templates of a newer program serve too: it adds fields only.
func (db *DB) checkTemplates(ctx context.Context) error {
	want, err := db.templates()
	if err != nil {
		return err
	}
	have, err := db.present(ctx)
	if err != nil {
		return err
	}
	for _, w := range want {
		version, ok := have[w.name]
		switch {
		case !ok:
			return fmt.Errorf("there is no template %s: %w", w.name, ErrMigrate)
		case version < w.version:
			return fmt.Errorf("template %s is version %d, want %d: %w", w.name, version, w.version, ErrMigrate)
		case version > w.version:
			db.cfg.Log.WarnContext(ctx, "a newer program has migrated the templates", "template", w.name, "version", version, "known", w.version)
		}
	}
	return nil
}

// plan returns what is to be changed, in order.
func (db *DB) plan(ctx context.Context) ([]Change, error) {
	want, err := db.templates()
	if err != nil {
		return nil, err
	}
	have, err := db.present(ctx)
	if err != nil {
		return nil, err
	}
	ilm, err := db.hasILM(ctx)
	if err != nil {
		return nil, err
	}
	var changes []Change
	managed := map[string]bool{}
	if ilm {
		if changes, managed, err = db.planPolicies(ctx); err != nil {
			return nil, err
		}
	}
	for _, w := range want {
		version, known := have[w.name]
		if version > w.version || known && version == w.version && !managed[w.name] {
			continue
		}
		if ilm && db.limitOf(w.name) > 0 {
			setLifecycle(w.body, w.name)
		}
		kind := "_index_template"
		if w.pattern == "" {
			kind = "_component_template"
		}
		changes = append(changes, newChange("put template "+w.name, "/"+kind+"/"+w.name, w.body))
		if known && w.pattern != "" {
			more, err := db.planMapping(ctx, w)
			if err != nil {
				return nil, err
			}
			changes = append(changes, more...)
		}
	}
	return changes, nil
}

// planMapping gives the indices that exist the fields of their new template.
func (db *DB) planMapping(ctx context.Context, w wanted) ([]Change, error) {
	var indices map[string]struct{}
	if err := db.client.call(ctx, http.MethodGet, "/"+w.pattern+"/_alias?ignore_unavailable=true", nil, &indices); err != nil || len(indices) == 0 {
		return nil, err
	}
	template, _ := w.body["template"].(map[string]any)
	return []Change{newChange("add the fields of "+w.name, "/"+w.pattern+"/_mapping", template["mappings"])}, nil
}

func newChange(what, path string, body any) Change {
	b, err := json.MarshalIndent(body, "", "  ")
	if err != nil {
		b = []byte("{}") // not reached: it was JSON before
	}
	return Change{What: what, Method: http.MethodPut, Path: path, Body: b}
}

// hasILM reports whether the server deletes old indices by a policy. Not every distribution has that part.
func (db *DB) hasILM(ctx context.Context) (bool, error) {
	err := db.client.call(ctx, http.MethodGet, "/_ilm/status", nil, nil)
	if err == nil {
		return true, nil
	}
	for _, status := range []int{http.StatusBadRequest, http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed} {
		if answered(err, status) {
			return false, nil
		}
	}
	return false, err
}

func (db *DB) limitOf(template string) time.Duration {
	for _, k := range db.cfg.daily() {
		if db.name(k.table) == template {
			return k.limit
		}
	}
	return 0
}

// policyAge returns after how long a policy deletes; "" where it does not, or is not there.
func (db *DB) policyAge(ctx context.Context, name string) (age string, there bool, err error) {
	var have map[string]struct {
		Policy struct {
			Phases struct {
				Delete struct {
					MinAge string `json:"min_age"`
				} `json:"delete"`
			} `json:"phases"`
		} `json:"policy"`
	}
	err = db.client.call(ctx, http.MethodGet, "/_ilm/policy/"+name, nil, &have)
	if err != nil && !answered(err, http.StatusNotFound) {
		return "", false, fmt.Errorf("read policy %s: %w", name, err)
	}
	policy, there := have[name]
	return policy.Policy.Phases.Delete.MinAge, there, nil
}

// planPolicies returns the policies that are missing or say something else, and which templates are to name a policy that they do
// not name yet. What is now kept for ever keeps a policy that deletes nothing.
func (db *DB) planPolicies(ctx context.Context) (changes []Change, managed map[string]bool, err error) {
	managed = make(map[string]bool)
	for _, k := range db.cfg.daily() {
		name := db.name(k.table)
		have, there, err := db.policyAge(ctx, name)
		if err != nil {
			return nil, nil, err
		}
		age, phases := "", map[string]any{"hot": map[string]any{"actions": map[string]any{}}}
		if k.limit > 0 {
			age = fmt.Sprintf("%ds", int64((k.limit + 24*time.Hour).Seconds())) // from the beginning of the index's day
			phases["delete"] = map[string]any{"min_age": age, "actions": map[string]any{"delete": map[string]any{}}}
		}
		if have == age {
			continue
		}
		changes = append(changes, newChange("put policy "+name, "/_ilm/policy/"+name, map[string]any{"policy": map[string]any{"phases": phases}}))
		if !there {
			managed[name] = true
			changes = append(changes, newChange("put indices under policy "+name, "/"+name+"-*/_settings?allow_no_indices=true", lifecycle(name)))
		}
	}
	return changes, managed, nil
}

// lifecycle returns the settings that put an index under a policy, by the day in its name and not the day of its creation.
func lifecycle(policy string) map[string]any {
	return map[string]any{"index": map[string]any{"lifecycle": map[string]any{"name": policy, "parse_origination_date": true}}}
}

func setLifecycle(body map[string]any, policy string) {
	template, _ := body["template"].(map[string]any)
	if template != nil {
		template["settings"] = lifecycle(policy)
	}
}
