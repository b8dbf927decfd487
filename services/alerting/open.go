package alerting

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/mail"
	"os"
	"slices"

	"github.com/millrace/millrace/pkg/telemetry"
	"github.com/millrace/millrace/services/alerting/internal/engine"
	"github.com/millrace/millrace/services/alerting/internal/notify"
)

// open returns what delivers to the target.
func (t *Target) open(d Deps) (notify.Target, error) {
	switch {
	case t.Webhook != nil:
		headers := make(http.Header, len(t.Webhook.Headers))
		for name, value := range t.Webhook.Headers {
			headers.Set(name, value.Reveal())
		}
		return &notify.Webhook{
			URL: t.Webhook.URL, Secret: []byte(t.Webhook.Secret.Reveal()), Headers: headers,
			Timeout: orDefault(t.Webhook.Timeout), Client: d.HTTP, Now: d.Now,
		}, nil
	case t.SMTP != nil:
		return t.SMTP.open(d)
	default:
		return notify.Log{Log: d.Log}, nil
	}
}

func (s *SMTP) open(d Deps) (notify.Target, error) {
	m := &notify.Mail{
		Addr: s.Addr, Username: s.Username, Password: s.Password.Reveal(), TLS: s.TLS, Timeout: orDefault(s.Timeout), Now: d.Now,
	}
	from, err := mail.ParseAddress(s.From)
	if err != nil {
		return nil, fmt.Errorf("smtp.from: %w", err)
	}
	m.From = *from
	for _, text := range s.To {
		to, err := mail.ParseAddress(text)
		if err != nil {
			return nil, fmt.Errorf("smtp.to: %w", err)
		}
		m.To = append(m.To, *to)
	}
	if s.CAFile == "" {
		return m, nil
	}
	pem, err := os.ReadFile(s.CAFile)
	if err != nil {
		return nil, fmt.Errorf("smtp.ca_file: %w", err)
	}
	m.Roots = x509.NewCertPool()
	if !m.Roots.AppendCertsFromPEM(pem) {
		return nil, errors.New("smtp.ca_file: there is no certificate in it, want PEM")
	}
	return m, nil
}

// filter returns what decides whether the target is told of a change. Nobody is told that an alarm only counts up.
func (t *Target) filter() func(*telemetry.Alarm) bool {
	least := slices.Index(severities(), t.MinSeverity)
	return func(a *telemetry.Alarm) bool {
		if slices.Index(severities(), a.Severity) < least {
			return false
		}
		if len(t.Rules) > 0 && !slices.ContainsFunc(t.Rules, func(glob string) bool { return engine.MatchGlob(glob, a.Rule) }) {
			return false
		}
		var d engine.Detail
		// An alarm whose detail cannot be read is told all the same.
		return json.Unmarshal(a.Detail, &d) != nil || d.Change != engine.ChangeUpdated
	}
}
