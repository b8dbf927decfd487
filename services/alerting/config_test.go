package alerting_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/config"
	"github.com/millrace/millrace/services/alerting"
)

func TestTheDefaultsAreRightAndSurviveAFile(t *testing.T) {
	c := alerting.DefaultConfig()
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	if err := config.Load(config.Source{YAML: []byte(config.Example(&c)), File: "example"}, &c); err != nil {
		t.Fatal(err)
	}
	if len(c.Rules) != 8 || c.Rules[4].Rate == nil || *c.Rules[4].Rate.Above != 1.5 {
		t.Errorf("rules after a round through YAML: %+v", c.Rules)
	}
}

func TestAFaultOfTheConfigurationNamesItsKey(t *testing.T) {
	above := 1.0
	tests := []struct {
		name   string
		change func(c *alerting.Config)
		want   string
	}{
		{"no name", func(c *alerting.Config) { c.Rules[0].Name = "" }, `rules[0].name: "", want up to 63 letters`},
		{"a name twice", func(c *alerting.Config) { c.Rules = append(c.Rules, c.Rules[0]) }, `rules[1].name: "mine" is the name of another rule too`},
		{"another source", func(c *alerting.Config) { c.Rules[0].On = "logs" }, `rules[0].on: "logs", want messages, aggregates or critical`},
		{"no condition", func(c *alerting.Config) { c.Rules[0].Condition = "" }, "rules[0].condition: it is empty, want CEL"},
		{"a bad condition", func(c *alerting.Config) { c.Rules[0].Condition = "value >\n  vlue" }, `rules[0].condition: line 2, column 3: there is no variable or function "vlue"`},
		{"a bad clear", func(c *alerting.Config) { c.Rules[0].Clear = "value >" }, "rules[0].clear: line 1, column 8: the condition ends before it is complete"},
		{"old without on_change", func(c *alerting.Config) { c.Rules[0].Condition = `old == "x"` }, `rules[0].condition: line 1, column 1: there is no variable or function "old"`},
		{"reference data", func(c *alerting.Config) { c.Rules[0].Condition = `reference.sites.x == "y"` }, "rules[0].condition: reference.sites: rules cannot look at reference data"},
		{"a severity", func(c *alerting.Config) { c.Rules[0].Severity = "fatal" }, `rules[0].severity: "fatal", want info, warning, error, critical`},
		{"less than nothing", func(c *alerting.Config) { c.Rules[0].For = -1 }, "rules[0].for: -1ns, want 0s to 366d"},
		{"a placeholder", func(c *alerting.Config) { c.Rules[0].Summary = "{devcie}" }, "rules[0].summary: {devcie}, want {rule}"},
		{"no window", func(c *alerting.Config) { c.Rules[0].On, c.Rules[0].Condition = "aggregates", "max > 1" }, "rules[0].window: missing"},
		{"a window of messages", func(c *alerting.Config) { c.Rules[0].Window = time.Second }, `rules[0].window: says nothing for a rule of the sort ""`},
		{"two sorts", func(c *alerting.Config) { c.Rules[0].OnChange, c.Rules[0].Silent = true, time.Second }, `rules[0].silent: the rule is of the sort "on_change" already`},
		{"for with silent", func(c *alerting.Config) { c.Rules[0].For, c.Rules[0].Silent = time.Second, time.Second }, `rules[0].for: says nothing for a rule of the sort "silent"`},
		{"a rate of nothing", func(c *alerting.Config) { c.Rules[0].Rate = &alerting.Rate{Per: time.Second} }, "rules[0].rate: neither above nor below"},
		{"a rate in no time", func(c *alerting.Config) { c.Rules[0].Rate = &alerting.Rate{Above: &above} }, "rules[0].rate.per: 0s, want more than 0s"},
		{"a channel of critical logs", func(c *alerting.Config) { c.Rules[0].On, c.Rules[0].Channel = "critical", "x" }, "rules[0].channel: says nothing"},
		{"flap", func(c *alerting.Config) { c.Flap.Max = -1 }, "flap.max: -1, want 0 to 1000"},
		{"tracked", func(c *alerting.Config) { c.MaxTracked = 0 }, "max_tracked: 0, want 1 to"},
		{"commit", func(c *alerting.Config) { c.CommitEvery = time.Hour }, "commit_every: 1h0m0s, want 0s to 1m"},
		{"a target's name", func(c *alerting.Config) { c.Notify[0].Name = "Über" }, `notify[0].name: "Über", want up to 32 lower-case letters`},
		{"a target twice", func(c *alerting.Config) { c.Notify = append(c.Notify, c.Notify[0]) }, `notify[2].name: "hook" is the name of another target too`},
		{"two ways", func(c *alerting.Config) { c.Notify[0].Log = true }, "notify[0].webhook: 2 of webhook, smtp and log are given, want exactly one"},
		{"a URL", func(c *alerting.Config) { c.Notify[0].Webhook.URL = "ftp://x" }, "notify[0].webhook.url: want http://"},
		{"a header of ours", func(c *alerting.Config) {
			c.Notify[0].Webhook.Headers = map[string]config.Secret{"idempotency-key": "x"}
		}, "notify[0].webhook.headers.idempotency-key: Millrace sets it itself"},
		{"a header with a break", func(c *alerting.Config) {
			c.Notify[0].Webhook.Headers = map[string]config.Secret{"X": "a\r\nb"}
		}, "notify[0].webhook.headers.X: its value has a line break in it"},
		{"a mailbox", func(c *alerting.Config) { c.Notify[1].SMTP.To = []string{"nobody"} }, `notify[1].smtp.to[0]: "nobody", want an address`},
		{"a server", func(c *alerting.Config) { c.Notify[1].SMTP.Addr = "mail" }, `notify[1].smtp.addr: "mail", want host:port`},
		{"a password in the clear", func(c *alerting.Config) { c.Notify[1].SMTP.TLS, c.Notify[1].SMTP.Username = "none", "me" }, "notify[1].smtp.username: the password would be sent in the clear"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := alerting.DefaultConfig()
			c.Rules = []alerting.Rule{{Name: "mine", Condition: "value > 3"}}
			c.Notify = []alerting.Target{
				{Name: "hook", Webhook: &alerting.Webhook{URL: "https://example.com/hook"}},
				{Name: "mail", SMTP: &alerting.SMTP{Addr: "mail.example.com:587", From: "a@example.com", To: []string{"b@example.com"}}},
			}
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

func TestTheExamplesOfTheDocumentationAreConfigurations(t *testing.T) {
	page, err := os.ReadFile("../../docs/alerting.md")
	if err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(t.TempDir(), "smtp")
	if err := os.WriteFile(secret, []byte("pass\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(page), "```yaml\n")[1:]
	if len(blocks) != 2 {
		t.Fatalf("%d examples, want 2", len(blocks))
	}
	for _, b := range blocks {
		text, _, _ := strings.Cut(b, "```")
		text = strings.ReplaceAll(text, "/run/secrets/smtp", secret)
		c := alerting.DefaultConfig()
		if err := config.Load(config.Source{YAML: []byte(text), File: "alerting.md", Section: "alerting", Env: []string{"ALARM_SECRET=s"}}, &c); err != nil {
			t.Errorf("%v\n%s", err, text)
		}
	}
}
