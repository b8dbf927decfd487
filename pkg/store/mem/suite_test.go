package mem_test

import (
	"context"
	"testing"

	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/store/mem"
	"github.com/millrace/millrace/pkg/store/storetest"
	"github.com/millrace/millrace/pkg/telemetry"
)

func again(s *mem.Store) *mem.Store {
	s.Crash()
	return s.Open()
}

func TestState(t *testing.T) {
	var wrap func(s *mem.Store) storetest.StateStore
	wrap = func(s *mem.Store) storetest.StateStore {
		return storetest.StateStore{
			StateWriter: s.State(),
			States:      func(*testing.T) []store.MessageRow { return s.Rows().States },
			Devices:     func(*testing.T) []storetest.Device { return devices(s) },
			Crash:       func(*testing.T) storetest.StateStore { return wrap(again(s)) },
		}
	}
	storetest.State(t, func(*testing.T) storetest.StateStore { return wrap(mem.New()) })
}

func devices(s *mem.Store) []storetest.Device {
	var all []storetest.Device
	for _, d := range s.Devices() {
		row := storetest.Device{DeviceID: d.DeviceID, DeviceType: d.DeviceType, FirstSeen: d.FirstSeen, LastSeen: d.LastSeen}
		if d.Session != nil {
			row.Session, row.Connected, row.Reason, row.Credential = true, d.Session.Connected, d.Session.Reason, d.Credential
			row.ConnectedSince, row.DisconnectedAt = d.SessionBegan, d.SessionEnded
			row.Address, row.ClientID, row.Protocol = d.Begin.Address, d.Begin.ClientID, d.Begin.Protocol
		}
		all = append(all, row)
	}
	return all
}

func TestHistoryThatIsHeldBack(t *testing.T) {
	var wrap func(s *mem.Store) storetest.HistoryStore
	wrap = func(s *mem.Store) storetest.HistoryStore {
		return storetest.HistoryStore{
			HistoryWriter: s.Segments(),
			Read:          func(*testing.T) []store.MessageRow { return append(s.Rows().Segments, s.Held()...) },
			Crash:         func(*testing.T) storetest.HistoryStore { return wrap(again(s)) },
		}
	}
	storetest.History(t, func(*testing.T) storetest.HistoryStore { return wrap(mem.New()) })
}

// through is history that holds nothing back.
type through struct{ store.Writer[store.MessageRow] }

func (through) Flush(context.Context) error { return nil }

func TestHistoryThatIsWrittenThrough(t *testing.T) {
	var wrap func(s *mem.Store) storetest.HistoryStore
	wrap = func(s *mem.Store) storetest.HistoryStore {
		return storetest.HistoryStore{
			HistoryWriter: through{s.Messages()},
			Read:          func(*testing.T) []store.MessageRow { return s.Rows().Messages },
			Crash:         func(*testing.T) storetest.HistoryStore { return wrap(again(s)) },
		}
	}
	storetest.History(t, func(*testing.T) storetest.HistoryStore { return wrap(mem.New()) })
}

func TestAggregates(t *testing.T) {
	var wrap func(s *mem.Store) storetest.AggregateStore
	wrap = func(s *mem.Store) storetest.AggregateStore {
		return storetest.AggregateStore{
			AggregateWriter: s.Aggregates(),
			Read: func(*testing.T) (all []telemetry.Aggregate) {
				for _, r := range s.Rows().Aggregates {
					all = append(all, r.Aggregate)
				}
				return all
			},
			Crash: func(*testing.T) storetest.AggregateStore { return wrap(again(s)) },
		}
	}
	storetest.Aggregates(t, func(*testing.T) storetest.AggregateStore { return wrap(mem.New()) })
}

func TestAlarms(t *testing.T) {
	var wrap func(s *mem.Store) storetest.AlarmStore
	wrap = func(s *mem.Store) storetest.AlarmStore {
		return storetest.AlarmStore{
			AlarmWriter: s.Alarms(),
			Read:        func(*testing.T) []telemetry.Alarm { return s.Rows().Alarms },
			Crash:       func(*testing.T) storetest.AlarmStore { return wrap(again(s)) },
		}
	}
	storetest.Alarms(t, func(*testing.T) storetest.AlarmStore { return wrap(mem.New()) })
}

func TestLogs(t *testing.T) {
	var wrap func(s *mem.Store) storetest.LogStore
	wrap = func(s *mem.Store) storetest.LogStore {
		return storetest.LogStore{
			LogWriter: s.Logs(),
			Read:      func(*testing.T) []store.MessageRow { return s.Rows().Logs },
			Crash:     func(*testing.T) storetest.LogStore { return wrap(again(s)) },
		}
	}
	storetest.Logs(t, func(*testing.T) storetest.LogStore { return wrap(mem.New()) })
}

func TestDeadLetters(t *testing.T) {
	var wrap func(s *mem.Store) storetest.DeadLetterStore
	wrap = func(s *mem.Store) storetest.DeadLetterStore {
		return storetest.DeadLetterStore{
			DeadLetterWriter: s.DeadLetters(),
			Read: func(*testing.T) (all []telemetry.DeadLetter) {
				for _, r := range s.Rows().DeadLetters {
					all = append(all, r.DeadLetter)
				}
				return all
			},
			Crash: func(*testing.T) storetest.DeadLetterStore { return wrap(again(s)) },
		}
	}
	storetest.DeadLetters(t, func(*testing.T) storetest.DeadLetterStore { return wrap(mem.New()) })
}
