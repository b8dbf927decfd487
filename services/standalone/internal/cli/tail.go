package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"
)

func tailCommand() command {
	return command{
		name: "tail", args: "", summary: "follow live what devices say",
		example: "millrace tail --device thermostat-2\nmillrace tail --logs --device homecontroller",
		setup: func(flags *flag.FlagSet, env *Env) func(context.Context, []string) error {
			connect := clientFlags(flags, env)
			streams := flags.String("streams", "state,alarms", "comma-separated `streams`: state, aggregates, alarms, logs")
			logs := flags.Bool("logs", false, "only log lines; the same as --streams logs")
			device := flags.String("device", "", "only this `device`")
			channel := flags.String("channel", "", "only this `channel`")
			asJSON := flags.Bool("json", false, "print each event as one line of JSON")
			return func(ctx context.Context, _ []string) error {
				c, err := connect()
				if err != nil {
					return err
				}
				if *logs {
					*streams = "logs"
				}
				query := url.Values{"streams": {*streams}}
				for key, value := range map[string]string{"device": *device, "channel": *channel} {
					if value != "" {
						query.Set(key, value)
					}
				}
				return tail(ctx, c, env, query, *asJSON)
			}
		},
	}
}

// tail follows until ctx ends, and comes back to where it was when the connection breaks.
func tail(ctx context.Context, c *client, env *Env, query url.Values, asJSON bool) error {
	const pause = time.Second
	t := tailing{client: c, path: "/v1/live?" + query.Encode(), print: func(e event) error { return printEvent(env.Stdout, e, asJSON) }}
	for ctx.Err() == nil {
		err := t.connection(ctx)
		if ctx.Err() != nil {
			break
		}
		if !t.connected || errors.Is(err, errOutput) {
			return err
		}
		_, _ = fmt.Fprintf(env.Stderr, "connection lost (%v), trying again\n", err)
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
	return nil //nolint:nilerr // the end of ctx is how a tail ends
}

// tailing is where a tail is over its connections.
type tailing struct {
	client    *client
	path      string
	print     func(event) error
	last      string // id of the last event
	connected bool   // at least once
}

// connection follows over one connection until it ends.
func (t *tailing) connection(ctx context.Context) error {
	header := map[string]string{"Accept": "text/event-stream"}
	if t.last != "" {
		header["Last-Event-ID"] = t.last
	}
	resp, err := t.client.do(ctx, "GET", t.path, nil, header)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	t.connected = true
	return readEvents(resp.Body, func(e event) error {
		t.last = orDefault(e.id, t.last)
		if len(e.data) == 0 {
			return nil
		}
		return t.print(e)
	})
}

// event is one server-sent event.
type event struct {
	name, id string
	data     []byte
}

// readEvents reads a stream of server-sent events (WHATWG HTML, section 9.2) until it ends. An id without data is no event, but
// the place to come back to all the same.
func readEvents(r io.Reader, each func(event) error) error {
	const lineMax = 4 << 20
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 64<<10), lineMax)
	var e event
	for lines.Scan() {
		field, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case lines.Text() == "":
			if len(e.data) > 0 || e.id != "" {
				if err := each(e); err != nil {
					return err
				}
			}
			e = event{}
		case field == "event":
			e.name = value
		case field == "id":
			e.id = value
		case field == "data":
			if len(e.data) > 0 {
				e.data = append(e.data, '\n')
			}
			e.data = append(e.data, value...)
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return io.EOF
}

var errOutput = errors.New("write to standard output")

func printEvent(w io.Writer, e event, asJSON bool) error {
	line := humanEvent(e)
	if asJSON || line == "" {
		line = fmt.Sprintf(`{"stream":%q,"event":%s}`, e.name, e.data)
	}
	if _, err := fmt.Fprintln(w, line); err != nil {
		return fmt.Errorf("%w: %w", errOutput, err)
	}
	return nil
}

// humanEvent returns one line for a person, "" where the event is of no form that it knows.
func humanEvent(e event) string {
	var f struct {
		Device    string    `json:"device_id"`
		Channel   string    `json:"channel_key"`
		Value     string    `json:"channel_value"`
		EventTime time.Time `json:"event_time"`
		Severity  string    `json:"severity"`
		Message   string    `json:"message"`
		Rule      string    `json:"rule"`
		State     string    `json:"state"`
		Alarm     string    `json:"value"`
		Missed    uint64    `json:"missed"`
	}
	if e.name == "aggregates" || json.Unmarshal(e.data, &f) != nil && e.name != "state" {
		return ""
	}
	at := f.EventTime.Local().Format("15:04:05.000")
	switch e.name {
	case "state":
		return fmt.Sprintf("%s  %-20s %-18s %s", at, f.Device, f.Channel, shorten(f.Value))
	case "logs":
		return fmt.Sprintf("%s  %-20s %-9s %s", at, f.Device, f.Severity, f.Message)
	case "alarms":
		return fmt.Sprintf("ALARM %-12s %-9s %s on %s %s (%s)", f.State, f.Severity, f.Rule, f.Device, f.Channel, shorten(f.Alarm))
	case "missed":
		return fmt.Sprintf("(%d events missed: this terminal is slower than the stream)", f.Missed)
	}
	return ""
}
