package rules

import "github.com/millrace/millrace/pkg/telemetry"

// kindName returns the name of k as conditions write it.
func kindName(k telemetry.Kind) string {
	switch k {
	case telemetry.KindChannel:
		return "channel"
	case telemetry.KindLog:
		return "log"
	case telemetry.KindEvent:
		return "event"
	case telemetry.KindSession:
		return "session"
	default:
		return "unknown"
	}
}

// kinds lists every kind.
func kinds() []telemetry.Kind {
	return []telemetry.Kind{
		telemetry.KindUnknown, telemetry.KindChannel, telemetry.KindLog, telemetry.KindEvent, telemetry.KindSession,
	}
}

func kindNamed(name string) (telemetry.Kind, bool) {
	for _, k := range kinds() {
		if kindName(k) == name {
			return k, true
		}
	}
	return telemetry.KindUnknown, false
}

func severityNamed(name string) (telemetry.Severity, bool) {
	for s := telemetry.SeverityTrace; s <= telemetry.SeverityCritical; s++ {
		if s.String() == name {
			return s, true
		}
	}
	return telemetry.SeverityNone, false
}
