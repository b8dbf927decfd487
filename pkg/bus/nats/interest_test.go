package nats_test

import (
	"testing"

	client "github.com/nats-io/nats.go"

	"github.com/millrace/millrace/pkg/bus/nats"
)

func TestInterestIsThatOfSubscribers(t *testing.T) {
	server, err := nats.Embedded(t.Context(), nats.EmbeddedConfig{Dir: t.TempDir(), Addr: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Shutdown()
	own, err := server.Connect()
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	if server.Interest("live") {
		t.Error("interest without a client")
	}
	conn, err := client.Connect(server.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if server.Interest("live") {
		t.Error("interest without a subscriber")
	}
	for _, subject := range []string{"live.state.>", "*.state.dev1.temperature", ">"} {
		sub, err := conn.SubscribeSync(subject)
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.Flush(); err != nil {
			t.Fatal(err)
		}
		if !server.Interest("live") {
			t.Errorf("no interest with a subscriber to %s", subject)
		}
		if err := sub.Unsubscribe(); err != nil {
			t.Fatal(err)
		}
		if err := conn.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if server.Interest("live") {
		t.Error("interest after the last subscriber has gone")
	}
}
