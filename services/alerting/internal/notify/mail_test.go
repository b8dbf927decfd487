package notify_test

import (
	"bufio"
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"io"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/http/httptest"
	"net/mail"
	"net/textproto"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/services/alerting/internal/notify"
)

// post is a small mail server over a real socket.
type post struct {
	addr  string
	roots *x509.CertPool
	cert  tls.Certificate

	mu      sync.Mutex
	answers map[string]string // by line or verb, instead of the good one
	noTLS   bool
	mails   []string
	secured bool // the last mail came over TLS
	login   string
}

func newPost(t *testing.T) *post {
	t.Helper()
	s := httptest.NewTLSServer(nil) // for its certificate, which is good for 127.0.0.1
	defer s.Close()
	p := &post{cert: s.TLS.Certificates[0], roots: x509.NewCertPool(), answers: make(map[string]string)}
	p.roots.AddCert(s.Certificate())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.addr = l.Addr().String()
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer func() { _ = conn.Close() }()
				_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
				p.serve(conn)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		all.Wait()
	})
	return p
}

func (p *post) serve(conn net.Conn) {
	secured := false
	c := textproto.NewConn(conn)
	_ = c.PrintfLine("220 test ESMTP")
	for {
		line, err := c.ReadLine()
		if err != nil {
			return
		}
		verb, rest, _ := strings.Cut(line, " ")
		p.mu.Lock()
		answer, noTLS := cmp.Or(p.answers[line], p.answers[verb]), p.noTLS
		p.mu.Unlock()
		if answer != "" {
			_ = c.PrintfLine("%s", answer)
			continue
		}
		switch verb {
		case "EHLO":
			if secured || noTLS {
				_ = c.PrintfLine("250-test\r\n250 AUTH PLAIN")
			} else {
				_ = c.PrintfLine("250-test\r\n250 STARTTLS")
			}
		case "STARTTLS":
			_ = c.PrintfLine("220 go")
			conn = tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{p.cert}})
			c, secured = textproto.NewConn(conn), true
		case "AUTH":
			p.mu.Lock()
			p.login = strings.TrimPrefix(rest, "PLAIN ")
			p.mu.Unlock()
			_ = c.PrintfLine("235 welcome")
		case "DATA":
			_ = c.PrintfLine("354 go")
			text, _ := io.ReadAll(c.DotReader())
			p.mu.Lock()
			p.mails, p.secured = append(p.mails, string(text)), secured
			p.mu.Unlock()
			_ = c.PrintfLine("250 taken")
		case "QUIT":
			_ = c.PrintfLine("221 bye")
			return
		default:
			_ = c.PrintfLine("250 ok")
		}
	}
}

func (p *post) mail() *notify.Mail {
	return &notify.Mail{
		Addr: p.addr, From: mail.Address{Name: "Millrace", Address: "millrace@example.com"},
		To:       []mail.Address{{Address: "ops@example.com"}, {Name: "Jörg", Address: "joerg@example.com"}},
		Username: "me", Password: "pass", Roots: p.roots, Timeout: 5 * time.Second, Now: now,
	}
}

func TestAMailIsSentOverTLSWithALogin(t *testing.T) {
	p := newPost(t)
	a := alarm()
	a.DeviceID = "thermostat-1\r\nBcc: everybody@example.com"
	a.Detail = []byte(`{"change":"raised","summary":"Zu warm:\r\nBcc: x@example.com 39.5 °C"}`)
	if err := p.mail().Deliver(t.Context(), &a); err != nil {
		t.Fatal(err)
	}
	login, _ := base64.StdEncoding.DecodeString(p.login)
	if len(p.mails) != 1 || !p.secured || string(login) != "\x00me\x00pass" {
		t.Fatalf("mails %q, over TLS %t, login %q", p.mails, p.secured, login)
	}
	m, err := mail.ReadMessage(strings.NewReader(p.mails[0]))
	if err != nil {
		t.Fatal(err)
	}
	subject, err := new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject"))
	if err != nil || subject != "[error] raised: Zu warm: Bcc: x@example.com 39.5 °C" {
		t.Errorf("subject %q (%v)", subject, err)
	}
	if m.Header.Get("Message-Id") != "<0123abc.1@example.com>" || m.Header.Get("Bcc") != "" || !strings.Contains(m.Header.Get("To"), "joerg@example.com") {
		t.Errorf("header %v", m.Header)
	}
	body, err := io.ReadAll(quotedprintable.NewReader(m.Body))
	if err != nil || !strings.Contains(string(body), "39.5 °C") || !strings.Contains(string(body), "Raised:        2026-01-01T00:00:00Z") {
		t.Errorf("body %q (%v)", body, err)
	}
}

func TestWhatAMailServersAnswerMeans(t *testing.T) {
	for _, c := range []struct {
		name, verb, answer string
		refused            bool
	}{
		{"an unknown recipient", "RCPT", "550 nobody here", true},
		{"a sender that it does not like", "MAIL", "553 no", true},
		{"a mail that it does not like", "DATA", "554 spam", true},
		{"a full mailbox", "RCPT", "452 full", false},
		{"a wrong password", "AUTH", "535 wrong", false},
		{"busy", "MAIL", "421 busy", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPost(t)
			p.answers[c.verb] = c.answer
			a := alarm()
			err := p.mail().Deliver(t.Context(), &a)
			var never *notify.Refused
			if err == nil || errors.As(err, &never) != c.refused || !strings.Contains(err.Error(), c.answer[:3]) {
				t.Errorf("%v, refused for good: want %t", err, c.refused)
			}
		})
	}
}

func TestOneRecipientWhoIsGoneKeepsTheMailFromNobodyElse(t *testing.T) {
	p := newPost(t)
	p.answers["RCPT TO:<ops@example.com>"] = "550 nobody here"
	a := alarm()
	err := p.mail().Deliver(t.Context(), &a)
	var never *notify.Refused
	if !errors.As(err, &never) || !strings.Contains(err.Error(), "recipient ops@example.com: 550") || strings.Contains(err.Error(), "joerg") {
		t.Errorf("%v, want a refusal that names the recipient", err)
	}
	if len(p.mails) != 1 {
		t.Errorf("%d mails, want that of the other recipient", len(p.mails))
	}
}

func TestAMailServerWithoutTLSIsNotSpokenToInTheClear(t *testing.T) {
	p := newPost(t)
	p.noTLS = true
	a := alarm()
	if err := p.mail().Deliver(t.Context(), &a); err == nil || !strings.Contains(err.Error(), "no STARTTLS") || p.login != "" {
		t.Errorf("%v, login %q", err, p.login)
	}
}

func TestAMailServerThatHangsIsGivenUp(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := l.Accept()
		if err == nil {
			_, _ = bufio.NewReader(conn).ReadString('\n') // says nothing until the other side hangs up
			_ = conn.Close()
		}
	}()
	m := (&post{addr: l.Addr().String()}).mail()
	m.Timeout = 50 * time.Millisecond
	a := alarm()
	if err := m.Deliver(t.Context(), &a); err == nil {
		t.Error("no error")
	}
	<-done
}
