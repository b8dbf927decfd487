package cli

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// shell runs the command in a directory of its own and returns what it wrote.
func shell(t *testing.T, env map[string]string, stdin string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	var out, complaints bytes.Buffer
	var environ []string
	for k, v := range env {
		environ = append(environ, k+"="+v)
	}
	err = Main(t.Context(), &Env{
		Stdin: strings.NewReader(stdin), Stdout: &out, Stderr: &complaints, Version: "v1",
		Getenv: func(name string) string { return env[name] }, Environ: environ,
	}, args)
	return out.String(), complaints.String(), err
}

func TestFlagsMayStandAnywhere(t *testing.T) {
	for _, c := range []struct {
		args, format string
		rest         []string
		fault        bool
	}{
		{"", "table", nil, false},
		{"one", "table", []string{"one"}, false},
		{"--format csv one two", "csv", []string{"one", "two"}, false},
		{"one --format csv two", "csv", []string{"one", "two"}, false},
		{"one two -format=csv", "csv", []string{"one", "two"}, false},
		{"one --formt csv", "", nil, true},
		{"one --format", "", nil, true},
	} {
		flags := flag.NewFlagSet("x", flag.ContinueOnError)
		flags.SetOutput(io.Discard)
		format := flags.String("format", "table", "")
		rest, err := parse(flags, strings.Fields(c.args))
		if (err != nil) != c.fault {
			t.Errorf("%q: %v", c.args, err)
			continue
		}
		if !c.fault && (*format != c.format || !slices.Equal(rest, c.rest)) {
			t.Errorf("%q: %s %q, want %s %q", c.args, *format, rest, c.format, c.rest)
		}
	}
}

func TestEachCommandHelps(t *testing.T) {
	for _, c := range commands() {
		for _, args := range [][]string{{c.name, "--help"}, {"help", c.name}, {c.name, "-h"}} {
			out, complaints, err := shell(t, nil, "", args...)
			if err != nil || complaints != "" || !strings.Contains(out, "Usage: millrace "+c.name) || !strings.Contains(out, "Example:\n  ") {
				t.Errorf("%q: %v %s\n%s", args, err, complaints, out)
			}
		}
		out, _, _ := shell(t, nil, "")
		if !strings.Contains(out, "  "+c.name) {
			t.Errorf("the list of commands does not have %s", c.name)
		}
	}
}

func TestWhatIsNotUnderstoodIsSaid(t *testing.T) {
	for _, c := range []struct {
		args  []string
		env   map[string]string
		want  string // in the error or on standard error
		usage bool
	}{
		{[]string{"rnu"}, nil, `unknown command "rnu"`, true},
		{[]string{"run", "--prot"}, nil, "flag provided but not defined", true},
		{[]string{"run", "--set", "x"}, nil, "want key=value", true},
		{[]string{"run", "millrace.yml"}, nil, `unexpected ["millrace.yml"]: a configuration file is given with --config`, false},
		{[]string{"check", "millrace.yml"}, nil, `unexpected ["millrace.yml"]`, false},
		{[]string{"run"}, map[string]string{"MILLRACE_LOG_LEVEL": "loud"}, `MILLRACE_LOG_LEVEL="loud"`, false},
		{[]string{"check", "--set", "nope=1"}, nil, "nope: unknown key", false},
		{[]string{"check", "--config", "/none/millrace.yml"}, nil, "/none/millrace.yml", false},
		{[]string{"sql", "--url", "localhost:8080", "SELECT 1"}, nil, "want http://HOST:PORT", false},
		{[]string{"sql", "--format", "xml", "SELECT 1"}, nil, "want table, csv or json", false},
		{[]string{"sql"}, nil, "no query", false},
		{[]string{"send", "--batch", "0"}, nil, "--batch of at least 1", false},
		{[]string{"send", "/none"}, nil, "/none", false},
		{[]string{"token"}, nil, "want create, list, or revoke ID", false},
		{[]string{"token", "create", "--scope", "read", "--expires", "soon"}, nil, "--expires", false},
	} {
		_, complaints, err := shell(t, c.env, "", c.args...)
		if err == nil || !strings.Contains(complaints+err.Error(), c.want) || errors.Is(err, ErrUsage) != c.usage {
			t.Errorf("%q: %v %s; want %q", c.args, err, complaints, c.want)
		}
	}
}

