package cli

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"
)

func deadLettersCommand() command {
	return command{
		name: "dead-letters", args: "list|show ID|replay ID…", summary: "look at what could not be processed, and put it back",
		example: "millrace dead-letters list --from -1h --worker ingest\n" +
			"millrace dead-letters show 3.81.5\n" +
			"millrace dead-letters replay 3.81.5 --payload repaired.json\n" +
			"millrace dead-letters replay --all-matching --worker history-writer --dry-run",
		setup: func(flags *flag.FlagSet, env *Env) func(context.Context, []string) error {
			connect := clientFlags(flags, env)
			c := letterCommand{env: env, where: map[string]*string{}}
			for name, usage := range map[string]string{
				"from": "received at this `time` or later: RFC 3339, or back from now such as -1h", "to": "received before this `time`",
				"device": "only of this `device`", "worker": "only of this `worker`; the edge is ingest", "topic": "only from this `topic`, or mqtt or http",
				"q": "only with this `text` in the reason or the payload",
			} {
				c.where[name] = flags.String(name, "", usage)
			}
			flags.StringVar(&c.format, "format", "table", "`form` of a list: table, json (a line each) or id")
			flags.IntVar(&c.limit, "limit", 0, "most letters; of a list 100 unless this says otherwise, of --all-matching all")
			flags.StringVar(&c.payload, "payload", "", "`file` to put back in place of the letter's own payload; - is standard input")
			flags.BoolVar(&c.all, "all-matching", false, "put back every letter that the filters let through and that was not put back before")
			flags.BoolVar(&c.dryRun, "dry-run", false, "only say what would be done")
			flags.StringVar(&c.by, "by", env.Getenv("USER"), "`who` puts it back, for the record")
			return func(ctx context.Context, args []string) error {
				client, err := connect()
				if err != nil {
					return err
				}
				c.client = client
				return c.run(ctx, args)
			}
		},
	}
}

type letterCommand struct {
	env     *Env
	client  *client
	where   map[string]*string
	format  string
	limit   int
	payload string
	all     bool
	dryRun  bool
	by      string
}

func (c *letterCommand) run(ctx context.Context, args []string) error {
	switch {
	case len(args) == 1 && args[0] == "list":
		return c.list(ctx)
	case len(args) == 2 && args[0] == "show":
		return c.show(ctx, args[1])
	case len(args) > 0 && args[0] == "replay":
		return c.replay(ctx, args[1:])
	}
	return errors.New("want list, show ID, or replay ID… (or replay --all-matching)")
}

// listedLetter is what the commands need of a listed letter.
type listedLetter struct {
	ID         string     `json:"id"`
	Topic      string     `json:"topic"`
	Worker     string     `json:"worker"`
	Reason     string     `json:"reason"`
	Payload    string     `json:"payload"`
	ReceivedAt time.Time  `json:"received_at"`
	DeviceID   string     `json:"device_id"`
	Partition  int        `json:"partition"`
	Position   string     `json:"position"`
	ReplayedAt *time.Time `json:"replayed_at"`
	ReplayedBy string     `json:"replayed_by"`
}

// each calls f with every letter that the filters let through, the newest first, at most limit.
func (c *letterCommand) each(ctx context.Context, limit int, f func(raw json.RawMessage) error) error {
	const pageMax = 1000
	query := url.Values{}
	for name, value := range c.where {
		if *value != "" {
			query.Set(name, *value)
		}
	}
	for taken := 0; ; {
		page := pageMax
		if limit > 0 {
			page = min(page, limit-taken)
		}
		query.Set("limit", strconv.Itoa(page))
		var answer struct {
			DeadLetters []json.RawMessage `json:"dead_letters"`
			Next        string            `json:"next"`
		}
		if err := c.get(ctx, "/v1/dead-letters?"+query.Encode(), &answer); err != nil {
			return err
		}
		for _, raw := range answer.DeadLetters {
			if err := f(raw); err != nil {
				return err
			}
		}
		taken += len(answer.DeadLetters)
		if answer.Next == "" || limit > 0 && taken >= limit {
			return nil
		}
		query.Set("cursor", answer.Next)
	}
}

