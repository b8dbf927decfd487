package notify

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/millrace/millrace/pkg/telemetry"
)

// answerMax is how much of a server's answer a reason shows, in bytes.
const answerMax = 256

// Webhook posts each change as JSON.
type Webhook struct {
	URL     string
	Secret  []byte // empty: unsigned
	Headers http.Header
	Timeout time.Duration // of one attempt; 0 is none
	Client  *http.Client  // must not follow redirects, which would lose the body
	Now     func() time.Time
}

// body is what a webhook gets: the columns of the table alarms.
type body struct {
	AlarmID       string          `json:"alarm_id"`
	Revision      uint32          `json:"revision"`
	Tenant        string          `json:"tenant"`
	Rule          string          `json:"rule"`
	DeviceID      string          `json:"device_id"`
	ChannelKey    string          `json:"channel_key"`
	Severity      string          `json:"severity"`
	State         string          `json:"state"`
	Value         string          `json:"value"`
	PreviousValue string          `json:"previous_value"`
	RaisedAt      *time.Time      `json:"raised_at"`
	AckedAt       *time.Time      `json:"acked_at"`
	ClearedAt     *time.Time      `json:"cleared_at"`
	Detail        json.RawMessage `json:"detail"`
}

func bodyOf(a *telemetry.Alarm) ([]byte, error) {
	b := body{
		AlarmID: a.AlarmID, Revision: a.Revision, Tenant: a.Tenant, Rule: a.Rule, DeviceID: a.DeviceID, ChannelKey: a.ChannelKey,
		Severity: a.Severity, State: string(a.State), Value: a.Value, PreviousValue: a.PreviousValue,
		RaisedAt: moment(a.RaisedAt), AckedAt: moment(a.AckedAt), ClearedAt: moment(a.ClearedAt), Detail: a.Detail,
	}
	if len(b.Detail) == 0 {
		b.Detail = json.RawMessage("{}")
	}
	return json.Marshal(b)
}

func moment(t telemetry.Time) *time.Time {
	if t == 0 {
		return nil
	}
	std := t.Std()
	return &std
}

// Deliver implements Target. A 2xx answer is taken. 408, 429 and 5xx are passing, and Retry-After is honoured; any other answer is
// a refusal.
func (w *Webhook) Deliver(ctx context.Context, a *telemetry.Alarm) error {
	payload, err := bodyOf(a)
	if err != nil {
		return &Refused{"make the body: " + err.Error()}
	}
	if w.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, w.Timeout)
		defer cancel()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.URL, bytes.NewReader(payload))
	if err != nil {
		return &Refused{"make the request: the URL cannot be used"}
	}
	maps.Copy(req.Header, w.Headers)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Idempotency-Key", Key(a))
	if len(w.Secret) > 0 {
		req.Header.Set("Millrace-Signature", Sign(w.Secret, w.Now(), payload))
	}
	res, err := w.Client.Do(req)
	if err != nil {
		return fmt.Errorf("post: %w", hideURL(err))
	}
	defer func() { _ = res.Body.Close() }() // what was read of it is all that is wanted
	if res.StatusCode >= 200 && res.StatusCode < 300 {
		_, _ = io.CopyN(io.Discard, res.Body, 64<<10) // so that the connection can be used again
		return nil
	}
	answer, _ := io.ReadAll(io.LimitReader(res.Body, answerMax)) // it is only shown
	err = fmt.Errorf("post: the server answered %s: %s", res.Status, strings.TrimSpace(strings.ToValidUTF8(string(answer), "?")))
	switch code := res.StatusCode; {
	case code == http.StatusTooManyRequests, code == http.StatusServiceUnavailable:
		if after := w.retryAfter(res.Header.Get("Retry-After")); after > 0 {
			return &Later{After: after, Err: err}
		}
		return err
	case code == http.StatusRequestTimeout, code >= 500:
		return err
	default:
		return &Refused{err.Error()}
	}
}

// retryAfter reads the header of that name: seconds, or a date (RFC 9110, section 10.2.3); 0 where it is neither.
func (w *Webhook) retryAfter(text string) time.Duration {
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return at.Sub(w.Now())
	}
	return 0
}

// Sign returns the header Millrace-Signature of a body: the time in Unix seconds, and the HMAC-SHA256 of time, point and body.
func Sign(secret []byte, now time.Time, payload []byte) string {
	t := strconv.FormatInt(now.Unix(), 10)
	mac := hmac.New(sha256.New, secret)
	_, _ = mac.Write([]byte(t + "."))
	_, _ = mac.Write(payload)
	return "t=" + t + ",v1=" + hex.EncodeToString(mac.Sum(nil))
}
