package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/millrace/millrace/pkg/config"
	"github.com/millrace/millrace/pkg/connect"
	"github.com/millrace/millrace/pkg/service"
	"github.com/millrace/millrace/pkg/telemetry"
	"github.com/millrace/millrace/services/aggregator"
	"github.com/millrace/millrace/services/alerting"
	"github.com/millrace/millrace/services/standalone"
	"github.com/millrace/millrace/services/standalone/internal/replay"
)

var alertingSection = regexp.MustCompile(`(?m)^alerting:`)

// tryRules says what the rules of a file would have raised, beside the present ones of the same names.
func tryRules(ctx context.Context, env *Env, p *service.Process, cfg standalone.Config, r *replayFlags) (err error) {
	if r.format != "table" && r.format != "json" {
		return fmt.Errorf("--format %q: want table or json", r.format)
	}
	changed, err := rulesOf(r.rules, cfg.Alerting)
	if err != nil {
		return err
	}
	from, to, err := r.times(p.Now())
	if err != nil {
		return err
	}
	scratch, err := os.MkdirTemp(scratchOf(cfg.Data, p.Now()), "rules-*.tmp")
	if err != nil {
		return fmt.Errorf("--rules: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	source, closeSource, err := openPast(ctx, p, &cfg, pastOf{
		from: from.Add(-r.warm), to: to, scratch: filepath.Join(scratch, "archive"), token: r.token, history: true,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeSource()) }()
	present := cfg.Alerting
	present.Rules = slices.DeleteFunc(slices.Clone(present.Rules), func(o alerting.Rule) bool {
		return !slices.ContainsFunc(changed.Rules, func(c alerting.Rule) bool { return c.Name == o.Name })
	})
	printer := &replayPrinter{progressLine{out: env.Stderr, terminal: env.Terminal, now: p.Now}}
	result, err := replay.Rehearse(ctx, source, replay.Rehearsal{
		Present: present, Changed: changed, Windows: cfg.Aggregator, From: from, To: to, Warm: r.warm, Tenant: cfg.Tenant, Device: r.device,
		Tell: printer.tell, Now: p.Now,
	})
	if err != nil {
		if ctx.Err() != nil {
			return errors.New("interrupted")
		}
		return err
	}
	result.Notes = append(result.Notes, missingWindows(&changed, &cfg.Aggregator)...)
	if r.format == "json" {
		return rulesJSON(env.Stdout, &result, from, to)
	}
	return rulesTable(env.Stdout, &result)
}

// scratchOf returns where what is needed meanwhile goes: to the data's disk, so that files need not be copied, or the system's place. What
// was left there by a command that was killed a day ago or earlier is removed.
func scratchOf(data string, now time.Time) string {
	dir := filepath.Join(data, "replays")
	if os.MkdirAll(dir, 0o750) != nil {
		return ""
	}
	left, err := filepath.Glob(filepath.Join(dir, "rules-*.tmp"))
	if err != nil {
		return dir
	}
	for _, path := range left {
		if st, err := os.Stat(path); err == nil && now.Sub(st.ModTime()) > 24*time.Hour {
			_ = os.RemoveAll(path) // the next time otherwise
		}
	}
	return dir
}

// rulesOf reads a file that has the section alerting, among others or alone, or that section's content; what it does not say is as at present.
func rulesOf(file string, present alerting.Config) (alerting.Config, error) {
	changed := present
	changed.Rules, changed.Notify = nil, nil
	text, err := os.ReadFile(file) //nolint:gosec // the operator's choice
	if err != nil {
		return changed, fmt.Errorf("--rules: %w", err)
	}
	source := config.Source{YAML: text, File: file, EnvPrefix: "MILLRACE_RULES_"}
	if alertingSection.Match(text) {
		source.Section, source.OtherSections = "alerting", connect.Sections()
	}
	if err := config.Load(source, &changed); err != nil {
		return changed, err
	}
	if len(changed.Rules) == 0 {
		return changed, fmt.Errorf("--rules %s: there are no rules in it", file)
	}
	return changed, nil
}