func (c *letterCommand) get(ctx context.Context, path string, into any) error {
	resp, err := c.client.do(ctx, http.MethodGet, path, nil, nil)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		return fmt.Errorf("read the answer to GET %s: %w", path, err)
	}
	return nil
}

func (c *letterCommand) list(ctx context.Context) error {
	if c.format != "table" && c.format != "json" && c.format != "id" {
		return fmt.Errorf("--format %q: want table, json or id", c.format)
	}
	w := tabwriter.NewWriter(c.env.Stdout, 0, 0, 2, ' ', 0)
	if c.format == "table" {
		_, _ = fmt.Fprintln(w, "ID\tRECEIVED\tWORKER\tFROM\tDEVICE\tREASON\tPUT BACK")
	}
	const listMax = 100
	limit := c.limit
	if limit <= 0 {
		limit = listMax
	}
	err := c.each(ctx, limit, func(raw json.RawMessage) error {
		if c.format == "json" {
			var line bytes.Buffer
			if err := json.Compact(&line, raw); err != nil {
				return err
			}
			_, err := fmt.Fprintln(c.env.Stdout, line.String())
			return err
		}
		var d listedLetter
		if err := json.Unmarshal(raw, &d); err != nil {
			return fmt.Errorf("read a letter: %w", err)
		}
		if c.format == "id" {
			_, err := fmt.Fprintln(c.env.Stdout, d.ID)
			return err
		}
		from, back := d.Topic, "-"
		if d.Position != "" {
			from = fmt.Sprintf("%s[%d] %s", d.Topic, d.Partition, d.Position)
		}
		if d.ReplayedAt != nil {
			back = d.ReplayedAt.Format(time.RFC3339)
		}
		reason, _, _ := strings.Cut(d.Reason, "\n")
		_, err := fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", orDefault(d.ID, "-"), d.ReceivedAt.Format(time.RFC3339), d.Worker, from,
			orDefault(d.DeviceID, "-"), shorten(reason), back)
		return err
	})
	return errors.Join(err, w.Flush())
}

func (c *letterCommand) show(ctx context.Context, id string) error {
	var d struct {
		listedLetter
		Tenant        string          `json:"tenant"`
		Credential    string          `json:"credential"`
		Context       json.RawMessage `json:"context"`
		PayloadBase64 string          `json:"payload_base64"`
		Message       map[string]any  `json:"message"`
		ReplayTo      string          `json:"replay_to"`
		ReplayRefused string          `json:"replay_refused"`
	}
	if err := c.get(ctx, "/v1/dead-letters/"+url.PathEscape(id), &d); err != nil {
		return err
	}
	payload, err := base64.StdEncoding.DecodeString(d.PayloadBase64)
	if err != nil {
		return fmt.Errorf("read the payload of letter %s: %w", id, err)
	}
	var out bytes.Buffer
	line := func(name, value string) {
		if value != "" && value != "null" {
			_, _ = fmt.Fprintf(&out, "%-12s %s\n", name, value)
		}
	}
	line("id", d.ID)
	line("received", d.ReceivedAt.Format(time.RFC3339Nano))
	line("worker", d.Worker)
	line("from", d.Topic)
	if d.Position != "" {
		line("place", fmt.Sprintf("partition %d, position %s", d.Partition, d.Position))
	}
	line("tenant", d.Tenant)
	line("device", d.DeviceID)
	line("credential", d.Credential)
	line("context", string(d.Context))
	if d.ReplayedAt != nil {
		line("put back", d.ReplayedAt.Format(time.RFC3339Nano)+" by "+d.ReplayedBy)
	} else {
		line("goes to", d.ReplayTo)
		line("but", d.ReplayRefused)
	}
	_, _ = fmt.Fprintf(&out, "\nreason\n%s\n", indent(d.Reason))
	if d.Message != nil {
		if b, err := json.MarshalIndent(d.Message, "  ", "  "); err == nil {
			_, _ = fmt.Fprintf(&out, "\nmessage\n  %s\n", b)
		}
	}
	if printable(payload) {
		_, _ = fmt.Fprintf(&out, "\npayload (%d bytes)\n%s\n", len(payload), indent(string(payload)))
	} else {
		_, _ = fmt.Fprintf(&out, "\npayload (%d bytes, base64)\n  %s\n", len(payload), d.PayloadBase64)
	}
	_, err = out.WriteTo(c.env.Stdout)
	return err
}

