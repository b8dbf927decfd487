package alerting

import (
	"errors"
	"fmt"
	"net"
	"net/mail"
	"net/textproto"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/millrace/millrace/pkg/config"
)

const timeoutDefault = 10 * time.Second

// Target is somebody who is told of alarms: exactly one of Webhook, SMTP and Log.
type Target struct {
	Name        string   `yaml:"name" doc:"Name of the target. How far it has been told is kept under this name: a new name begins with what happens from then on."`
	Webhook     *Webhook `yaml:"webhook" doc:"Tell an HTTP server."`
	SMTP        *SMTP    `yaml:"smtp" doc:"Tell people by mail."`
	Log         bool     `yaml:"log" doc:"Tell the log of the process."`
	MinSeverity string   `yaml:"min_severity" enum:"info|warning|error|critical" doc:"Only alarms of this severity or above."`
	Rules       []string `yaml:"rules" doc:"Only alarms of these rules; * and ? stand for any characters. Empty means all."`
}

// Webhook is an HTTP server that takes a POST for each change of an alarm.
type Webhook struct {
	URL     string                   `yaml:"url" doc:"Where to post to."`
	Secret  config.Secret            `yaml:"secret" doc:"Key of the signature in the header Millrace-Signature; empty means unsigned."`
	Headers map[string]config.Secret `yaml:"headers" doc:"Headers to send beside Millrace's own, such as Authorization."`
	Timeout time.Duration            `yaml:"timeout" doc:"How long one attempt may take."`
}

// SMTP is a mail server and whom to write to.
type SMTP struct {
	Addr     string        `yaml:"addr" doc:"host:port of the server."`
	From     string        `yaml:"from" doc:"Sender."`
	To       []string      `yaml:"to" doc:"Recipients."`
	Username string        `yaml:"username" doc:"Name to log in with (AUTH PLAIN); empty means no login."`
	Password config.Secret `yaml:"password" doc:"Password to log in with."`
	TLS      string        `yaml:"tls" enum:"starttls|implicit|none" doc:"starttls (port 587, refused where the server cannot), implicit (port 465) or none."`
	CAFile   string        `yaml:"ca_file" doc:"PEM file of the authority that signed the server's certificate; empty means the system's."`
	Timeout  time.Duration `yaml:"timeout" doc:"How long one mail may take."`
}

// SetDefaults fills what a target of a file has where the file says nothing.
func (t *Target) SetDefaults() { t.MinSeverity = "info" }

// SetDefaults fills what a webhook of a file has where the file says nothing.
func (w *Webhook) SetDefaults() { w.Timeout = timeoutDefault }

// SetDefaults fills what a mail server of a file has where the file says nothing.
func (s *SMTP) SetDefaults() { s.TLS, s.Timeout = "starttls", timeoutDefault }

var targetName = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,31}$`)

func (t *Target) check() []error {
	var errs []error
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !targetName.MatchString(t.Name) {
		fault("name: %q, want up to 32 lower-case letters, digits, - and _, the first a letter or digit", t.Name)
	}
	ways := 0
	for _, given := range []bool{t.Webhook != nil, t.SMTP != nil, t.Log} {
		if given {
			ways++
		}
	}
	if ways != 1 {
		fault("webhook: %d of webhook, smtp and log are given, want exactly one", ways)
	}
	if t.MinSeverity != "" && !slices.Contains(severities(), t.MinSeverity) {
		fault("min_severity: %q, want %s", t.MinSeverity, strings.Join(severities(), ", "))
	}
	for i, r := range t.Rules {
		if r == "" {
			fault("rules[%d]: it is empty, want the name of a rule", i)
		}
	}
	if t.Webhook != nil {
		for _, err := range t.Webhook.check() {
			fault("webhook.%w", err)
		}
	}
	if t.SMTP != nil {
		for _, err := range t.SMTP.check() {
			fault("smtp.%w", err)
		}
	}
	return errs
}

func (w *Webhook) check() []error {
	var errs []error
	// The URL itself may hold a token, so it is not shown.
	if u, err := url.Parse(w.URL); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		errs = append(errs, errors.New("url: want http:// or https:// and a host"))
	}
	for name, value := range w.Headers {
		switch {
		case !headerName.MatchString(name):
			errs = append(errs, fmt.Errorf("headers.%s: no name that a header can have", name))
		case strings.ContainsAny(value.Reveal(), "\r\n\x00"):
			errs = append(errs, fmt.Errorf("headers.%s: its value has a line break in it", name))
		case slices.Contains([]string{"Content-Type", "Idempotency-Key", "Millrace-Signature"}, textproto.CanonicalMIMEHeaderKey(name)):
			errs = append(errs, fmt.Errorf("headers.%s: Millrace sets it itself", name))
		}
	}
	return append(errs, checkTimeout(w.Timeout)...)
}

var headerName = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")

func (s *SMTP) check() []error {
	var errs []error
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if host, port, err := net.SplitHostPort(s.Addr); err != nil || host == "" || port == "" {
		fault("addr: %q, want host:port", s.Addr)
	}
	if _, err := mail.ParseAddress(s.From); err != nil {
		fault("from: %q, want an address such as millrace@example.com", s.From)
	}
	if len(s.To) == 0 {
		fault("to: none, want at least one address")
	}
	for i, to := range s.To {
		if _, err := mail.ParseAddress(to); err != nil {
			fault("to[%d]: %q, want an address such as ops@example.com", i, to)
		}
	}
	if !slices.Contains([]string{"", "starttls", "implicit", "none"}, s.TLS) {
		fault("tls: %q, want starttls, implicit or none", s.TLS)
	}
	if s.TLS == "none" && s.Username != "" {
		fault("username: the password would be sent in the clear, want tls: starttls or implicit")
	}
	if s.Username == "" && s.Password != "" {
		fault("username: missing, want one beside the password")
	}
	return append(errs, checkTimeout(s.Timeout)...)
}

func checkTimeout(d time.Duration) []error {
	if d < 0 || d > 10*time.Minute {
		return []error{fmt.Errorf("timeout: %v, want 0s to 10m", d)}
	}
	return nil
}

func orDefault(d time.Duration) time.Duration {
	if d == 0 {
		return timeoutDefault
	}
	return d
}
