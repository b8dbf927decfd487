package store_test

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
)

func TestPackedPositionsSortAndComeBack(t *testing.T) {
	last := int64(-1)
	for _, p := range []bus.Position{{}, {Index: 1}, {Seq: 1}, {Seq: 1, Index: 1<<24 - 1}, {Seq: 2}, {Seq: 1 << 38, Index: 7}, {Seq: 1<<39 - 1, Index: 1<<24 - 1}} {
		packed, err := store.PackPosition(p)
		if err != nil || packed <= last || store.UnpackPosition(packed) != p {
			t.Errorf("%v packs to %d (%v) after %d and comes back as %v", p, packed, err, last, store.UnpackPosition(packed))
		}
		last = packed
	}
	for _, p := range []bus.Position{{Seq: 1 << 39}, {Seq: math.MaxUint64}, {Seq: 1, Index: 1 << 24}} {
		if packed, err := store.PackPosition(p); err == nil {
			t.Errorf("%v packs to %d, want an error", p, packed)
		}
	}
	if got := store.UnpackPosition(-5); !got.IsZero() {
		t.Errorf("a negative number is %v", got)
	}
}

func TestKindsComeBack(t *testing.T) {
	for k := telemetry.KindUnknown; k <= telemetry.KindSession; k++ {
		if got := store.ParseKind(store.KindName(k)); got != k {
			t.Errorf("%s is read as %s", store.KindName(k), store.KindName(got))
		}
	}
	if got := store.ParseKind("nothing"); got != telemetry.KindUnknown {
		t.Errorf("nothing is read as %v", got)
	}
}

func TestProperties(t *testing.T) {
	for _, c := range []struct {
		name string
		in   []telemetry.Property
		want string
	}{
		{"none", nil, ""},
		{"in their order", []telemetry.Property{{Key: "b", Value: "1"}, {Key: "a", Value: "2"}}, `{"b":"1","a":"2"}`},
		{"empty", []telemetry.Property{{}}, `{"":""}`},
		{"repeated", []telemetry.Property{{Key: "a", Value: "1"}, {Key: "a", Value: "2"}, {Key: "a", Value: "3"}}, `{"a":["1","2","3"]}`},
		{"escaped", []telemetry.Property{{Key: "a\"\\", Value: "\x00\n\u2028é\xff"}}, "{\"a\\\"\\\\\":\"\\u0000\\u000a\u2028é\uFFFD\"}"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := string(store.AppendProperties(nil, c.in))
			if got != c.want || got != "" && !json.Valid([]byte(got)) {
				t.Errorf("got %s, want %s", got, c.want)
			}
			back, err := store.ParseProperties(nil, []byte(got))
			if err != nil || string(store.AppendProperties(nil, back)) != c.want {
				t.Errorf("comes back as %v, %v", back, err)
			}
		})
	}
	for _, bad := range []string{"x", "[]", `{"a":1}`, `{"a":["1",2]}`, `{"a":`, `{"a":"1"`, `{"a":null}`, `{"a":"1"} x`} {
		if got, err := store.ParseProperties(nil, []byte(bad)); err == nil {
			t.Errorf("%s is read as %v", bad, got)
		}
	}
}

func FuzzParseProperties(f *testing.F) {
	for _, s := range []string{"", `{"a":"1"}`, `{"a":["1","2"],"b":"\u0000"}`, `{"a":[]}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		props, err := store.ParseProperties(nil, text)
		if err != nil {
			return
		}
		once := store.AppendProperties(nil, props)
		again, err := store.ParseProperties(nil, once)
		sorted := func(p []telemetry.Property) []telemetry.Property {
			p = slices.Clone(p)
			slices.SortStableFunc(p, func(a, b telemetry.Property) int { return slices.Compare([]byte(a.Key), []byte(b.Key)) })
			return p
		}
		if err != nil || fmt.Sprint(sorted(props)) != fmt.Sprint(sorted(again)) {
			t.Errorf("%q is %v, and then %v (%v)", text, props, again, err)
		}
	})
}
