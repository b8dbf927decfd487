package telemetry_test

import (
	"errors"
	"testing"

	"github.com/millrace/millrace/pkg/telemetry"
)

func account() telemetry.Account {
	return telemetry.Account{
		Writer: "w1", Number: 7, Worker: "router", Partition: 3, After: "80.0", Through: "81.5", Part: 1, Parts: 2,
		Lines: []telemetry.AccountLine{
			{
				Tenant: "default", DeviceID: "lab1", Minute: 29_000_000, Read: 9, Repeats: 1, Refused: 2, Telemetry: 3, Logs: 1, Events: 2,
				RouterLetters: 2,
			},
			{Tenant: "default", DeviceID: "lab2", Minute: -1, Accepted: 1 << 40, EdgeLetters: 1},
		},
	}
}

func TestPeekAcceptedReadsWhatTheMessageSays(t *testing.T) {
	for name, m := range messages() {
		t.Run(name, func(t *testing.T) {
			tenant, device, at, err := telemetry.PeekAccepted(telemetry.AppendMessage(nil, &m))
			if err != nil || tenant != m.Tenant || device != m.DeviceID || at != m.IngestTime {
				t.Errorf("%q %q %v %v, want %q %q %v", tenant, device, at, err, m.Tenant, m.DeviceID, m.IngestTime)
			}
		})
	}
}

func FuzzParseAccount(f *testing.F) {
	a := account()
	f.Add(telemetry.AppendAccount(nil, &a))
	f.Add([]byte{9<<3 | 2, 200})
	f.Fuzz(func(t *testing.T, b []byte) {
		var a telemetry.Account
		if err := telemetry.ParseAccount(b, &a); err != nil {
			if !errors.Is(err, telemetry.ErrWire) {
				t.Errorf("%v does not wrap ErrWire", err)
			}
			return
		}
		var again telemetry.Account
		if err := telemetry.ParseAccount(telemetry.AppendAccount(nil, &a), &again); err != nil {
			t.Errorf("what was read cannot be read again: %v", err)
		}
		if len(again.Lines) != len(a.Lines) {
			t.Errorf("%d lines, want %d", len(again.Lines), len(a.Lines))
		}
	})
}

func BenchmarkPeekAccepted(b *testing.B) {
	m := everything()
	value := telemetry.AppendMessage(nil, &m)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, _, err := telemetry.PeekAccepted(value); err != nil {
			b.Fatal(err)
		}
	}
}
