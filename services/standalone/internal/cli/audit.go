package cli

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/millrace/millrace/pkg/books"
)

// ErrBreach is returned by an audit that found one; what it is was printed.
var ErrBreach = errors.New("the books do not balance")

func auditCommand() command {
	return command{
		name: "audit", summary: "hold the stores of a running instance against what it acknowledged",
		example: "millrace audit --from -1h --to -1m\nmillrace audit --from 2026-01-31T00:00:00Z --to 2026-02-01T00:00:00Z --device lab1",
		setup: func(flags *flag.FlagSet, env *Env) func(context.Context, []string) error {
			connect := clientFlags(flags, env)
			q := url.Values{}
			from := flags.String("from", "-1h", "`time` of ingest to begin with: RFC 3339, now, or back from it such as -1h")
			to := flags.String("to", "-1m", "`time` of ingest to end before")
			device := flags.String("device", "", "one `device` alone")
			limit := flags.Int("limit", 100, "most `devices` that are shown, those with a breach first")
			format := flags.String("format", "table", "`form` of the answer: table or json")
			return func(ctx context.Context, args []string) error {
				if err := noArguments(args); err != nil {
					return err
				}
				if *format != "table" && *format != "json" {
					return fmt.Errorf("--format %q: want table or json", *format)
				}
				c, err := connect()
				if err != nil {
					return err
				}
				q.Set("from", *from)
				q.Set("to", *to)
				q.Set("limit", strconv.Itoa(*limit))
				if *device != "" {
					q.Set("device", *device)
				}
				return runAudit(ctx, c, env, q, *format)
			}
		},
	}
}

func runAudit(ctx context.Context, c *client, env *Env, q url.Values, format string) error {
	resp, err := c.do(ctx, "GET", "/v1/audit?"+q.Encode(), nil, nil)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	var report books.Report
	if err := json.Unmarshal(body, &report); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	if format == "json" {
		if _, err := fmt.Fprintf(env.Stdout, "%s\n", body); err != nil {
			return err
		}
	} else if err := printAudit(env.Stdout, &report); err != nil {
		return err
	}
	if !report.Balanced {
		return ErrBreach
	}
	return nil
}

// printAudit prints a report for people.
func printAudit(w io.Writer, r *books.Report) error {
	out := &strings.Builder{}
	fmt.Fprintf(out, "Messages taken from %s to %s\n\n", r.From.Format(time.RFC3339), r.To.Format(time.RFC3339))
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row := func(cells ...any) {
		for _, c := range cells {
			_, _ = fmt.Fprintf(table, "%v\t", c)
		}
		_, _ = fmt.Fprintln(table)
	}
	head := []any{"device", "partition", "accepted", "uncounted", "repeats", "dead letters", "of the edge", "unread"}
	for _, s := range r.Stores {
		head = append(head, s.Table)
	}
	row(append(head, "on the way", "missing", "doubled")...)
	cells := func(name string, partition any, d *books.DeviceReport) []any {
		letters, onTheWay, missing, doubled := d.Refused, int64(0), d.Lost, int64(0)
		for _, s := range d.Stores {
			letters += s.DeadLetters
			onTheWay += s.OnTheWay
			missing += s.Missing
			doubled += s.Doubled + s.Unexpected
		}
		all := []any{name, partition, d.Accepted, d.Uncounted, d.Repeats, letters, d.EdgeLetters, d.Unread}
		for _, s := range d.Stores {
			all = append(all, s.Stored)
		}
		return append(all, onTheWay, missing, doubled)
	}
	for i := range r.Devices {
		d := &r.Devices[i]
		name := d.DeviceID
		if name == "" {
			name = "(no device)"
		}
		row(cells(name, d.Partition, d)...)
	}
	row(cells(fmt.Sprintf("total of %d", r.DevicesTotal), "", &r.Total)...)
	if err := table.Flush(); err != nil {
		return err
	}
	for _, n := range r.Notes {
		fmt.Fprintf(out, "\nNote: %s.", n)
	}
	if len(r.Notes) > 0 {
		fmt.Fprintln(out)
	}
	printBreaches(out, r)
	_, err := io.WriteString(w, out.String())
	return err
}

func printBreaches(out *strings.Builder, r *books.Report) {
	switch {
	case r.Balanced && r.Complete:
		fmt.Fprintf(out, "\nPASS: the books balance.\n")
		return
	case r.Balanced:
		fmt.Fprintf(out, "\nPASS as far as could be looked at: see the notes.\n")
		return
	}
	fmt.Fprintf(out, "\nFAIL: the books do not balance.\n")
	for i := range r.Breaches {
		fmt.Fprintf(out, "  %s\n", breachLine(&r.Breaches[i]))
	}
	if r.BreachesMore > 0 {
		fmt.Fprintf(out, "  and %d more\n", r.BreachesMore)
	}
}

func breachLine(b *books.Breach) string {
	where := b.Table
	if where == "" {
		where = "the log"
	}
	if b.Position == "" {
		return fmt.Sprintf("%s: %d %s of device %s, partition %d: %s", where, b.Count, b.What, b.DeviceID, b.Partition, b.Detail)
	}
	line := fmt.Sprintf("%s: %s: device %s, ingested[%d] %s", where, b.What, b.DeviceID, b.Partition, b.Position)
	if b.ChannelKey != "" {
		line += ", channel " + b.ChannelKey
	}
	if b.EventTime != nil {
		line += ", event time " + b.EventTime.Format(time.RFC3339Nano)
	}
	if b.TopicPosition != "" {
		line += fmt.Sprintf(" (%s[%d] %s)", b.Topic, b.Partition, b.TopicPosition)
	}
	return line
}
