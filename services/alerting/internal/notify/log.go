package notify

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/url"

	"github.com/millrace/millrace/pkg/telemetry"
)

// Log writes a line for each change. Raised alarms are warnings, of the severities error and critical errors; the rest is info.
type Log struct{ Log *slog.Logger }

// Deliver implements Target.
func (l Log) Deliver(ctx context.Context, a *telemetry.Alarm) error {
	level := slog.LevelInfo
	if a.State == telemetry.AlarmRaised {
		switch a.Severity {
		case "error", "critical":
			level = slog.LevelError
		case "warning":
			level = slog.LevelWarn
		}
	}
	d := detailOf(a)
	attrs := []slog.Attr{
		slog.String("rule", a.Rule), slog.String("severity", a.Severity), slog.String("device", a.DeviceID),
	}
	for _, at := range [][2]string{{"channel", a.ChannelKey}, {"value", a.Value}, {"summary", d.Summary}, {"by", d.AcknowledgedBy}, {"reason", d.Reason}} {
		if at[1] != "" {
			attrs = append(attrs, slog.String(at[0], shorten(at[1])))
		}
	}
	l.Log.LogAttrs(ctx, level, "alarm "+string(a.State), append(attrs, slog.String("alarm", a.AlarmID))...)
	return nil
}

// Subject says in one line what has happened.
func Subject(a *telemetry.Alarm) string {
	what := detailOf(a).Summary
	if what == "" {
		what = a.Rule + " on " + a.DeviceID
		if a.ChannelKey != "" {
			what += " " + a.ChannelKey
		}
	}
	return "[" + a.Severity + "] " + string(a.State) + ": " + shorten(what)
}

// shorten cuts what stands in one line.
func shorten(text string) string {
	const runesMax = 150
	if len(text) <= runesMax {
		return text
	}
	if runes := []rune(text); len(runes) > runesMax {
		return string(runes[:runesMax]) + "…"
	}
	return text
}

// detail is what a notification needs of an alarm's detail.
type detail struct {
	Change         string `json:"change"`
	Summary        string `json:"summary"`
	Condition      string `json:"condition"`
	AcknowledgedBy string `json:"acknowledged_by"`
	Note           string `json:"note"`
	Reason         string `json:"reason"`
	Flapping       bool   `json:"flapping"`
}

func detailOf(a *telemetry.Alarm) detail {
	var d detail
	if err := json.Unmarshal(a.Detail, &d); err != nil {
		return detail{} // the rest of the alarm is worth telling all the same
	}
	return d
}

// hideURL takes the URL out of a client's error: it may hold a token.
func hideURL(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}
