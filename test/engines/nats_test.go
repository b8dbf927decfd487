package engines_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"

	"github.com/millrace/millrace/pkg/enginetest"
)

func trust(t *testing.T, file string) natsgo.Option {
	t.Helper()
	return natsgo.Secure(roots(t, file))
}

func TestNATSTakesWhoIsAllowedAndNobodyElse(t *testing.T) {
	cluster, secure := enginetest.Need(t, "nats-cluster"), enginetest.Need(t, "nats-secure")
	plain := strings.ReplaceAll(secure.URL, "tls://", "nats://")
	for _, c := range []struct {
		name, url string
		options   []natsgo.Option
		allowed   bool
	}{
		{"open", enginetest.Need(t, "nats").URL, nil, true},
		{"cluster, open", cluster.URL, nil, true},
		{"cluster, user over TLS", cluster.Get("secure_url"), []natsgo.Option{
			trust(t, cluster.Get("ca")), natsgo.UserInfo(cluster.Get("user"), cluster.Get("password")),
		}, true},
		{"cluster, wrong password", cluster.Get("secure_url"), []natsgo.Option{
			trust(t, cluster.Get("ca")), natsgo.UserInfo(cluster.Get("user"), "guess"),
		}, false},
		{"credentials over TLS", secure.URL, []natsgo.Option{trust(t, secure.Get("ca")), natsgo.UserCredentials(secure.Get("credentials"))}, true},
		{"no credentials", secure.URL, []natsgo.Option{trust(t, secure.Get("ca"))}, false},
		{"unknown authority", secure.URL, []natsgo.Option{natsgo.UserCredentials(secure.Get("credentials"))}, false},
		{"no TLS asked for, credentials", plain, []natsgo.Option{natsgo.UserCredentials(secure.Get("credentials"))}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn, err := natsgo.Connect(c.url, append(c.options, natsgo.Timeout(20*time.Second))...)
			if (err == nil) != c.allowed {
				t.Fatalf("connect: %v, allowed is %v", err, c.allowed)
			}
			if err != nil {
				return
			}
			defer conn.Close()
			js, err := conn.JetStream()
			if err == nil {
				_, err = js.AccountInfo()
			}
			if err != nil {
				t.Error(errors.Join(errors.New("no JetStream"), err))
			}
		})
	}
}
