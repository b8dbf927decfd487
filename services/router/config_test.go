package router_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/config"
	"github.com/millrace/millrace/services/router"
)

func TestAFaultOfTheConfigurationNamesItsKey(t *testing.T) {
	good := router.Route{Name: "mine", Condition: `value > 3`, Endpoints: []string{"hot"}}
	sites := router.Reference{Name: "sites", File: "sites.csv", Key: "device"}
	tests := []struct {
		name   string
		change func(c *router.Config)
		want   string
	}{
		{"no name", func(c *router.Config) { c.Routes[0].Name = "" }, "routes[0].name: it is empty, want a name"},
		{"a name twice", func(c *router.Config) { c.Routes = append(c.Routes, good) }, `routes[1].name: "mine" is the name of another route too`},
		{"another source", func(c *router.Config) { c.Routes[0].Source = "logs" }, `routes[0].source: "logs", want ingested`},
		{"no endpoint", func(c *router.Config) { c.Routes[0].Endpoints = nil }, "routes[0].endpoints: none, want at least one topic"},
		{"an endpoint that others write", func(c *router.Config) { c.Routes[0].Endpoints = []string{"critical"} }, `routes[0].endpoints[0]: "critical" is written by Millrace itself, want telemetry, logs, events or a name of your own`},
		{"a loop", func(c *router.Config) { c.Fallback = []string{"ingested"} }, `fallback[0]: "ingested" is written by Millrace itself`},
		{"a bad endpoint", func(c *router.Config) { c.Routes[0].Endpoints = []string{"ok", "My Topic"} }, `routes[0].endpoints[1]: "My Topic", want up to 63 lower-case letters`},
		{"a bad condition", func(c *router.Config) { c.Routes[0].Condition = "kind ==\n  knd" }, `routes[0].condition: line 2, column 3: there is no variable or function "knd"`},
		{"unknown reference data", func(c *router.Config) { c.Routes[0].Condition = `reference.rooms.x == "1"` }, `routes[0].condition: there is no reference data "rooms"`},
		{"no fallback", func(c *router.Config) { c.Fallback = nil }, "fallback: none, want at least one topic"},
		{"a window too large", func(c *router.Config) { c.RepeatWindow = 1 << 20 }, "repeat_window: 1048576, want 0 to 65536"},
		{"no devices", func(c *router.Config) { c.MaxDevices = 0 }, "max_devices: 0, want 1 to 10000000"},
		{"reference without a name", func(c *router.Config) { c.Reference[0].Name = "" }, `reference[0].name: "", want letters`},
		{"reference twice", func(c *router.Config) { c.Reference = append(c.Reference, sites) }, `reference[1].name: "sites" is the name of other reference data too`},
		{"reference without a file", func(c *router.Config) { c.Reference[0].File = "" }, "reference[0].file: it is empty, want a CSV or JSON file"},
		{"unknown format", func(c *router.Config) { c.Reference[0].File = "a.xls" }, `reference[0].format: it is empty and "a.xls" ends with neither`},
		{"no key", func(c *router.Config) { c.Reference[0].Key = "" }, "reference[0].key: it is empty"},
		{"bad match", func(c *router.Config) { c.Reference[0].Match = "device" }, `reference[0].match: "device", want deviceId, `},
		{"bad set", func(c *router.Config) { c.Reference[0].Set = map[string]string{"deviceId": "x"} }, "reference[0].set.deviceId: want deviceType or properties.<name>"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := router.DefaultConfig()
			c.Routes = []router.Route{good}
			c.Reference = []router.Reference{sites}
			if err := c.Validate(); err != nil {
				t.Fatalf("before the change: %v", err)
			}
			tt.change(&c)
			err := c.Validate()
			if err == nil || !slices.ContainsFunc(strings.Split(err.Error(), "\n"), func(line string) bool { return strings.HasPrefix(line, tt.want) }) {
				t.Fatalf("got %v, want %s", err, tt.want)
			}
		})
	}
}

func TestTheBusMustBeOpenedWithTheEndpointsOfOnesOwn(t *testing.T) {
	off := false
	c := router.DefaultConfig()
	c.Routes = []router.Route{
		{Name: "a", Endpoints: []string{"zebra", "telemetry", "ant"}},
		{Name: "b", Endpoints: []string{"ant"}},
		{Name: "c", Endpoints: []string{"unused"}, Enabled: &off},
	}
	c.Fallback = []string{"rest", "events"}
	if got := strings.Join(c.Topics(), " "); got != "ant rest zebra" {
		t.Fatalf("got %q, want ant rest zebra", got)
	}
}

func TestTheConfigurationIsReadFromAFile(t *testing.T) {
	file := []byte(`router:
  routes:
    - name: hot
      condition: kind == "channel" && hasValue && value > 30
      endpoints: [hot]
    - name: log
      endpoints: [logs]
      enabled: false
  reference:
    - {name: sites, file: sites.csv, key: device, set: {properties.site: site}}
`)
	var cfg struct {
		Router router.Config `yaml:"router"`
	}
	cfg.Router = router.DefaultConfig()
	if err := config.Load(config.Source{File: "millrace.yml", YAML: file}, &cfg); err != nil {
		t.Fatal(err)
	}
	c := cfg.Router
	if len(c.Routes) != 2 || c.Routes[0].Source != "ingested" || c.Routes[1].On() || c.Reference[0].Reload != time.Second || c.RepeatWindow != 128 {
		t.Fatalf("got %+v", c)
	}
	broken := []byte(strings.Replace(string(file), "value >", "valeu >", 1))
	err := config.Load(config.Source{File: "millrace.yml", YAML: broken}, &cfg)
	if want := "millrace.yml:4: router.routes[0].condition: "; err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Fatalf("error %v, want %s", err, want)
	}
}

func TestReferenceFilesThatCannotBeReadAreNamedByTheirKey(t *testing.T) {
	good := filepath.Join(t.TempDir(), "sites.csv")
	if err := os.WriteFile(good, []byte("device,site\ndev1,berlin\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := router.DefaultConfig()
	c.Reference = []router.Reference{
		{Name: "sites", File: good, Key: "device", Set: map[string]string{"properties.site": "site"}},
		{Name: "gone", File: good + ".csv", Key: "device"},
		{Name: "other", File: good, Key: "device", Set: map[string]string{"deviceType": "type"}},
	}
	err := c.ReadReference()
	if err == nil {
		t.Fatal("no fault")
	}
	for want, named := range map[string]bool{"router.reference[0]": false, "router.reference[1].file": true, "router.reference[2].file": true} {
		if strings.Contains(err.Error(), want) != named {
			t.Errorf("%v: names %s: %v, want %v", err, want, !named, named)
		}
	}
}
