package telemetry

import "strings"

// String returns the severity in lower case, as conditions hold it: trace, debug, info, warning, error, critical;
// "" for SeverityNone.
func (s Severity) String() string {
	switch s {
	case SeverityTrace:
		return "trace"
	case SeverityDebug:
		return "debug"
	case SeverityInfo:
		return "info"
	case SeverityWarning:
		return "warning"
	case SeverityError:
		return "error"
	case SeverityCritical:
		return "critical"
	case SeverityNone:
	}
	return ""
}

// Name returns the severity as gateways write it, and as the table logs and the stream logs hold it: Trace, Debug, Info,
// Warning, Error, Critical; "" for SeverityNone.
func (s Severity) Name() string {
	switch s {
	case SeverityTrace:
		return "Trace"
	case SeverityDebug:
		return "Debug"
	case SeverityInfo:
		return "Info"
	case SeverityWarning:
		return "Warning"
	case SeverityError:
		return "Error"
	case SeverityCritical:
		return "Critical"
	case SeverityNone:
	}
	return ""
}

// ParseSeverity reads a severity whatever the case of its letters, with the names that other loggers have for it. The
// misspelling "Critial", which real gateways send, is Critical. ok is false for any other text.
func ParseSeverity(text string) (s Severity, ok bool) {
	switch text { // as they nearly always come
	case "Debug":
		return SeverityDebug, true
	case "Info", "Information":
		return SeverityInfo, true
	}
	var lower [16]byte
	text = strings.TrimSpace(text)
	if len(text) > len(lower) {
		return SeverityNone, false
	}
	for i := range len(text) {
		lower[i] = text[i]
		if c := text[i]; c >= 'A' && c <= 'Z' {
			lower[i] = c + 'a' - 'A'
		}
	}
	switch string(lower[:len(text)]) {
	case "trace", "verbose":
		return SeverityTrace, true
	case "debug":
		return SeverityDebug, true
	case "info", "information", "informational", "notice":
		return SeverityInfo, true
	case "warn", "warning":
		return SeverityWarning, true
	case "error", "err":
		return SeverityError, true
	case "critical", "critial", "crit", "fatal", "panic", "alert", "emergency", "emerg":
		return SeverityCritical, true
	}
	return SeverityNone, false
}
