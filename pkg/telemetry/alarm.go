package telemetry

// AlarmState is a step of an alarm's life: raised, then perhaps acknowledged, then cleared.
type AlarmState string

// The states of an alarm.
const (
	AlarmRaised       AlarmState = "raised"
	AlarmAcknowledged AlarmState = "acknowledged"
	AlarmCleared      AlarmState = "cleared"
)

// Alarm is one alarm as of its newest change: what the topic alarms carries and the table holds. On the topic
// alarm-commands it is an operator's wish: AlarmID, State and Detail count.
type Alarm struct {
	AlarmID                            string
	Tenant, Rule, DeviceID, ChannelKey string
	Severity                           string // info, warning, error or critical
	State                              AlarmState
	Value, PreviousValue               string // what changed the state, and what was before
	RaisedAt, AckedAt, ClearedAt       Time
	Detail                             []byte // JSON object
	Revision                           uint32 // rises by one with each change of this alarm
}

// DeadLetter is what a worker could not process, with its bytes and the reason.
type DeadLetter struct {
	Topic      string // or the listener, "mqtt" or "http", that took it
	Worker     string
	Reason     string
	Payload    []byte
	ReceivedAt Time
	Tenant     string
	DeviceID   string // "" where it is not known
	Partition  int32
	Position   string // "sequence.index"; "" where it never was on the log
	Credential string
}
