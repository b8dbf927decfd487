package cli

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// defaultURL is where `millrace run` listens when it is told nothing.
const defaultURL = "http://127.0.0.1:8080"

// client speaks to a running instance.
type client struct {
	base  string
	token string
	http  *http.Client
}

// clientFlags declares --url and --token; the returned function makes the client once the flags are parsed.
func clientFlags(flags *flag.FlagSet, env *Env) func() (*client, error) {
	base := flags.String("url", orDefault(env.Getenv("MILLRACE_URL"), defaultURL), "`URL` of the instance; MILLRACE_URL sets it too")
	token := flags.String("token", "", "API `token`, where the instance asks for one; better set MILLRACE_TOKEN")
	return func() (*client, error) {
		u, err := url.Parse(*base)
		if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
			return nil, fmt.Errorf("--url %q: want http://HOST:PORT or https://HOST:PORT", *base)
		}
		return &client{
			base: strings.TrimRight(*base, "/"), token: orDefault(*token, env.Getenv("MILLRACE_TOKEN")),
			http: &http.Client{Transport: &http.Transport{
				DialContext:           (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
				ResponseHeaderTimeout: 5 * time.Minute, MaxIdleConnsPerHost: 8,
			}},
		}, nil
	}
}

func orDefault(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// do sends a request and returns the answer, whose body the caller closes. An answer of 400 or more is an error with the
// server's own words, except where its code is in expected.
func (c *client) do(ctx context.Context, method, path string, body io.Reader, header map[string]string, expected ...int) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return nil, err
	}
	for k, v := range header {
		req.Header.Set(k, v)
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		var refused *net.OpError
		if errors.As(err, &refused) && refused.Op == "dial" {
			return nil, fmt.Errorf("%s does not answer (%w): is `millrace run` started?", c.base, refused.Err)
		}
		return nil, err
	}
	if resp.StatusCode >= http.StatusBadRequest && !slices.Contains(expected, resp.StatusCode) {
		defer func() { _ = resp.Body.Close() }()
		return nil, fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, complaint(resp.Body))
	}
	return resp, nil
}

// complaint returns the server's own words: the member "error" of a JSON answer, else the text.
func complaint(body io.Reader) string {
	const textMax = 64 << 10
	b, err := io.ReadAll(io.LimitReader(body, textMax))
	if err != nil {
		return err.Error()
	}
	var answer struct {
		Error string `json:"error"`
	}
	if json.Unmarshal(b, &answer) == nil && answer.Error != "" {
		return answer.Error
	}
	return strings.TrimSpace(string(b))
}
