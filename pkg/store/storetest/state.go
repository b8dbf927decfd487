package storetest

import (
	"fmt"
	"testing"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
)

// Device is a row of devices, as far as the suite looks at it. Times are 0 where the column is null.
type Device struct {
	DeviceID, DeviceType, Reason   string
	FirstSeen, LastSeen            telemetry.Time
	Session, Connected             bool // Session: whether connected is not null
	ConnectedSince, DisconnectedAt telemetry.Time
	Address, ClientID, Protocol    string
	Credential                     string
}

// StateStore is a store of state under test.
type StateStore struct {
	store.StateWriter
	States  func(t *testing.T) []store.MessageRow // all rows of device_state, in any order
	Devices func(t *testing.T) []Device
	Crash   func(t *testing.T) StateStore // as it comes back after a kill
}

// State holds a store.StateWriter to its promises; open returns an empty one, closed by t.Cleanup.
func State(t *testing.T, open func(t *testing.T) StateStore) {
	var wrap func(s StateStore) harness[store.MessageRow]
	wrap = func(s StateStore) harness[store.MessageRow] {
		return harness[store.MessageRow]{
			Writer: s.StateWriter,
			row: func(i int) store.MessageRow {
				m := Message(i)
				m.ChannelKey = fmt.Sprintf("own-%d", i) // each message is a row
				return m
			},
			count: func(t *testing.T) int { return different(t, s.States(t), stateText) },
			crash: func(t *testing.T) harness[store.MessageRow] { return wrap(s.Crash(t)) },
			flush: func(*testing.T) {},
		}
	}
	writerPromises(t, func(t *testing.T) harness[store.MessageRow] { return wrap(open(t)) })
	latest(t, open)
	stateColumns(t, open)
	devices(t, open)
}

func stateText(m store.MessageRow) string {
	m.Kind, m.Source, m.Codec, m.Credential, m.Properties, m.Attributes, m.DeviceTime = 0, "", "", "", nil, nil, 0 // not kept
	return messageText(m)
}

func writeAll(t *testing.T, w store.Writer[store.MessageRow], rows ...store.MessageRow) {
	t.Helper()
	p, _, err := w.Progress(t.Context(), worker, partition(0))
	if err != nil {
		t.Fatal(err)
	}
	at := int(p.Through.Seq)
	if err := w.Write(t.Context(), commit(span(0, at, at+1)), rows); err != nil {
		t.Fatalf("write: %v", err)
	}
}

func latest(t *testing.T, open func(t *testing.T) StateStore) {
	at := func(value string, event telemetry.Time, seq uint64) store.MessageRow {
		m := Message(1)
		m.ChannelValue, m.EventTime, m.HasValue, m.Value = []byte(value), event, false, 0
		m.Origin = bus.Origin{Position: bus.Position{Seq: seq}}
		return m
	}
	for _, c := range []struct {
		name string
		rows []store.MessageRow
		want int
	}{
		{"the latest event time wins", []store.MessageRow{at("a", 10, 1), at("b", 20, 2)}, 1},
		{"a late message changes nothing", []store.MessageRow{at("a", 20, 1), at("b", 10, 2)}, 0},
		{"of the same event time the later origin wins", []store.MessageRow{at("a", 10, 2), at("b", 10, 1)}, 0},
		{"a replay changes nothing", []store.MessageRow{at("a", 10, 1), at("b", 20, 2), at("a", 10, 1)}, 1},
	} {
		t.Run(c.name+", in one write", func(t *testing.T) {
			s := open(t)
			writeAll(t, s, c.rows...)
			wantSame(t, s.States(t), c.rows[c.want:c.want+1], stateText)
		})
		t.Run(c.name+", in many", func(t *testing.T) {
			s := open(t)
			for _, r := range c.rows {
				writeAll(t, s, r)
			}
			wantSame(t, s.States(t), c.rows[c.want:c.want+1], stateText)
			s = s.Crash(t)
			writeAll(t, s, c.rows[1-c.want]) // the one that lost, again
			wantSame(t, s.States(t), c.rows[c.want:c.want+1], stateText)
		})
	}
}

