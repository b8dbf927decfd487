package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"time"
)

func sendCommand() command {
	return command{
		name: "send", args: "[FILE]", summary: "post NDJSON from a file or standard input",
		example: "millrace send messages.ndjson\n" +
			`echo '{"DeviceId":"dev1","MessageType":"Channel","ChannelKey":"temperature","ChannelValue":"21.5"}' | millrace send`,
		setup: func(flags *flag.FlagSet, env *Env) func(context.Context, []string) error {
			connect := clientFlags(flags, env)
			batch := flags.Int("batch", 1000, "`lines` in one request")
			return func(ctx context.Context, args []string) error {
				c, err := connect()
				if err != nil {
					return err
				}
				if *batch < 1 || len(args) > 1 {
					return errors.New("want at most one file, and --batch of at least 1")
				}
				in := env.Stdin
				if len(args) == 1 && args[0] != "-" {
					f, err := os.Open(args[0])
					if err != nil {
						return err
					}
					defer func() { _ = f.Close() }()
					in = f
				}
				return (&sender{client: c, env: env, batchLines: *batch, started: time.Now()}).run(ctx, in)
			}
		},
	}
}

// batchBytes bounds a request, so that it stays below the body size that an instance takes by default.
const batchBytes = 4 << 20

// sender posts lines in batches and keeps count.
type sender struct {
	client     *client
	env        *Env
	batchLines int
	started    time.Time

	line     int   // number of the last line read, from 1
	lines    []int // numbers of the batch's lines; empty ones are not sent
	accepted int
	rejected int
	shown    time.Time
}

func (s *sender) run(ctx context.Context, in io.Reader) error {
	lines := bufio.NewReaderSize(in, 1<<20)
	var batch bytes.Buffer
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("read line %d: %w", s.line+1, err)
		}
		atEnd := err != nil
		if len(line) > 0 {
			s.line++
		}
		if line = bytes.TrimSpace(line); len(line) > 0 {
			batch.Write(line)
			batch.WriteByte('\n')
			s.lines = append(s.lines, s.line)
		}
		if len(s.lines) > 0 && (atEnd || len(s.lines) >= s.batchLines || batch.Len() >= batchBytes) {
			if err := s.post(ctx, batch.Bytes()); err != nil {
				return fmt.Errorf("lines %d to %d: %w (%d accepted before)", s.lines[0], s.line, err, s.accepted)
			}
			batch.Reset()
			s.lines = s.lines[:0]
			s.progress(false)
		}
		if atEnd {
			s.progress(true)
			if s.rejected > 0 {
				return fmt.Errorf("%d of %d messages were rejected; they are in dead_letters with their reasons", s.rejected, s.accepted+s.rejected)
			}
			return nil
		}
	}
}

// post sends one batch, again and again while the instance asks to wait. An Idempotency-Key is not needed: what a device
// stamped is known again by its content.
func (s *sender) post(ctx context.Context, batch []byte) error {
	for {
		//nolint:bodyclose // answer closes it
		resp, err := s.client.do(ctx, http.MethodPost, "/v1/messages", bytes.NewReader(batch),
			map[string]string{"Content-Type": "application/x-ndjson"},
			http.StatusBadRequest, http.StatusTooManyRequests, http.StatusServiceUnavailable)
		if err != nil {
			return err
		}
		wait, err := s.answer(resp)
		if err != nil || wait == 0 {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}

// answer counts what one request achieved; wait is how long to wait before the same request is made again, 0 for never.
func (s *sender) answer(resp *http.Response) (wait time.Duration, err error) {
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusServiceUnavailable {
		seconds, err := strconv.Atoi(resp.Header.Get("Retry-After"))
		if err != nil || seconds < 1 {
			seconds = 1
		}
		return time.Duration(seconds) * time.Second, nil
	}
	var got struct {
		Accepted int `json:"accepted"`
		Rejected []struct {
			Index int    `json:"index"`
			Error string `json:"error"`
		} `json:"rejected"`
		Error string `json:"error"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&got); err != nil {
		return 0, fmt.Errorf("%s: understand the answer: %w", resp.Status, err)
	}
	if len(got.Rejected) == 0 && resp.StatusCode >= http.StatusBadRequest {
		return 0, fmt.Errorf("%s: %s", resp.Status, got.Error)
	}
	s.accepted += got.Accepted
	s.rejected += len(got.Rejected)
	for _, r := range got.Rejected {
		_, _ = fmt.Fprintf(s.env.Stderr, "line %d rejected: %s\n", s.numberOf(r.Index), r.Error)
	}
	return 0, nil
}

// numberOf returns the number of a line of the batch in what was read.
func (s *sender) numberOf(index int) int {
	if index < 0 || index >= len(s.lines) {
		return s.line // the server counts otherwise: a line held more than one message
	}
	return s.lines[index]
}

// progress shows the count, in place on a terminal, at the end elsewhere.
func (s *sender) progress(last bool) {
	const every = 200 * time.Millisecond
	now := time.Now()
	if !last && (!s.env.Terminal || now.Sub(s.shown) < every) {
		return
	}
	s.shown = now
	rate := float64(s.accepted) / max(now.Sub(s.started).Seconds(), 1e-3)
	end := "\r"
	if last {
		end = "\n"
	}
	_, _ = fmt.Fprintf(s.env.Stdout, "%d accepted, %d rejected, %.0f messages/s  %s", s.accepted, s.rejected, rate, end)
}
