package elasticsearch

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/elastic/elastic-transport-go/v8/elastictransport"
)

const (
	contentJSON   = "application/json"
	contentNDJSON = "application/x-ndjson"
	// answerBytesMax is the most that is read of an answer; the largest are pages of rows.
	answerBytesMax = 512 << 20
	reasonMax      = 500 // bytes of a server's words in an error
	idleConns      = 32  // kept open to each node
)

// client calls the server once and says what came of it: no retries, no sniffing. It is the transport of the official client alone:
// the client's own package holds types for each of the server's thousand requests, which triple the size of a worker.
type client struct {
	base    *elastictransport.Client
	genuine atomic.Bool // the server has said what it is
	http    *http.Transport
	timeout time.Duration
	nodes   int
}

func newClient(cfg Config) (*client, error) {
	nodes, user, err := cfg.addresses()
	if err != nil {
		return nil, err
	}
	if user != nil && cfg.User == "" && cfg.APIKey == "" {
		cfg.User = user.Username()
		if password, ok := user.Password(); ok && cfg.Password == "" {
			cfg.Password = password
		}
	}
	transport, ok := http.DefaultTransport.(*http.Transport)
	if !ok {
		transport = &http.Transport{}
	}
	transport = transport.Clone()
	transport.TLSClientConfig = cfg.TLS
	transport.MaxIdleConnsPerHost = idleConns
	urls := make([]*url.URL, len(nodes))
	for i, node := range nodes {
		if urls[i], err = url.Parse(node); err != nil {
			return nil, errors.New("a URL that cannot be read") // it may hold a password
		}
	}
	base, err := elastictransport.New(elastictransport.Config{
		URLs: urls, Username: cfg.User, Password: cfg.Password, APIKey: cfg.APIKey, Transport: transport, DisableRetry: true,
	})
	if err != nil {
		return nil, err
	}
	return &client{base: base, http: transport, timeout: cfg.Timeout, nodes: len(nodes)}, nil
}

// close ends what the client does by itself: asking nodes that were down whether they are back.
func (c *client) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.timeout)
	defer cancel()
	err := c.base.Close(ctx)
	c.http.CloseIdleConnections()
	return err
}

// bounded gives ctx the deadline that it may lack.
func (c *client) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, c.timeout)
}

// anyNode calls f until a node answers, once for each node: f's next call goes to the next one, and those that are down are left out
// for a while from then on.
func (c *client) anyNode(f func() error) (err error) {
	for range c.nodes {
		var a *answerError
		if err = f(); err == nil || errors.As(err, &a) {
			return err
		}
	}
	return err
}

// answerError is an answer that is not of the 200s.
type answerError struct {
	status       int
	kind, reason string
}

// Error says what the server said.
func (e *answerError) Error() string {
	if e.kind == "" {
		return fmt.Sprintf("the server answers %d %s", e.status, http.StatusText(e.status))
	}
	return fmt.Sprintf("the server answers %d: %s: %s", e.status, e.kind, e.reason)
}

// answered reports whether err is an answer of the server with this status.
func answered(err error, status int) bool {
	var a *answerError
	return errors.As(err, &a) && a.status == status
}

// call sends one request and reads the answer into out (nil drops it). body is nil, []byte as it is, or a value that becomes
// JSON.
func (c *client) call(ctx context.Context, method, path string, body, out any) error {
	var content []byte
	switch b := body.(type) {
	case nil:
	case []byte:
		content = b
	default:
		var err error
		if content, err = json.Marshal(b); err != nil {
			return fmt.Errorf("%s %s: %w", method, path, err)
		}
	}
	answer, err := c.post(ctx, method, path, contentJSON, content, nil)
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("%s %s: read the answer: %w", method, path, err)
	}
	return nil
}

// post sends content and appends the answer to dst.
func (c *client) post(ctx context.Context, method, path, contentType string, content, dst []byte) ([]byte, error) {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	var body io.Reader
	if content != nil {
		body = bytes.NewReader(content)
	}
	req, err := http.NewRequestWithContext(ctx, method, path, body)
	if err != nil {
		return dst, err
	}
	if content != nil {
		req.Header.Set("Content-Type", contentType)
	}
	res, err := c.base.Perform(req)
	if err != nil {
		return dst, err
	}
	defer func() { _ = res.Body.Close() }()
	if err := c.checkProduct(res); err != nil {
		return dst, err
	}
	start := len(dst)
	into := bytes.NewBuffer(dst)
	n, err := into.ReadFrom(io.LimitReader(res.Body, answerBytesMax))
	dst = into.Bytes()
	switch {
	case err != nil:
		return dst, fmt.Errorf("read the answer: %w", err)
	case res.StatusCode > 299:
		return dst, newAnswerError(res.StatusCode, dst[start:])
	case n == answerBytesMax:
		return dst, fmt.Errorf("an answer of more than %d bytes", answerBytesMax)
	}
	return dst, nil
}

// checkProduct refuses what only speaks like Elasticsearch, by its first good answer, as the official client does.
func (c *client) checkProduct(res *http.Response) error {
	if c.genuine.Load() || res.StatusCode > 299 {
		return nil
	}
	if res.Header.Get("X-Elastic-Product") != "Elasticsearch" {
		return errors.New("the server is not Elasticsearch")
	}
	c.genuine.Store(true)
	return nil
}

func newAnswerError(status int, body []byte) *answerError {
	e := &answerError{status: status}
	var told struct {
		Error json.RawMessage `json:"error"`
	}
	if json.Unmarshal(body, &told) != nil {
		return e
	}
	var fault itemFault
	if json.Unmarshal(told.Error, &fault) == nil {
		e.kind, e.reason = fault.Type, cut(fault.Reason)
		return e
	}
	if json.Unmarshal(told.Error, &e.reason) == nil {
		e.kind, e.reason = "error", cut(e.reason)
	}
	return e
}

func cut(s string) string {
	if len(s) > reasonMax {
		return s[:reasonMax] + "…"
	}
	return s
}
