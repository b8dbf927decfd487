package config_test

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/config"
)

func TestEveryFaultIsReportedWithItsLineAndKey(t *testing.T) {
	want := map[string]string{}
	text, err := os.ReadFile("testdata/faults.txt")
	if err != nil {
		t.Fatal(err)
	}
	for block := range strings.SplitSeq(string(text), "== ") {
		if name, message, ok := strings.Cut(block, "\n"); ok {
			want[name] = strings.TrimSpace(message)
		}
	}
	files, err := filepath.Glob("testdata/*.bad.yml")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != len(want) {
		t.Errorf("%d bad files and %d messages, want one each", len(files), len(want))
	}
	var all strings.Builder
	for _, name := range files {
		cfg := defaults()
		err := config.Load(config.Source{File: name, Env: []string{"HOST=localhost"}, OtherSections: []string{"live"}}, &cfg)
		if err == nil {
			t.Errorf("%s was taken", name)
			continue
		}
		base := filepath.Base(name)
		got := strings.ReplaceAll(err.Error(), name, base)
		all.WriteString("== " + base + "\n" + got + "\n")
		if got != want[base] {
			t.Errorf("%s:\n got: %s\nwant: %s", base, got, want[base])
		}
	}
	if os.Getenv("MILLRACE_UPDATE") == "1" {
		if err := os.WriteFile("testdata/faults.txt", []byte(all.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestGoodFileSetsEverything(t *testing.T) {
	cfg := defaults()
	src := config.Source{File: "testdata/whole.good.yml", Env: []string{"HOST=localhost"}, OtherSections: []string{"live"}}
	if err := config.Load(src, &cfg); err != nil {
		t.Fatal(err)
	}
	first := route{Name: "telemetry", Enabled: true, To: []string{"a", "b"}}
	want := file{
		Bus: "nats://localhost:4222",
		Ingest: ingest{
			MQTT:    mqtt{Addr: "localhost:1883", MaxMessage: 1 << 20, Connections: 1000, TLS: true},
			Token:   "s3cret",
			Level:   slog.LevelDebug,
			From:    time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
			Retry:   &retry{Times: 3, Wait: time.Second},
			Literal: "a ${b} $c",
		},
		Router: router{
			MaxSkew:   36 * time.Hour,
			Share:     0.25,
			Mode:      "safe",
			Routes:    []route{first, {Name: "logs", To: []string{"c"}}, first},
			Endpoints: map[string]endpoint{"warm": {URL: "nats://x"}},
			Labels:    map[string]string{"a": "1", "b": "2"},
			Ports:     map[int]string{1883: "mqtt"},
			Cache:     Cache{Size: 128},
		},
		Tree: tree{Children: []tree{{Children: []tree{}}, {Children: []tree{{Children: []tree{}}}}}},
	}
	if !reflect.DeepEqual(cfg, want) {
		t.Errorf("got  %+v\nwant %+v", cfg, want)
	}
}

func TestNothingGivenKeepsTheDefaults(t *testing.T) {
	for _, src := range []config.Source{
		{}, {YAML: []byte("# nothing\n")}, {File: "testdata/defaults.good.yml"}, {YAML: []byte{}, File: "named.yml"},
	} {
		cfg := defaults()
		if err := config.Load(src, &cfg); err != nil {
			t.Errorf("%+v: %v", src, err)
		}
		if !reflect.DeepEqual(cfg, defaults()) {
			t.Errorf("%+v: got %+v", src, cfg)
		}
	}
}

func TestOneSectionOfTheFile(t *testing.T) {
	text := []byte("bus: nats://x\nrouter:\n  max_skew: 1m\ningest: {nonsense: 1}\nroutr: {}\n")
	cfg := defaults().Router
	err := config.Load(config.Source{
		File: "m.yml", YAML: text, Section: "router", OtherSections: []string{"bus", "ingest", "router"},
		Env:   []string{"MILLRACE_ROUTER_SHARE=0.75", "MILLRACE_INGEST_NONSENSE=1", "MILLRACE_BUS=mem:", "MILLRACE_ROUTER_SHARES=1"},
		Flags: map[string]string{"router.mode": "safe", "ingest.nonsense": "1"},
	}, &cfg)
	want := "m.yml:5: routr: unknown key, did you mean router?\n" +
		"MILLRACE_ROUTER_SHARES: unknown variable, did you mean MILLRACE_ROUTER_SHARE?"
	if err == nil || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
	if cfg.MaxSkew != time.Minute || cfg.Share != 0.75 || cfg.Mode != "safe" {
		t.Errorf("got %+v", cfg)
	}

	var bus string
	src := config.Source{YAML: text, Section: "bus", OtherSections: []string{"router", "ingest", "routr"}}
	if err := config.Load(src, &bus); err != nil || bus != "nats://x" {
		t.Errorf("a section that is one text: got %q, %v", bus, err)
	}
	src.Env = []string{"MILLRACE_BUS=kafka://y"}
	if err := config.Load(src, &bus); err != nil || bus != "kafka://y" {
		t.Errorf("a section that is one text, by variable: got %q, %v", bus, err)
	}
}

func TestFileIsOverriddenByEnvironmentAndThatByFlags(t *testing.T) {
	src := config.Source{
		YAML: []byte("ingest: {mqtt: {addr: file, max_message: 1KiB, connections: 1}}\nrouter: {routes: [{name: a, to: [b]}]}"),
		Env: []string{
			"MILLRACE_INGEST_MQTT_ADDR=${WHO}", "WHO=env", "MILLRACE_INGEST_MQTT_MAX_MESSAGE=2KiB", "PATH=/bin",
			"MILLRACE_ROUTER_CACHE_SIZE=7", "MILLRACE_INGEST_RETRY_TIMES=4", `MILLRACE_ROUTER_LABELS={a: "x y"}`,
			"MILLRACE_ROUTER_ROUTES=[{name: c, to: [d, e]}]",
		},
		Flags: map[string]string{"ingest.mqtt.max_message": "3KiB"},
	}
	cfg := defaults()
	if err := config.Load(src, &cfg); err != nil {
		t.Fatal(err)
	}
	want := defaults()
	want.Ingest.MQTT = mqtt{Addr: "env", MaxMessage: 3 << 10, Connections: 1}
	want.Ingest.Retry = &retry{Times: 4, Wait: time.Second}
	want.Router.Size = 7
	want.Router.Labels = map[string]string{"a": "x y"}
	want.Router.Routes = []route{{Name: "c", Enabled: true, To: []string{"d", "e"}}}
	if !reflect.DeepEqual(cfg, want) {
		t.Errorf("got  %+v\nwant %+v", cfg, want)
	}
}

func TestListsInVariablesAreCutAtCommas(t *testing.T) {
	for text, want := range map[string][]string{
		"a, b": {"a", "b"}, "": {}, "[a, 'b, c']": {"a", "b, c"}, "one": {"one"},
	} {
		var cfg struct {
			To []string `yaml:"to"`
		}
		if err := config.Load(config.Source{Env: []string{"X_TO=" + text}, EnvPrefix: "X_"}, &cfg); err != nil {
			t.Errorf("%q: %v", text, err)
		}
		if !reflect.DeepEqual(cfg.To, want) {
			t.Errorf("%q: got %q, want %q", text, cfg.To, want)
		}
	}
}

func TestFaultsOfVariablesAndFlags(t *testing.T) {
	tests := []struct {
		name  string
		env   string
		flags map[string]string
		want  string
	}{
		{
			name: "wrong type", env: "MILLRACE_ROUTER_MAX_SKEW=5",
			want: `MILLRACE_ROUTER_MAX_SKEW: router.max_skew: "5", want a duration such as 30s, 5m or 7d`,
		},
		{
			name: "unknown variable", env: "MILLRACE_ROUTER_MAX_SKWE=5m",
			want: `MILLRACE_ROUTER_MAX_SKWE: unknown variable, did you mean MILLRACE_ROUTER_MAX_SKEW?`,
		},
		{
			name: "refused", env: "MILLRACE_ROUTER_MAX_SKEW=-5m",
			want: `MILLRACE_ROUTER_MAX_SKEW: router.max_skew: -5m0s, want more than 0`,
		},
		{
			name: "refused inside a list that a variable replaced", env: "MILLRACE_ROUTER_ROUTES=[{name: a}]",
			want: `MILLRACE_ROUTER_ROUTES: router.routes[0].to: no endpoints, want at least one`,
		},
		{
			name: "not a list", env: "MILLRACE_ROUTER_ROUTES=a",
			want: `MILLRACE_ROUTER_ROUTES: router.routes: "a", want a list`,
		},
		{
			name: "empty for a map", env: "MILLRACE_ROUTER_LABELS=",
			want: `MILLRACE_ROUTER_LABELS: router.labels: is empty, want a section of names and values ({} for none)`,
		},
		{
			name: "unknown flag", flags: map[string]string{"ruter.max_skew": "5m"},
			want: `flag: ruter.max_skew: unknown key, did you mean router.max_skew?`,
		},
		{
			name: "flag of a wrong type", flags: map[string]string{"router.share": "half"},
			want: `flag: router.share: "half", want a number`,
		},
		{
			name: "unset variable in a flag", flags: map[string]string{"bus": "${HERE}"},
			want: `flag: bus: variable HERE is not set, write ${HERE:-text} for a default`,
		},
		{name: "kubernetes service links are nobody's keys", env: "MILLRACE_PORT=tcp://10.0.0.1:80"},
		{name: "kubernetes service links of a worker", env: "MILLRACE_ROUTER_PORT_8080_TCP_ADDR=10.0.0.1"},
		{name: "read by somebody else", env: "MILLRACE_CONFIG=x"},
		{name: "of another section", env: "MILLRACE_LIVE_ANYTHING=x"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := defaults()
			err := config.Load(config.Source{
				YAML: []byte("router:\n  routes: [{name: a, to: [b]}]"), Env: []string{tt.env}, Flags: tt.flags,
				OtherEnv: []string{"MILLRACE_CONFIG"}, OtherSections: []string{"live", "router"},
			}, &cfg)
			if got := errors.Join(err); (got == nil) != (tt.want == "") || (got != nil && got.Error() != tt.want) {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
}

func TestVariableThatMeansTwoKeysIsAFault(t *testing.T) {
	var cfg struct {
		A struct {
			BC int `yaml:"b_c"`
		} `yaml:"a"`
		AB struct {
			C int `yaml:"c"`
		} `yaml:"a_b"`
	}
	err := config.Load(config.Source{Env: []string{"MILLRACE_A_B_C=1"}}, &cfg)
	if err == nil || err.Error() != "MILLRACE_A_B_C: means a.b_c as well as a_b.c, set them in the file" {
		t.Errorf("got %v", err)
	}
}

func TestTheLongerSectionNameOwnsAVariable(t *testing.T) {
	var cfg struct {
		Level string `yaml:"level"`
	}
	src := config.Source{Section: "log", OtherSections: []string{"log-consumer"}, Env: []string{"MILLRACE_LOG_CONSUMER_X=1", "MILLRACE_LOG_LEVEL=a"}}
	if err := config.Load(src, &cfg); err != nil || cfg.Level != "a" {
		t.Errorf("got %+v, %v", cfg, err)
	}
}

func TestFaultsCanBeTakenApart(t *testing.T) {
	cfg := defaults()
	err := config.Load(config.Source{YAML: []byte("x: 1\nbus: []\n")}, &cfg)
	faults, ok := errors.AsType[config.Faults](err)
	if !ok || len(faults) != 2 || faults[1].Line != 2 || faults[1].Key != "bus" || faults[1].Where != "configuration:2" {
		t.Errorf("got %#v", err)
	}
	if one, ok := errors.AsType[config.Fault](err); !ok || one != faults[0] {
		t.Errorf("got %#v, want the first fault", one)
	}
}

func TestLimits(t *testing.T) {
	bomb := "tree: {children: [&a {children: []}, &b {children: [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]}, &c {children: [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]}," +
		" &d {children: [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]}, &e {children: [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]}, {children: [*e,*e,*e,*e]}]}"
	for name, tt := range map[string]struct{ text, want string }{
		"aliases of aliases": {bomb, "more than 100000 values with all aliases followed"},
		"a deep file":        {"tree: " + strings.Repeat("{children: [", 80) + strings.Repeat("]}", 80), "nested deeper than 64 levels"},
		"a large file":       {"bus: " + strings.Repeat("x", config.FileBytesMax), "is larger than 1MiB"},
		"a long value":       {"router: {mode: " + strings.Repeat("x", 1000) + "}", "router.mode: \"" + strings.Repeat("x", 80) + "\"…, want fast or safe"},
	} {
		cfg := defaults()
		err := config.Load(config.Source{YAML: []byte(tt.text)}, &cfg)
		if err == nil || !strings.Contains(err.Error(), tt.want) || len(err.Error()) > 400 {
			t.Errorf("%s: got %.400v, want %s", name, err, tt.want)
		}
	}
	var many strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&many, "unknown%d: 1\n", i)
	}
	cfg := defaults()
	err := config.Load(config.Source{YAML: []byte(many.String())}, &cfg)
	if faults, ok := errors.AsType[config.Faults](err); !ok || len(faults) != config.FaultsMax {
		t.Errorf("got %d faults, want %d", len(faults), config.FaultsMax)
	}
}

func TestTypesThatNoFileCanFillAreTheProgrammersFault(t *testing.T) {
	for want, cfg := range map[string]any{
		"got string, want a non-nil pointer": "x",
		"a.b: type chan int, which no configuration": &struct {
			A struct {
				B chan int `yaml:"b"`
			} `yaml:"a"`
		}{},
		"a: struct": &struct {
			A int `yaml:"a"`
			B int `yaml:"a"`
		}{},
		"m: map keys of type []string": &struct {
			M []map[[1]string]int `yaml:"m"`
		}{},
	} {
		err := config.Load(config.Source{}, cfg)
		if _, isFaults := errors.AsType[config.Faults](err); err == nil || isFaults {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestMissingFileIsAFault(t *testing.T) {
	cfg := defaults()
	err := config.Load(config.Source{File: "testdata/none.yml"}, &cfg)
	if err == nil || err.Error() != "testdata/none.yml: open: no such file or directory" {
		t.Errorf("got %v", err)
	}
}

func FuzzLoad(f *testing.F) {
	files, err := filepath.Glob("testdata/*.yml")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if strings.Contains(string(text), "${file:") {
			t.Skip("no files are read")
		}
		cfg := defaults()
		err := config.Load(config.Source{YAML: text, Env: []string{"HOST=localhost"}}, &cfg)
		if err == nil {
			return
		}
		faults, ok := errors.AsType[config.Faults](err)
		if !ok {
			t.Fatalf("got %T %v, want Faults", err, err)
		}
		for _, fault := range faults {
			if fault.Text == "" || fault.Where == "" {
				t.Errorf("a fault without text or place: %#v", fault)
			}
		}
	})
}

func TestOfASectionThatIsReadPartlyTheRestIsSomebodyElses(t *testing.T) {
	type part struct {
		Limits struct {
			Depth int `yaml:"depth"`
		} `yaml:"limits"`
	}
	src := config.Source{
		YAML: []byte("ingest:\n  addr: x\n  limits: {depth: 3, other: [1]}\n"), Section: "ingest", Partly: true,
		Env:   []string{"MILLRACE_INGEST_ADDR=y", "MILLRACE_INGEST_LIMITS_OTHER=2"},
		Flags: map[string]string{"ingest.addr": "z", "ingest.limits.depth": "4"},
	}
	var cfg part
	if err := config.Load(src, &cfg); err != nil || cfg.Limits.Depth != 4 {
		t.Errorf("got %+v, %v, want the depth of the flag and no fault", cfg, err)
	}
	src.Partly = false
	if err := config.Load(src, &cfg); err == nil {
		t.Error("read as a whole, its unknown keys are no fault")
	}
	src.Partly, src.YAML = true, []byte("ingset: {}\n")
	if err := config.Load(src, &cfg); err == nil {
		t.Error("an unknown section is no fault")
	}
}
