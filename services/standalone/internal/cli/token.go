package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/millrace/millrace/pkg/access"
	"github.com/millrace/millrace/pkg/config"
)

func tokenCommand() command {
	return command{
		name: "token", args: "create|list|revoke [ID]", summary: "make, list and revoke devices' keys and API tokens",
		example: "millrace token create --device dev1\n" +
			"millrace token create --device gateway1 --acts-for 'house-*'\n" +
			"millrace token create --name grafana --scope read --expires 90d\n" +
			"millrace token list\nmillrace token revoke 3f2a9c0d1e4b",
		setup: func(flags *flag.FlagSet, env *Env) func(context.Context, []string) error {
			t := tokens{env: env}
			flags.StringVar(&t.file, "file", env.Getenv("MILLRACE_ACCESS_FILE"), "access `file` (default DATA/access.json)")
			data := flags.String("data", orDefault(env.Getenv("MILLRACE_DATA"), "data"), "data `directory` of the instance")
			flags.StringVar(&t.request.Name, "name", "", "a `name` for people")
			flags.StringVar(&t.request.Device, "device", "", "make the key of this `device`")
			actsFor := flags.String("acts-for", "", "comma-separated `globs` of devices for which it may speak as well")
			scopes := flags.String("scope", "", "comma-separated `scopes` of an API token: send, read, admin")
			expires := flags.String("expires", "", "`time` until it ends, such as 90d")
			return func(_ context.Context, args []string) error {
				if t.file == "" {
					t.file = filepath.Join(*data, "access.json")
				}
				t.request.ActsFor = list(*actsFor)
				for _, s := range list(*scopes) {
					t.request.Scopes = append(t.request.Scopes, access.Scope(s))
				}
				if *expires != "" {
					d, err := config.ParseDuration(*expires)
					if err != nil {
						return fmt.Errorf("--expires: %w", err)
					}
					at := time.Now().Add(d)
					t.request.Expires = &at
				}
				return t.run(args)
			}
		},
	}
}

func list(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
}

type tokens struct {
	env     *Env
	file    string
	request access.Request
}

func (t *tokens) run(args []string) error {
	switch {
	case len(args) == 1 && args[0] == "create":
		return t.create()
	case len(args) == 1 && args[0] == "list":
		return t.list()
	case len(args) == 2 && args[0] == "revoke":
		if err := access.Revoke(t.file, args[1], time.Now()); err != nil {
			return err
		}
		_, err := fmt.Fprintf(t.env.Stdout, "revoked %s\n", args[1])
		return err
	}
	return errors.New("want create, list, or revoke ID")
}

func (t *tokens) create() error {
	secret, made, err := access.Create(t.file, t.request, time.Now())
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(t.env.Stdout, secret)
	if t.env.Terminal {
		_, _ = fmt.Fprintf(t.env.Stderr, "This is shown once. Its id is %s; running instances know it within a second.\n", made.ID)
		if made.Device != "" {
			_, _ = fmt.Fprintf(t.env.Stderr, "Use it as the MQTT password (user name %s) or as an HTTP bearer token.\n", made.Device)
		}
	}
	return err
}

func (t *tokens) list() error {
	all, err := access.List(t.file)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(t.env.Stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "ID\tNAME\tDEVICE\tACTS FOR\tSCOPES\tCREATED\tSTATE")
	for _, c := range all {
		state := "in force"
		switch {
		case c.Revoked != nil:
			state = "revoked " + c.Revoked.Format(time.RFC3339)
		case !c.Live(time.Now()):
			state = "expired " + c.Expires.Format(time.RFC3339)
		case c.Expires != nil:
			state = "until " + c.Expires.Format(time.RFC3339)
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%v\t%s\t%s\n", c.ID, orDefault(c.Name, "-"), orDefault(c.Device, "-"),
			orDefault(strings.Join(c.ActsFor, ","), "-"), c.Scopes, c.Created.Format(time.RFC3339), state)
	}
	return w.Flush()
}
