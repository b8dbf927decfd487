package config_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/config"
)

func TestDurations(t *testing.T) {
	const day = 24 * time.Hour
	for text, want := range map[string]time.Duration{
		"30s": 30 * time.Second, "7d": 7 * day, "1d12h": 36 * time.Hour, "0.5d": 12 * time.Hour, "-7d": -7 * day,
		"-1d1h": -25 * time.Hour, "0": 0, "1m30s": 90 * time.Second, "250ms": 250 * time.Millisecond, "106751d": 106751 * day,
	} {
		got, err := config.ParseDuration(text)
		if err != nil || got != want {
			t.Errorf("%q: got %v, %v, want %v", text, got, err, want)
		}
		if again, err := config.ParseDuration(config.FormatDuration(got)); err != nil || again != got {
			t.Errorf("%q is written as %q, which is read as %v, %v", text, config.FormatDuration(got), again, err)
		}
	}
	for _, text := range []string{"", "5", "d", "7 days", "1h1d", "1d-1h", "1d+1h", "--1d", "1e3d", "NaNd", "106752d", "106751d24h", "1dd", "12 parsecs"} {
		if got, err := config.ParseDuration(text); err == nil {
			t.Errorf("%q was taken for %v", text, got)
		}
	}
	for want, d := range map[string]time.Duration{
		"7d": 7 * day, "1h": time.Hour, "5m": 5 * time.Minute, "1h5m": 65 * time.Minute, "10s": 10 * time.Second, "0s": 0, "1h0m5s": time.Hour + 5*time.Second, "10m": 10 * time.Minute,
	} {
		if got := config.FormatDuration(d); got != want {
			t.Errorf("%v: got %q, want %q", d, got, want)
		}
	}
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]config.Bytes{
		"0": 0, "1000": 1000, "256KiB": 256 << 10, "1GiB": 1 << 30, "1.5MiB": 3 << 19, "10 MB": 10e6, "1kb": 1000, "7B": 7, "2tib": 2 << 40,
		"9223372036854775807": math.MaxInt64,
	} {
		got, err := config.ParseBytes(text)
		if err != nil || got != want {
			t.Errorf("%q: got %d, %v, want %d", text, got, err, want)
		}
		if again, err := config.ParseBytes(got.String()); err != nil || again != got {
			t.Errorf("%q is written as %q, which is read as %d, %v", text, got, again, err)
		}
	}
	for _, text := range []string{"", "B", "KiB", "-1", "+-1", "1.5", "1.5B", "1e3", "1 parsec", "9223372036854775808", "9000000TiB", "NaN", "1.2.3MB", "0x10"} {
		if got, err := config.ParseBytes(text); err == nil {
			t.Errorf("%q was taken for %d", text, got)
		}
	}
}

func TestSecretsDoNotShow(t *testing.T) {
	type holder struct{ Password config.Secret }
	h := holder{"hunter2"}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&out, verb+" "+verb+" "+verb+"\n", h, &h, h.Password)
	}
	for _, handler := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		slog.New(handler).Info("x", "secret", h.Password, "holder", h)
	}
	if err := json.NewEncoder(&out).Encode(h); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out.String(), "hunter2") || strings.Contains(out.String(), "68756e") {
		t.Errorf("shown: %s", out.String())
	}
	if h.Password.Reveal() != "hunter2" || config.Secret("").String() != "" {
		t.Error("the secret cannot be had, or an empty one looks as if it were given")
	}
}

func TestAWrongValueFromAVariableIsNotShown(t *testing.T) {
	var cfg struct {
		From time.Time `yaml:"from"`
		N    int       `yaml:"n"`
	}
	err := config.Load(config.Source{YAML: []byte("from: ${PW}\nn: x${PW}"), Env: []string{"PW=hunter2"}}, &cfg)
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("got %v", err)
	}
}

func TestDescriptionsMatchTheGoldenFiles(t *testing.T) {
	cfg := defaults()
	var table bytes.Buffer
	if err := config.Markdown(&table, config.Describe(&cfg)...); err != nil {
		t.Fatal(err)
	}
	for name, got := range map[string]string{"testdata/describe.want.md": table.String(), "testdata/example.want.yml": config.Example(cfg)} {
		if os.Getenv("MILLRACE_UPDATE") == "1" {
			if err := os.WriteFile(name, []byte(got), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s: got\n%s", name, got)
		}
	}
}

func TestTheExampleIsReadBackAsItWas(t *testing.T) {
	want := defaults()
	want.Router.Routes = append(want.Router.Routes, route{Name: "on", To: []string{"-x", "", "a: b", "#c", "${d}", "null", "1", "x\ny"}})
	want.Router.Endpoints = map[string]endpoint{"warm": {URL: "nats://x"}}
	want.Router.Ports = map[int]string{1: "true"}
	want.Tree = tree{Children: []tree{{Children: []tree{{Children: []tree{}}}}}}
	text := config.Example(&want)
	var got file
	if err := config.Load(config.Source{YAML: []byte(text)}, &got); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v\n%s", got, want, text)
	}
}

func TestEveryDescribedVariableIsRead(t *testing.T) {
	cfg := defaults()
	var env []string
	for _, k := range config.Describe(cfg) {
		if k.Env != "" && k.Default != "" && !strings.Contains(k.Default, "given") && !k.Section && k.Type != "secret" {
			text := k.Default
			if strings.HasPrefix(text, `"`) {
				continue // quotes are YAML's, a variable needs none
			}
			env = append(env, k.Env+"="+text)
		}
	}
	if len(env) < 12 {
		t.Fatalf("only %q", env)
	}
	var got file
	got.Router.MaxSkew = 1
	if err := config.Load(config.Source{Env: env}, &got); err != nil {
		t.Error(err)
	}
	if got.Ingest.MQTT != cfg.Ingest.MQTT || got.Router.MaxSkew != cfg.Router.MaxSkew || got.Router.Size != 128 {
		t.Errorf("got %+v", got)
	}
}