func stateColumns(t *testing.T, open func(t *testing.T) StateStore) {
	t.Run("a channel of each device and tenant has its own row", func(t *testing.T) {
		s := open(t)
		a, b, c := Message(1), Message(1), Message(1)
		b.DeviceID, c.Tenant = "other", "other"
		writeAll(t, s, a, b, c)
		wantSame(t, s.States(t), []store.MessageRow{a, b, c}, stateText)
	})
	t.Run("events make state, logs and sessions do not", func(t *testing.T) {
		s := open(t)
		event, log, session := Message(1), Message(2), Message(3)
		event.Kind, log.Kind, session.Kind = telemetry.KindEvent, telemetry.KindLog, telemetry.KindSession
		writeAll(t, s, event, log, session)
		wantSame(t, s.States(t), []store.MessageRow{event}, stateText)
	})
	t.Run("every column comes back as it was written", func(t *testing.T) {
		s := open(t)
		want := append(messages(0, 20), Extremes()...)
		for i := range want {
			want[i].ChannelKey = fmt.Sprintf("own-%d", i)
		}
		writeAll(t, s, want...)
		wantSame(t, s.States(t), want, stateText)
		for i := range want { // and once more, as an update
			want[i].EventTime++
			want[i].MessageID += "'"
		}
		writeAll(t, s, want...)
		wantSame(t, s.States(t), want, stateText)
		wantSame(t, s.Crash(t).States(t), want, stateText)
	})
}

func devices(t *testing.T, open func(t *testing.T) StateStore) {
	session := func(at telemetry.Time, seq uint64, value string) store.MessageRow {
		return store.MessageRow{
			Message: telemetry.Message{
				Tenant: "default", DeviceID: "d", Kind: telemetry.KindSession, EventTime: at, IngestTime: at,
				ChannelValue: []byte(value), Credential: "key-7",
			},
			Origin: bus.Origin{Position: bus.Position{Seq: seq}},
		}
	}
	const begin = `{"connected":true,"address":"1.2.3.4:555","client_id":"c","protocol":"mqtt5"}`
	const end = `{"connected":false,"reason":"keep-alive timeout"}`
	check := func(t *testing.T, s StateStore, want Device) {
		t.Helper()
		text := func(d Device) string { return fmt.Sprintf("%+v", d) }
		wantSame(t, s.Devices(t), []Device{want}, text)
		wantSame(t, s.Crash(t).Devices(t), []Device{want}, text)
	}
	on := Device{
		DeviceID: "d", FirstSeen: 10, LastSeen: 10, Session: true, Connected: true, ConnectedSince: 10,
		Address: "1.2.3.4:555", ClientID: "c", Protocol: "mqtt5", Credential: "key-7",
	}
	off := on
	off.Connected, off.DisconnectedAt, off.Reason = false, 30, "keep-alive timeout"
	t.Run("a device is seen first and last by ingest time, logs included", func(t *testing.T) {
		s := open(t)
		a, b, c := Message(0), Message(10), Message(20)
		a.Kind, c.Kind, b.DeviceType = telemetry.KindLog, telemetry.KindLog, ""
		writeAll(t, s, b)
		writeAll(t, s, c, a)
		check(t, s, Device{DeviceID: a.DeviceID, DeviceType: a.DeviceType, FirstSeen: a.IngestTime, LastSeen: c.IngestTime})
	})
	t.Run("a session's begin says since when and from where", func(t *testing.T) {
		s := open(t)
		writeAll(t, s, session(10, 1, begin))
		check(t, s, on)
	})
	t.Run("a session's end says when and why", func(t *testing.T) {
		s := open(t)
		writeAll(t, s, session(10, 1, begin))
		writeAll(t, s, session(30, 2, end))
		check(t, s, off)
	})
	t.Run("the latest session message wins, whatever the order", func(t *testing.T) {
		s := open(t)
		writeAll(t, s, session(10, 1, begin), session(30, 2, end), session(10, 1, begin))
		check(t, s, off)
	})
	t.Run("a session that cannot be read changes nothing", func(t *testing.T) {
		s := open(t)
		writeAll(t, s, session(10, 1, begin), session(40, 2, `{"connec`))
		got := s.Devices(t)
		if len(got) != 1 || !got[0].Connected {
			t.Errorf("devices are %+v, want one that is connected", got)
		}
	})
}
