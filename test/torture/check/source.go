// Package check holds every store against a ledger of what was acknowledged: what is lost, what is there twice, what nobody sent, and of
// what got no answer how much is there all the same.
package check

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Source is where tables are asked: the HTTP interface of `millrace run` or of a live worker.
type Source struct {
	Base   string // such as http://127.0.0.1:8080
	Client *http.Client
}

const (
	queryTimeout = 2 * time.Minute
	answerBytes  = 256 << 20
)

// Query runs SQL and returns the rows as text, without the header.
func (s Source) Query(ctx context.Context, sql string) ([][]string, error) {
	b, truncated, err := s.do(ctx, http.MethodPost, "/v1/sql", sql)
	if err != nil {
		return nil, fmt.Errorf("query %.80s: %w", strings.Join(strings.Fields(sql), " "), err)
	}
	rows, err := csv.NewReader(bytes.NewReader(b)).ReadAll()
	if err != nil || len(rows) == 0 || truncated {
		return nil, fmt.Errorf("query %.80s: an answer of %d rows, cut off: %t: %w", sql, len(rows), truncated, err)
	}
	return rows[1:], nil
}

// List asks a resource and calls each for every row of it, of all pages.
func (s Source) List(ctx context.Context, path, name string, each func(row map[string]any)) error {
	for cursor := ""; ; {
		at := path
		if cursor != "" {
			at += "&cursor=" + url.QueryEscape(cursor)
		}
		b, _, err := s.do(ctx, http.MethodGet, at, "")
		if err != nil {
			return fmt.Errorf("GET %s: %w", path, err)
		}
		var body map[string]any
		if err := json.Unmarshal(b, &body); err != nil {
			return fmt.Errorf("GET %s: %w", path, err)
		}
		rows, _ := body[name].([]any)
		for _, row := range rows {
			if fields, ok := row.(map[string]any); ok {
				each(fields)
			}
		}
		if cursor, _ = body["next"].(string); cursor == "" {
			return nil
		}
	}
}

func (s Source) do(ctx context.Context, method, path, body string) (answer []byte, truncated bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, s.Base+path, strings.NewReader(body))
	if err != nil {
		return nil, false, err
	}
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "text/plain")
		req.Header.Set("Accept", "text/csv")
	}
	resp, err := s.Client.Do(req)
	if err != nil {
		return nil, false, err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(resp.Body, answerBytes))
	if err != nil {
		return nil, false, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, false, fmt.Errorf("%s: %.500s", resp.Status, b)
	}
	return b, resp.Trailer.Get("Millrace-Truncated") == "true", nil
}