// missingWindows names the rules that look at windows which nobody computes.
func missingWindows(c *alerting.Config, windows *aggregator.Config) (notes []string) {
	for i := range c.Rules {
		r := &c.Rules[i]
		there := slices.ContainsFunc(windows.Windows, func(w aggregator.WindowSpec) bool { return max(w.Length, w.Gap) == r.Window })
		if r.On == alerting.OnAggregates && !there {
			notes = append(notes, fmt.Sprintf("%s: it looks at windows of %v, and aggregator.windows has none", r.Name, r.Window))
		}
	}
	return notes
}

const momentForm = "2006-01-02 15:04:05"

func rulesTable(w io.Writer, r *replay.Rehearsed) error {
	if len(r.Alarms) > 0 {
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		_, _ = fmt.Fprintln(t, "RULE\tDEVICE\tCHANNEL\tRAISED AT (UTC)\tCLEARED AT\tDURATION\tPEAK\tBESIDE")
		for i := range r.Alarms {
			a := &r.Alarms[i]
			cleared, lasted := "still raised", ""
			if a.ClearedAt != 0 {
				cleared, lasted = a.ClearedAt.Std().Format(momentForm), a.ClearedAt.Sub(a.RaisedAt).Round(time.Millisecond).String()
			}
			_, _ = fmt.Fprintln(t, strings.Join([]string{
				a.Rule, a.Device, a.Channel, a.RaisedAt.Std().Format(momentForm), cleared, lasted, peakOf(a), string(a.Beside),
			}, "\t"))
		}
		_, _ = fmt.Fprintln(t)
		if err := t.Flush(); err != nil {
			return err
		}
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "RULE\tPRESENT\tCHANGED\tSAME\tMOVED\tNEW\tGONE")
	for _, c := range r.Counts {
		_, _ = fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%d\t%d\t%d\n", c.Rule, c.Present, c.Changed, c.Same, c.Moved, c.New, c.Gone)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, _ = fmt.Fprintf(w, "%d messages passed; nothing was raised. Rules that the file does not name were left out.\n", r.Records)
	for _, note := range r.Notes {
		_, _ = fmt.Fprintln(w, "  "+note)
	}
	return nil
}

func peakOf(a *replay.Alarm) string {
	if !a.HasPeak {
		return ""
	}
	return strconv.FormatFloat(a.Peak, 'g', -1, 64)
}

// alarmJSON is an alarm as people's programs read it.
type alarmJSON struct {
	replay.Alarm
	RaisedAt  time.Time  `json:"raised_at"`
	ClearedAt *time.Time `json:"cleared_at"`
	Seconds   *float64   `json:"duration_seconds"`
	Peak      *float64   `json:"peak"`
}

func rulesJSON(w io.Writer, r *replay.Rehearsed, from, to telemetry.Time) error {
	out := struct {
		From    time.Time      `json:"from"`
		To      time.Time      `json:"to"`
		Records uint64         `json:"records"`
		Rules   []replay.Count `json:"rules"`
		Alarms  []alarmJSON    `json:"alarms"`
		Notes   []string       `json:"notes"`
	}{from.Std(), to.Std(), r.Records, append([]replay.Count{}, r.Counts...), []alarmJSON{}, append([]string{}, r.Notes...)}
	for _, a := range r.Alarms {
		j := alarmJSON{Alarm: a, RaisedAt: a.RaisedAt.Std()}
		if a.ClearedAt != 0 {
			at, seconds := a.ClearedAt.Std(), a.ClearedAt.Sub(a.RaisedAt).Seconds()
			j.ClearedAt, j.Seconds = &at, &seconds
		}
		if a.HasPeak {
			j.Peak = &a.Peak
		}
		out.Alarms = append(out.Alarms, j)
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(out)
}
