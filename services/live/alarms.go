package live

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
)

const (
	ackBytesMax  = 16 << 10
	ackTextMax   = 1000                  // characters of by and note
	ackLookEvery = 25 * time.Millisecond // while an answer waits for the store
)

func alarmsListing() *listing {
	return &listing{
		name: "alarms", table: store.TableAlarms,
		columns: []column{
			{"alarm_id", plain},
			{"tenant", plain},
			{"rule", plain},
			{"device_id", plain},
			{"channel_key", plain},
			{"severity", plain},
			{"state", plain},
			{"value", plain},
			{"previous_value", plain},
			{"raised_at", moment},
			{"acked_at", moment},
			{"cleared_at", moment},
			{"detail", embedded},
			{"revision", whole},
		},
		order:      []column{{"raised_at", moment}, {"alarm_id", plain}},
		descending: true,
	}
}

// alarms answers GET /v1/alarms.
func (l *Live) alarms(w http.ResponseWriter, r *http.Request) error {
	p, c := l.query(r), &where{}
	c.equal("tenant", p.text("tenant"))
	switch state := p.oneOf("state", "raised", "acknowledged", "cleared", "open"); state {
	case "open":
		c.add(store.NotEqual, string(telemetry.AlarmCleared), "state")
	default:
		c.equal("state", state)
	}
	c.equal("device_id", p.text("device"))
	c.equal("channel_key", p.text("channel"))
	c.equal("rule", p.text("rule"))
	c.equal("severity", p.oneOf("severity", "info", "warning", "error", "critical"))
	c.between("raised_at", p)
	return l.list(w, r, p, alarmsListing(), c)
}

// acknowledgement is the body of POST /v1/alarms/{id}/ack, and the detail of the command on the log.
type acknowledgement struct {
	By   string `json:"by,omitempty"`
	Note string `json:"note,omitempty"`
}

// acknowledge answers POST /v1/alarms/{id}/ack: 200 with the alarm once the store shows that it is acknowledged, 202 when that
// takes longer; the wish is on the log by then.
func (l *Live) acknowledge(w http.ResponseWriter, r *http.Request) error {
	wish, err := readAcknowledgement(w, r)
	if err != nil {
		return err
	}
	wish.By = signed(r.Context(), wish.By)
	id := r.PathValue("id")
	alarm, body, err := l.alarm(r.Context(), id)
	if err != nil {
		return err
	}
	if alarm.AckedAt == 0 {
		if err := l.command(r.Context(), alarm, wish); err != nil {
			return err
		}
		alarm, body, err = l.awaitAcknowledged(r.Context(), id, alarm, body)
		if err != nil {
			return err
		}
	}
	code := http.StatusOK
	if alarm.AckedAt == 0 {
		code = http.StatusAccepted
	}
	answerJSON(w, r, code, body)
	return nil
}

func readAcknowledgement(w http.ResponseWriter, r *http.Request) (acknowledgement, error) {
	var wish acknowledgement
	b, err := readBody(w, r, ackBytesMax)
	if err != nil || len(b) == 0 {
		return wish, err
	}
	if err := strictJSON(b, &wish); err != nil {
		return wish, badRequest(`the body, want {"by":"…","note":"…"} or nothing: ` + err.Error())
	}
	if len(wish.By) > ackTextMax || len(wish.Note) > ackTextMax {
		return wish, badRequest(fmt.Sprintf("by, note: want at most %d bytes each", ackTextMax))
	}
	return wish, nil
}

// readBody reads a whole body, or complains that it is too large. What may take long after that is the answer, and a deadline for
// reading that passes meanwhile would end the request.
func readBody(w http.ResponseWriter, r *http.Request, bytesMax int64) ([]byte, error) {
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, bytesMax))
	if err == nil {
		_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // not every connection has deadlines
	}
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, &fault{code: http.StatusRequestEntityTooLarge, text: fmt.Sprintf("the body has more than %d bytes", tooLarge.Limit)}
	}
	if err != nil {
		return nil, badRequest("the body cannot be read: " + err.Error())
	}
	return b, nil
}

// alarm returns an alarm from the store, and as the answer shows it.
func (l *Live) alarm(ctx context.Context, id string) (telemetry.Alarm, []byte, error) {
	var alarm telemetry.Alarm
	reader, err := l.table(store.TableAlarms)
	if err != nil {
		return alarm, nil, err
	}
	var c where
	c.add(store.Equal, id, "alarm_id")
	s := alarmsListing()
	var body []byte
	err = reader.Select(ctx, s.selection(c, nil, 1), func(row []any) error {
		body = s.appendRow(nil, row)
		return nil
	})
	if err != nil {
		return alarm, nil, err
	}
	if body == nil {
		return alarm, nil, &fault{code: http.StatusNotFound, text: fmt.Sprintf("there is no alarm %.100q", id)}
	}
	var seen struct {
		AlarmID    string     `json:"alarm_id"`
		Tenant     string     `json:"tenant"`
		Rule       string     `json:"rule"`
		DeviceID   string     `json:"device_id"`
		ChannelKey string     `json:"channel_key"`
		AckedAt    *time.Time `json:"acked_at"`
	}
	if err := json.Unmarshal(body, &seen); err != nil {
		return alarm, nil, fmt.Errorf("alarm %s: %w", id, err)
	}
	alarm = telemetry.Alarm{AlarmID: seen.AlarmID, Tenant: seen.Tenant, Rule: seen.Rule, DeviceID: seen.DeviceID, ChannelKey: seen.ChannelKey}
	if seen.AckedAt != nil {
		alarm.AckedAt = telemetry.At(*seen.AckedAt)
	}
	return alarm, body, nil
}

// command puts the wish onto the log, into the partition of the alarm's device, where alerting meets it.
func (l *Live) command(ctx context.Context, alarm telemetry.Alarm, wish acknowledgement) error {
	detail, err := json.Marshal(wish)
	if err != nil {
		return fmt.Errorf("acknowledge %s: %w", alarm.AlarmID, err)
	}
	alarm.State, alarm.Detail = telemetry.AlarmAcknowledged, detail
	n := l.deps.Bus.Partitions(bus.AlarmCommands)
	p := bus.PartitionID{Topic: bus.AlarmCommands, Number: bus.PartitionOf(alarm.Tenant, alarm.DeviceID, n)}
	err = l.deps.Bus.Append(ctx, p, []bus.Record{{Value: telemetry.AppendAlarm(nil, &alarm)}})
	if errors.Is(err, bus.ErrFull) {
		return &fault{code: http.StatusServiceUnavailable, text: "the log is full: nothing was done", retry: 5 * time.Second}
	}
	if err != nil {
		return fmt.Errorf("acknowledge %s: %w", alarm.AlarmID, err)
	}
	return nil
}

// awaitAcknowledged looks at the alarm until it is acknowledged or Query.AckWait has passed.
func (l *Live) awaitAcknowledged(ctx context.Context, id string, alarm telemetry.Alarm, body []byte) (telemetry.Alarm, []byte, error) {
	waiting, cancel := context.WithTimeout(ctx, l.cfg.Query.AckWait)
	defer cancel()
	look := time.NewTicker(ackLookEvery)
	defer look.Stop()
	for {
		select {
		case <-waiting.Done():
			return alarm, body, nil
		case <-look.C:
		}
		a, b, err := l.alarm(waiting, id)
		switch {
		case waiting.Err() != nil:
			return alarm, body, nil // the time is over, and the wish is on the log
		case err != nil:
			return alarm, body, err
		case a.AckedAt != 0:
			return a, b, nil
		}
	}
}