func TestCheckSaysWhatIsGood(t *testing.T) {
	if out, _, err := shell(t, nil, "", "check"); err != nil || !strings.Contains(out, "is good") {
		t.Errorf("%s %v", out, err)
	}
	if out, _, err := shell(t, map[string]string{"MILLRACE_TENANT": "acme"}, "", "check", "--show"); err != nil || !strings.Contains(out, "tenant: acme") {
		t.Errorf("%v:\n%s", err, out)
	}
	if out, _, err := shell(t, nil, "", "version"); err != nil || out != "millrace v1\n" {
		t.Errorf("%q %v", out, err)
	}
}

func TestTokensGoWhereTheInstanceLooksForThem(t *testing.T) {
	dir := t.TempDir()
	for name, c := range map[string]struct {
		env  map[string]string
		args []string
		file string
	}{
		"--data":               {nil, []string{"--data", dir + "/a"}, "a/access.json"},
		"--file":               {nil, []string{"--file", dir + "/b.json"}, "b.json"},
		"MILLRACE_DATA":        {map[string]string{"MILLRACE_DATA": dir + "/c"}, nil, "c/access.json"},
		"MILLRACE_ACCESS_FILE": {map[string]string{"MILLRACE_ACCESS_FILE": dir + "/d.json", "MILLRACE_DATA": dir + "/none"}, nil, "d.json"},
	} {
		secret, _, err := shell(t, c.env, "", append([]string{"token", "create", "--device", "dev1"}, c.args...)...)
		if err != nil || !strings.HasPrefix(secret, "mr_") {
			t.Errorf("%s: %q %v", name, secret, err)
			continue
		}
		if _, err := os.Stat(filepath.Join(dir, c.file)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		id := strings.Split(secret, "_")[1]
		if out, _, err := shell(t, c.env, "", append([]string{"token", "revoke", id}, c.args...)...); err != nil || out != "revoked "+id+"\n" {
			t.Errorf("%s: %q %v", name, out, err)
		}
		if out, _, err := shell(t, c.env, "", append([]string{"token", "list"}, c.args...)...); err != nil || !strings.Contains(out, "revoked 2") || strings.Contains(out, strings.TrimSpace(secret)) {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}

func TestATableIsAligned(t *testing.T) {
	long := strings.Repeat("ä", cellMax+5)
	for _, c := range []struct{ name, csv, want string }{
		{"rows", "a,bb\n1,größer\n22,x\n", "a   bb      \n──  ──────  \n1   größer  \n22  x       \n(2 rows)\n"},
		{"one row", "a\n1\n", "a  \n─  \n1  \n(1 row)\n"},
		{"none", "a\n", "a  \n─  \n(0 rows)\n"},
		{"nothing", "", "(no columns)\n"},
		{"line breaks", "a\n\"x\ny\tz\"\n", "a      \n─────  \nx⏎y z  \n(1 row)\n"},
		{"long", "a\n" + long + "\n", "a" + strings.Repeat(" ", cellMax-1) + "  \n" + strings.Repeat("─", cellMax) + "  \n" + strings.Repeat("ä", cellMax-1) + "…  \n(1 row)\n"},
	} {
		var out bytes.Buffer
		if err := printTable(&out, strings.NewReader(c.csv)); err != nil || out.String() != c.want {
			t.Errorf("%s: %v\n%s\nwant\n%s", c.name, err, out.String(), c.want)
		}
	}
	if err := printTable(io.Discard, strings.NewReader("a,b\n1\n")); err == nil {
		t.Error("a row that is too short is shown as if it were whole")
	}
}

// instance answers as handler does.
func instance(t *testing.T, handler http.HandlerFunc) map[string]string {
	t.Helper()
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	return map[string]string{"MILLRACE_URL": s.URL + "/", "MILLRACE_TOKEN": "secret"}
}

func TestSQLAsksAndShows(t *testing.T) {
	env := instance(t, func(w http.ResponseWriter, r *http.Request) {
		query, _ := io.ReadAll(r.Body)
		if r.Header.Get("Authorization") != "Bearer secret" || r.URL.Path != "/v1/sql" {
			t.Errorf("%s with %q", r.URL, r.Header)
		}
		if string(query) == "SELEC" {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `{"error":"syntax error at SELEC"}`)
			return
		}
		w.Header().Set("Trailer", "Millrace-Truncated")
		if r.Header.Get("Accept") == "application/json" {
			_, _ = io.WriteString(w, `{"rows":[]}`)
		} else {
			_, _ = io.WriteString(w, "q\n"+string(query)+"\n")
		}
		w.Header().Set("Millrace-Truncated", fmt.Sprint(strings.Contains(string(query), "many")))
	})
	for _, c := range []struct {
		args           []string
		stdin          string
		out, complains string
	}{
		{[]string{"sql", "SELECT", "1"}, "", "q         \n────────  \nSELECT 1  \n(1 row)\n", ""},
		{[]string{"sql", "--format", "csv"}, "SELECT 2", "q\nSELECT 2\n", ""},
		{[]string{"sql", "--format", "json", "x"}, "", `{"rows":[]}`, ""},
		{[]string{"sql", "--format", "csv", "many"}, "", "q\nmany\n", "cut off"},
	} {
		out, complaints, err := shell(t, env, c.stdin, c.args...)
		if err != nil || out != c.out || !strings.Contains(complaints, c.complains) {
			t.Errorf("%q: %v %q %q", c.args, err, out, complaints)
		}
	}
	if _, _, err := shell(t, env, "", "sql", "SELEC"); err == nil || !strings.Contains(err.Error(), "syntax error at SELEC") {
		t.Errorf("%v, want the instance's own words", err)
	}
	gone := map[string]string{"MILLRACE_URL": "http://127.0.0.1:1"}
	if _, _, err := shell(t, gone, "", "sql", "SELECT 1"); err == nil || !strings.Contains(err.Error(), "is `millrace run` started?") {
		t.Errorf("%v", err)
	}
}

func TestSendCountsAndTriesAgain(t *testing.T) {
	var bodies []string
	tries := 0
	env := instance(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		switch tries++; {
		case strings.Contains(string(b), "busy") && tries == 1:
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		case strings.Contains(string(b), "forbidden"):
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, `{"error":"not this device"}`)
			return
		case strings.Contains(string(b), "nothing"):
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `{"error":"no such thing"}`)
			return
		}
		bodies = append(bodies, string(b))
		lines := strings.Split(strings.TrimSpace(string(b)), "\n")
		var rejected []string
		for i, line := range lines {
			if line == "bad" {
				rejected = append(rejected, fmt.Sprintf(`{"index":%d,"error":"no JSON"}`, i))
			}
		}
		if len(rejected) == len(lines) {
			w.WriteHeader(http.StatusBadRequest)
		}
		_, _ = fmt.Fprintf(w, `{"accepted":%d,"rejected":[%s]}`, len(lines)-len(rejected), strings.Join(rejected, ","))
	})
	for _, c := range []struct {
		name, stdin, batch string
		bodies             []string
		out, complains     string
		err                string
	}{
		{"batches", "a\nb\nc", "2", []string{"a\nb\n", "c\n"}, "3 accepted, 0 rejected", "", ""},
		{"empty lines are not sent, but counted", "a\n\n  \nbad\nc\n", "10", []string{"a\nbad\nc\n"}, "2 accepted, 1 rejected", "line 4 rejected: no JSON", "1 of 3 messages"},
		{"all bad", "bad\nbad\n", "10", []string{"bad\nbad\n"}, "0 accepted, 2 rejected", "line 2 rejected", "2 of 2 messages"},
		{"busy", "busy\n", "10", []string{"busy\n"}, "1 accepted", "", ""},
		{"nothing", "", "10", nil, "0 accepted", "", ""},
		{"not allowed", "a\nforbidden\n", "1", []string{"a\n"}, "", "", "lines 2 to 2: POST /v1/messages: 403 Forbidden: not this device (1 accepted before)"},
		{"refused whole", "nothing\n", "1", nil, "", "", "400 Bad Request: no such thing"},
	} {
		bodies, tries = nil, 0
		out, complaints, err := shell(t, env, c.stdin, "send", "--batch", c.batch)
		if !slices.Equal(bodies, c.bodies) || !strings.Contains(out, c.out) || !strings.Contains(complaints, c.complains) {
			t.Errorf("%s: sent %q, said %q %q", c.name, bodies, out, complaints)
		}
		if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v, want %q", c.name, err, c.err)
		}
	}
}

