package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/millrace/millrace/pkg/service"
	"github.com/millrace/millrace/pkg/store/answer"
	"github.com/millrace/millrace/services/standalone"
)

func sqlCommand() command {
	return command{
		name: "sql", args: `"SELECT …"`, summary: "query a running instance, or what lies in a directory",
		example: "millrace sql \"SELECT device_id, channel_key, channel_value, event_time FROM device_state ORDER BY 1, 2\"\n" +
			"echo \"SELECT count(*) FROM device_messages\" | millrace sql --format csv",
		setup: func(flags *flag.FlagSet, env *Env) func(context.Context, []string) error {
			connect := clientFlags(flags, env)
			format := flags.String("format", "table", "`form` of the answer: table, csv or json")
			data := flags.String("data", "", "`directory` to query in place of a running instance: a data directory that nobody runs, or what millrace replay has made")
			return func(ctx context.Context, args []string) error {
				c, err := connect()
				if err != nil {
					return err
				}
				accept, err := formOf(*format)
				if err != nil {
					return err
				}
				query := strings.Join(args, " ")
				if query == "" {
					b, err := io.ReadAll(env.Stdin)
					if err != nil {
						return fmt.Errorf("read the query from standard input: %w", err)
					}
					query = string(b)
				}
				if strings.TrimSpace(query) == "" {
					return errors.New("no query: give it as an argument or on standard input")
				}
				if *data != "" {
					return stillSQL(ctx, env, *data, query, *format, accept)
				}
				return runSQL(ctx, c, env, query, *format, accept)
			}
		},
	}
}

// formOf returns the media type of an answer that is shown in a form.
func formOf(format string) (accept string, err error) {
	accept = map[string]string{"table": "text/csv", "csv": "text/csv", "json": "application/json"}[format]
	if accept == "" {
		return "", fmt.Errorf("--format %q: want table, csv or json", format)
	}
	return accept, nil
}

// stillSQL queries the embedded stores of a directory within this process.
func stillSQL(ctx context.Context, env *Env, data, query, format, accept string) (err error) {
	if _, err := os.Stat(filepath.Join(data, "millrace.duckdb")); err != nil {
		return fmt.Errorf("--data %s: no embedded stores are there: %w", data, err)
	}
	p, err := service.New("millrace", service.Options{Env: env.Environ, Stderr: env.Stderr, LogLevel: slog.LevelWarn})
	if err != nil {
		return err
	}
	cfg := standalone.DefaultConfig()
	cfg.Data = data
	embedded, err := standalone.OpenEmbedded(ctx, cfg, p)
	if err != nil {
		return fmt.Errorf("--data %s (a running instance is asked without --data): %w", data, err)
	}
	defer func() { err = errors.Join(err, embedded.Close()) }()
	result, err := embedded.DB.Query(ctx, answer.Request{SQL: query, MaxRows: answer.MaxRows, Timeout: answer.MaxTimeout})
	if err != nil {
		return err
	}
	defer result.Close()
	encoding, err := answer.EncodingFor(accept)
	if err != nil {
		return err
	}
	if format != "table" {
		return encoding.Write(env.Stdout, result)
	}
	var text bytes.Buffer
	if err := encoding.Write(&text, result); err != nil {
		return err
	}
	return printTable(env.Stdout, &text)
}

func runSQL(ctx context.Context, c *client, env *Env, query, format, accept string) error {
	resp, err := c.do(ctx, "POST", "/v1/sql", strings.NewReader(query),
		map[string]string{"Content-Type": "text/plain; charset=utf-8", "Accept": accept})
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if format == "table" {
		err = printTable(env.Stdout, resp.Body)
	} else {
		_, err = io.Copy(env.Stdout, resp.Body)
	}
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	if resp.Trailer.Get("Millrace-Truncated") == "true" || resp.Header.Get("Millrace-Truncated") == "true" {
		_, _ = fmt.Fprintln(env.Stderr, "(cut off at the instance's row limit: narrow the query or ask for an aggregate)")
	}
	return nil
}

// cellMax is how many characters of a cell a table shows; csv and json show all.
const cellMax = 60

// printTable shows CSV as aligned columns and counts its rows. It holds the answer in memory: the server limits the rows.
func printTable(w io.Writer, answer io.Reader) error {
	rows, err := csv.NewReader(answer).ReadAll()
	if err != nil {
		return err
	}
	if len(rows) == 0 {
		_, err := fmt.Fprintln(w, "(no columns)")
		return err
	}
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			row[i] = shorten(cell)
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i]))
		}
	}
	out := bufio.NewWriter(w)
	for n, row := range rows {
		for i, cell := range row {
			_, _ = fmt.Fprintf(out, "%-*s  ", widths[i], cell)
		}
		_, _ = fmt.Fprintln(out)
		if n == 0 {
			for _, width := range widths {
				_, _ = fmt.Fprint(out, strings.Repeat("─", width)+"  ")
			}
			_, _ = fmt.Fprintln(out)
		}
	}
	_, _ = fmt.Fprintf(out, "(%d %s)\n", len(rows)-1, plural(len(rows)-1, "row"))
	return out.Flush()
}

func shorten(cell string) string {
	cell = strings.NewReplacer("\n", "⏎", "\t", " ").Replace(cell)
	if utf8.RuneCountInString(cell) <= cellMax {
		return cell
	}
	return string([]rune(cell)[:cellMax-1]) + "…"
}

func plural(n int, word string) string {
	if n == 1 {
		return word
	}
	return word + "s"
}