func indent(text string) string { return "  " + strings.ReplaceAll(text, "\n", "\n  ") }

// printable reports whether a terminal may be shown b as it is.
func printable(b []byte) bool {
	return utf8.Valid(b) && !bytes.ContainsFunc(b, func(r rune) bool { return r < ' ' && r != '\n' && r != '\t' && r != '\r' || r == 0x7f })
}

// replay puts letters back, one after the other, the oldest first of those that the filters find. It goes on where one is refused, and
// then ends with an error.
func (c *letterCommand) replay(ctx context.Context, ids []string) error {
	switch {
	case c.all == (len(ids) > 0):
		return errors.New("want the ids of letters, or --all-matching with filters")
	case c.payload != "" && len(ids) != 1:
		return errors.New("--payload is for one letter: name its id")
	}
	if c.all {
		err := c.each(ctx, c.limit, func(raw json.RawMessage) error {
			var d listedLetter
			if err := json.Unmarshal(raw, &d); err != nil {
				return fmt.Errorf("read a letter: %w", err)
			}
			if d.ReplayedAt == nil && d.ID != "" {
				ids = append(ids, d.ID)
			}
			return nil
		})
		if err != nil {
			return err
		}
		slices.Reverse(ids)
	}
	body, err := c.wish()
	if err != nil {
		return err
	}
	refused := 0
	for _, id := range ids {
		if err := c.replayOne(ctx, id, body); err != nil {
			if ctx.Err() != nil {
				return err
			}
			refused++
			_, _ = fmt.Fprintf(c.env.Stderr, "%s: %v\n", id, err)
		}
	}
	if refused > 0 {
		return fmt.Errorf("%d of %d %s not put back", refused, len(ids), plural(len(ids), "letter"))
	}
	if len(ids) == 0 {
		_, err = fmt.Fprintln(c.env.Stdout, "nothing to put back")
	}
	return err
}

func (c *letterCommand) wish() ([]byte, error) {
	wish := map[string]any{"by": c.by, "dry_run": c.dryRun}
	if c.payload != "" {
		var payload []byte
		var err error
		if c.payload == "-" {
			payload, err = io.ReadAll(c.env.Stdin)
		} else {
			payload, err = os.ReadFile(c.payload)
		}
		if err != nil {
			return nil, fmt.Errorf("--payload: %w", err)
		}
		wish["payload_base64"] = payload
	}
	return json.Marshal(wish)
}

func (c *letterCommand) replayOne(ctx context.Context, id string, wish []byte) error {
	resp, err := c.client.do(ctx, http.MethodPost, "/v1/dead-letters/"+url.PathEscape(id)+"/replay", bytes.NewReader(wish),
		map[string]string{"Content-Type": "application/json"})
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	var done struct {
		ReplayTo string `json:"replay_to"`
		Messages int    `json:"messages"`
		DryRun   bool   `json:"dry_run"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&done); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	verb := "put back"
	switch {
	case done.DryRun:
		verb = "would be put back"
	case resp.StatusCode == http.StatusAccepted:
		verb = "on its way"
	}
	_, err = fmt.Fprintf(c.env.Stdout, "%s %s, to %s (%d %s)\n", id, verb, done.ReplayTo, done.Messages, plural(done.Messages, "message"))
	return err
}
