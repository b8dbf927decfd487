package ingest_test

import (
	"context"
	"encoding/json"
	"os"
	"testing"

	"github.com/millrace/millrace/pkg/access"
	"github.com/millrace/millrace/pkg/feed"
	"github.com/millrace/millrace/pkg/mqtt"
)

// stuck is a feed that does not know the log's end yet, since the log does not answer.
type stuck struct{}

func (stuck) Subscribe(ctx context.Context, _ feed.Filter, _ string) (*feed.Subscription, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestAFeedThatIsNotReadyHoldsNoConnectionUp(t *testing.T) {
	r := start(t, setup{feed: stuck{}})
	w := r.raw(mqtt.Version5)
	w.connect(mqtt.Connect{ClientID: "c", CleanStart: true})
	if got := w.subscribe(mqtt.Subscription{Filter: "live/state/+/+"}); len(got) != 1 || !got[0].Failed() {
		t.Errorf("SUBACK %v, want a refusal", got)
	}
	w.send(mqtt.AppendPingreq(nil), nil)
	if p := w.next(); p.Type != mqtt.TypePingresp {
		t.Errorf("%v, want PINGRESP", p.Type)
	}
}

func TestWhoMayReadNoLongerIsCut(t *testing.T) {
	r := startLive(t, setup{keys: true})
	secret, _ := r.key(access.Request{Name: "dashboard", Scopes: []access.Scope{access.ScopeRead, access.ScopeSend}})
	r.authenticated(secret)
	w := r.raw(mqtt.Version5)
	w.connect(mqtt.Connect{ClientID: "c", Username: "u", Password: []byte(secret)})
	if got := w.subscribe(mqtt.Subscription{Filter: "live/state/#"}); len(got) != 1 || got[0].Failed() {
		t.Fatalf("SUBACK %v", got)
	}
	b, err := os.ReadFile(r.access)
	if err != nil {
		t.Fatal(err)
	}
	var doc map[string]any
	if err := json.Unmarshal(b, &doc); err != nil {
		t.Fatal(err)
	}
	for _, c := range doc["credentials"].([]any) { //nolint:forcetypeassert // a test
		c.(map[string]any)["scopes"] = []string{"send"} //nolint:forcetypeassert // as above
	}
	if b, err = json.Marshal(doc); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(r.access, b, 0o600); err != nil {
		t.Fatal(err)
	}
	w.ended(mqtt.ReasonNotAuthorized)
}
