package powerloss_test

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/test/torture/powerloss"
)

const (
	senders   = 4
	batch     = 20 // messages of a request
	patience  = 3 * time.Minute
	powerCuts = 3
)

// TestAPowerCutLosesNothingThatWasAcknowledged cuts the power of an instance under load, several times over, and finds in the end
// every message that was acknowledged once in history. The same instance with the log's syncs left to its server's default must
// lose some: else this test would not notice.
func TestAPowerCutLosesNothingThatWasAcknowledged(t *testing.T) {
	for _, c := range []struct {
		name, tags string
		loses      bool
	}{
		{"as it is built", "", false},
		{"with the log's syncs left to the server's default", "breach_no_sync", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &site{program: build(t, c.tags), dir: t.TempDir()}
			cuts := powerCuts
			if testing.Short() || c.loses {
				cuts = 1
			}
			for range cuts {
				s.start(t)
				s.sendAndCutThePower(t)
			}
			s.start(t)
			missing, doubled := s.audit(t)
			s.end(t)
			t.Logf("%d messages acknowledged, %d lost, %d doubled", s.acknowledged(), missing, doubled)
			if doubled > 0 {
				t.Errorf("%d messages are there twice", doubled)
			}
			if (missing > 0) != c.loses {
				t.Errorf("%d of %d acknowledged messages are lost", missing, s.acknowledged())
			}
		})
	}
}

func build(t *testing.T, tags string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "millrace")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-tags", tags, "-o", path, "./services/standalone/cmd/millrace")
	cmd.Dir = filepath.Join("..", "..", "..")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build millrace: %v: %s", err, out)
	}
	return path
}

// site is a machine with one instance.
type site struct {
	program, dir string
	watched      *powerloss.Recorder
	url          string

	mu   sync.Mutex
	sent [senders]int // messages of each sender that were acknowledged, from 0 on
}

func (s *site) acknowledged() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, sent := range s.sent {
		n += sent
	}
	return n
}

// start starts the instance and waits until it takes messages.
func (s *site) start(t *testing.T) {
	t.Helper()
	endpoints := filepath.Join(s.dir, "endpoints.json")
	_ = os.Remove(endpoints)
	log, err := os.OpenFile(filepath.Join(t.TempDir(), "log"), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() })
	argv := []string{s.program, "run", "--data", s.dir, "--http", "127.0.0.1:0", "--mqtt", "127.0.0.1:0", "--nats", "127.0.0.1:0"}
	s.watched, err = powerloss.Start(argv, environment(), s.dir, log)
	if errors.Is(err, powerloss.ErrUnsupported) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	process := s.watched.Process()
	t.Cleanup(func() { _ = process.Kill() })
	eventually(t, "the instance is ready", func() error {
		b, err := os.ReadFile(endpoints)
		if err != nil {
			said, _ := os.ReadFile(log.Name())
			return fmt.Errorf("%w: %s", err, said[max(0, len(said)-2000):])
		}
		var at struct{ HTTP string }
		if err := json.Unmarshal(b, &at); err != nil {
			return err
		}
		s.url = at.HTTP
		resp, err := http.Get(s.url + "/readyz")
		if err != nil {
			return err
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return errors.New(resp.Status)
		}
		return nil
	})
}

func environment() []string {
	var kept []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "MILLRACE_") {
			kept = append(kept, v)
		}
	}
	return kept
}

// sendAndCutThePower kills the instance while its senders send, and takes away what it had not synced.
func (s *site) sendAndCutThePower(t *testing.T) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var all sync.WaitGroup
	for n := range senders {
		all.Go(func() { s.send(ctx, n) })
	}
	before := s.acknowledged()
	eventually(t, "messages are acknowledged", func() error {
		if n := s.acknowledged() - before; n < 4000 {
			return fmt.Errorf("%d are", n)
		}
		return nil
	})
	if err := s.watched.Process().Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.watched.Wait(); err != nil {
		t.Fatal(err)
	}
	stop()
	all.Wait()
	losses, err := s.watched.Lose()
	if err != nil {
		t.Fatal(err)
	}
	total := int64(0)
	for _, l := range losses {
		total += l.Bytes
	}
	t.Logf("the power is cut after %d messages: %d bytes of %d files had not been synced", s.acknowledged(), total, len(losses))
}

// send sends numbered messages one request after the other, the same ones again until they are acknowledged.
func (s *site) send(ctx context.Context, sender int) {
	begin := time.Date(2026, 5, 4, 10, 0, 0, 0, time.UTC)
	for ctx.Err() == nil {
		s.mu.Lock()
		from := s.sent[sender]
		s.mu.Unlock()
		var body bytes.Buffer
		for n := from; n < from+batch; n++ {
			at := begin.Add(time.Duration(n) * time.Millisecond).Format(time.RFC3339Nano)
			_, _ = fmt.Fprintf(&body, `{"n":%d,"timestamp":%q}`+"\n", n, at)
		}
		url := s.url + "/v1/devices/sender-" + strconv.Itoa(sender) + "/messages"
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, &body)
		if err != nil {
			return
		}
		req.Header.Set("Content-Type", "application/x-ndjson")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return // the power is gone
		}
		_ = resp.Body.Close()
		if resp.StatusCode == http.StatusAccepted {
			s.mu.Lock()
			s.sent[sender] = from + batch
			s.mu.Unlock()
		}
	}
}

// audit counts, once everything that the log holds is in history: a last message of each sender says when.
func (s *site) audit(t *testing.T) (missing, doubled int) {
	t.Helper()
	for sender := range senders {
		resp, err := http.Post(s.url+"/v1/devices/sender-"+strconv.Itoa(sender)+"/messages", "application/json", strings.NewReader(`{"last":true}`))
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusAccepted {
			t.Fatal(resp.Status)
		}
	}
	for sender, sent := range s.sent {
		device := fmt.Sprintf("device_id = 'sender-%d'", sender)
		eventually(t, "history has all of "+device, func() error {
			if last := s.count(t, "SELECT count(*) FROM device_messages WHERE channel_key = 'last' AND "+device); last != 1 {
				return fmt.Errorf("%d last messages", last)
			}
			return nil
		})
		rows := s.count(t, "SELECT count(*) FROM device_messages WHERE channel_key = 'n' AND "+device)
		distinct := s.count(t, "SELECT count(DISTINCT value) FROM device_messages WHERE channel_key = 'n' AND "+device)
		there := s.count(t, fmt.Sprintf("SELECT count(DISTINCT value) FROM device_messages WHERE channel_key = 'n' AND value < %d AND %s", sent, device))
		missing += sent - there
		doubled += rows - distinct
	}
	return missing, doubled
}

// count answers SQL that counts; -1 where there is no answer.
func (s *site) count(t *testing.T, sql string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+"/v1/sql", strings.NewReader(sql))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "text/csv")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	rows, err := csv.NewReader(resp.Body).ReadAll()
	if err != nil || resp.StatusCode != http.StatusOK || len(rows) != 2 {
		return -1
	}
	n, err := strconv.Atoi(rows[1][0])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func (s *site) end(t *testing.T) {
	t.Helper()
	if err := s.watched.Process().Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.watched.Wait(); err != nil {
		t.Fatal(err)
	}
}

// eventually waits until check returns nil.
func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	pause := time.NewTicker(50 * time.Millisecond)
	defer pause.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: not after %v: %v", what, patience, err)
		case <-pause.C:
		}
	}
}