func TestEventsAreRead(t *testing.T) {
	const stream = "retry: 1000\nid: first\n\n:\nid: quiet\n\nevent: state\nid: 1\ndata: {\"a\":1}\n\n" +
		"event: logs\r\ndata: x\r\ndata:y\r\n\r\nunknown: z\n\nevent: half\ndata: lost"
	var got []string
	err := readEvents(strings.NewReader(stream), func(e event) error {
		got = append(got, fmt.Sprintf("%s|%s|%s", e.name, e.id, e.data))
		return nil
	})
	want := []string{"|first|", "|quiet|", `state|1|{"a":1}`, "logs||x\ny"}
	if !errors.Is(err, io.EOF) || !slices.Equal(got, want) {
		t.Errorf("%v: %q, want %q", err, got, want)
	}
	if err := readEvents(strings.NewReader("data: 1\n\n"), func(event) error { return errOutput }); !errors.Is(err, errOutput) {
		t.Errorf("%v, want that of the printer", err)
	}
}

func TestATailComesBackToWhereItWas(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	var asked []string
	env := instance(t, func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.RawQuery+" "+r.Header.Get("Last-Event-ID"))
		switch len(asked) {
		case 1: // it breaks before anything has happened
			_, _ = io.WriteString(w, "id: first\n\n")
		case 2:
			_, _ = io.WriteString(w, "event: state\nid: second\ndata: {\"device_id\":\"dev1\",\"channel_key\":\"n\",\"channel_value\":\"1\",\"event_time\":\"2026-01-01T00:00:00Z\"}\n\n")
		default:
			stop()
		}
	})
	var out, complaints bytes.Buffer
	err := Main(ctx, &Env{Stdout: &out, Stderr: &complaints, Getenv: func(name string) string { return env[name] }},
		[]string{"tail", "--device", "dev1", "--streams", "state"})
	want := []string{"device=dev1&streams=state ", "device=dev1&streams=state first", "device=dev1&streams=state second"}
	if err != nil || !slices.Equal(asked, want) {
		t.Errorf("%v: asked %q, want %q", err, asked, want)
	}
	if strings.Count(out.String(), "\n") != 1 || !strings.Contains(out.String(), "dev1") {
		t.Errorf("printed %q, want the one event", out.String())
	}
}

func TestEventsForPeople(t *testing.T) {
	for _, c := range []struct{ name, data, want string }{
		{"logs", `{"device_id":"d","severity":"Error","message":"m","event_time":"2026-01-01T00:00:00Z"}`, "Error     m"},
		{"alarms", `{"state":"raised","severity":"error","rule":"r","device_id":"d","channel_key":"c","value":"40"}`, "ALARM raised       error     r on d c (40)"},
		{"missed", `{"missed":3}`, "(3 events missed"},
		{"aggregates", `{"avg":1}`, `{"stream":"aggregates","event":{"avg":1}}`},
		{"new", `{"x":1}`, `{"stream":"new","event":{"x":1}}`},
	} {
		var out bytes.Buffer
		if err := printEvent(&out, event{name: c.name, data: []byte(c.data)}, false); err != nil || !strings.Contains(out.String(), c.want) {
			t.Errorf("%s: %v %q, want %q", c.name, err, out.String(), c.want)
		}
	}
}
