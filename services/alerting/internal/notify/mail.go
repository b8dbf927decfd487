package notify

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"net/smtp"
	"net/textproto"
	"strings"
	"time"

	"github.com/millrace/millrace/pkg/telemetry"
)

// Mail writes a mail for each change.
type Mail struct {
	Addr               string // host:port
	From               mail.Address
	To                 []mail.Address
	Username, Password string         // Username "" logs in nowhere
	TLS                string         // starttls, implicit or none; "" is starttls
	Roots              *x509.CertPool // nil: the system's
	Timeout            time.Duration  // of one mail; 0 is none
	Now                func() time.Time
}

// Deliver implements Target. What the server refuses for good (a 5xx to sender, recipients or the mail itself) is a refusal; of
// some of the recipients it is one too, but the others have the mail.
// That the server cannot be reached, has no TLS, or does not let us in is not: it is for an operator to mend.
func (m *Mail) Deliver(ctx context.Context, a *telemetry.Alarm) error {
	if m.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, m.Timeout)
		defer cancel()
	}
	text, err := m.compose(a)
	if err != nil {
		return &Refused{"compose the mail: " + err.Error()}
	}
	c, err := m.dial(ctx)
	if err != nil {
		return fmt.Errorf("mail server %s: %w", m.Addr, err)
	}
	defer func() { _ = c.Close() }() // after Quit it is closed already
	// smtp knows no contexts: closing the connection ends whatever it waits for.
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	if err := m.open(c); err != nil {
		return fmt.Errorf("mail server %s: %w", m.Addr, err)
	}
	if err := m.send(c, text); err != nil {
		if permanent(err) {
			return &Refused{fmt.Sprintf("mail server %s: %s", m.Addr, strings.ReplaceAll(err.Error(), "\n", "; "))}
		}
		return fmt.Errorf("mail server %s: %w", m.Addr, err)
	}
	_ = c.Quit() // the mail is taken
	return nil
}

func (m *Mail) tls() *tls.Config {
	host, _, _ := net.SplitHostPort(m.Addr) // checked with the configuration
	return &tls.Config{ServerName: host, RootCAs: m.Roots, MinVersion: tls.VersionTLS12}
}

func (m *Mail) dial(ctx context.Context) (*smtp.Client, error) {
	var conn net.Conn
	var err error
	if m.TLS == "implicit" {
		conn, err = (&tls.Dialer{Config: m.tls()}).DialContext(ctx, "tcp", m.Addr)
	} else {
		conn, err = (&net.Dialer{}).DialContext(ctx, "tcp", m.Addr)
	}
	if err != nil {
		return nil, err
	}
	if until, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(until); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
	}
	host, _, _ := net.SplitHostPort(m.Addr)
	c, err := smtp.NewClient(conn, host)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return c, nil
}

// open greets the server, turns TLS on and logs in.
func (m *Mail) open(c *smtp.Client) error {
	if m.TLS == "" || m.TLS == "starttls" {
		if ok, _ := c.Extension("STARTTLS"); !ok {
			return errors.New("it has no STARTTLS, want tls: implicit or none")
		}
		if err := c.StartTLS(m.tls()); err != nil {
			return fmt.Errorf("start TLS: %w", err)
		}
	}
	if m.Username == "" {
		return nil
	}
	host, _, _ := net.SplitHostPort(m.Addr)
	if err := c.Auth(smtp.PlainAuth("", m.Username, m.Password, host)); err != nil {
		return fmt.Errorf("log in: %w", err)
	}
	return nil
}

func (m *Mail) send(c *smtp.Client, text []byte) error {
	if err := c.Mail(m.From.Address); err != nil {
		return fmt.Errorf("sender %s: %w", m.From.Address, err)
	}
	var unknown []error // one recipient who is gone keeps the mail from nobody else
	for _, to := range m.To {
		err := c.Rcpt(to.Address)
		if err != nil {
			err = fmt.Errorf("recipient %s: %w", to.Address, err)
		}
		switch {
		case permanent(err):
			unknown = append(unknown, err)
		case err != nil:
			return err
		}
	}
	if len(unknown) == len(m.To) {
		return errors.Join(unknown...)
	}
	w, err := c.Data()
	if err != nil {
		return fmt.Errorf("send the mail: %w", err)
	}
	if _, err := w.Write(text); err != nil {
		return fmt.Errorf("send the mail: %w", err)
	}
	if err := w.Close(); err != nil {
		return fmt.Errorf("send the mail: %w", err)
	}
	return errors.Join(unknown...)
}

// permanent says whether a server refuses for good.
func permanent(err error) bool {
	var answer *textproto.Error
	return errors.As(err, &answer) && answer.Code >= 500
}

// compose writes the mail. Its Message-ID is that of the change, so that a mail program shows a repetition once.
func (m *Mail) compose(a *telemetry.Alarm) ([]byte, error) {
	var b bytes.Buffer
	domain := "millrace"
	if _, host, ok := strings.Cut(m.From.Address, "@"); ok {
		domain = host
	}
	to := make([]string, len(m.To))
	for i := range m.To {
		to[i] = m.To[i].String()
	}
	subject := mime.QEncoding.Encode("utf-8", oneLine(Subject(a)))
	for _, h := range [][2]string{
		{"From", m.From.String()},
		{"To", strings.Join(to, ", ")},
		{"Subject", subject},
		{"Date", m.Now().Format(time.RFC1123Z)},
		{"Message-ID", "<" + Key(a) + "@" + domain + ">"},
		{"References", "<" + a.AlarmID + "@" + domain + ">"}, // one thread for the life of an alarm
		{"Auto-Submitted", "auto-generated"},
		{"MIME-Version", "1.0"},
		{"Content-Type", "text/plain; charset=utf-8"},
		{"Content-Transfer-Encoding", "quoted-printable"},
	} {
		fmt.Fprintf(&b, "%s: %s\r\n", h[0], h[1])
	}
	b.WriteString("\r\n")
	w := quotedprintable.NewWriter(&b)
	if _, err := w.Write([]byte(text(a))); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// text is what a mail says.
func text(a *telemetry.Alarm) string {
	d := detailOf(a)
	var b strings.Builder
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%-14s %s\r\n", name+":", value)
		}
	}
	if d.Summary != "" {
		b.WriteString(d.Summary + "\r\n\r\n")
	}
	line("State", string(a.State))
	line("Severity", a.Severity)
	line("Rule", a.Rule)
	line("Device", a.DeviceID)
	line("Channel", a.ChannelKey)
	line("Condition", d.Condition)
	line("Value", a.Value)
	line("Before", a.PreviousValue)
	line("Raised", clock(a.RaisedAt))
	line("Acknowledged", strings.TrimSpace(clock(a.AckedAt)+" "+d.AcknowledgedBy))
	line("Note", d.Note)
	line("Cleared", clock(a.ClearedAt))
	line("Reason", d.Reason)
	if d.Flapping {
		line("Flapping", "it comes and goes, and will clear only after a time of calm")
	}
	line("Alarm", a.AlarmID)
	return b.String()
}

func clock(t telemetry.Time) string {
	if t == 0 {
		return ""
	}
	return t.Std().Format(time.RFC3339)
}
