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
	// Context is what else it takes to put the payload back, as the JSON of a LetterContext; "" where there is nothing.
	Context string

	// ReplayOf makes this record the note that the letter of that id, of which everything above is a copy, was put back; "" in a
	// letter. Who asked for that, and when, is beside it.
	ReplayOf   string
	ReplayedBy string
	ReplayedAt Time
	// Deliver asks that Repaired, or where that is empty Payload, be given to Worker alone. Without it the note says only what
	// was done.
	Deliver  bool
	Repaired []byte
}

// LetterContext is what the Context of a dead letter holds. Members are only ever added.
type LetterContext struct {
	// What the edge knew of a body beside its bytes: see Input.
	ChannelKey  string            `json:"channel_key,omitempty"`
	ContentType string            `json:"content_type,omitempty"`
	Properties  map[string]string `json:"properties,omitempty"`
	// Origin is the "partition.sequence.index" of the message that a worker could not process.
	Origin string `json:"origin,omitempty"`
	// Row says that the payload is a row as JSON, of which the record is gone; PublishedTo that it was on its way to that topic.
	Row         bool   `json:"row,omitempty"`
	PublishedTo string `json:"published_to,omitempty"`
	// Cut says that the payload is only the beginning of what it was.
	Cut bool `json:"cut,omitempty"`
	// Escaped says that the column payload holds the escaped form of the payload: see store.PayloadText. The store's writer sets it.
	Escaped bool `json:"escaped,omitempty"`
}

// Redelivery is a record that is given once more to one worker: see bus.Redelivered.
type Redelivery struct {
	Worker string // others pass it over
	Topic  string // from which the worker had it
	Origin string // "partition.sequence.index" of the message; "" where there is none
	Letter string // id of the dead letter
	Value  []byte
}
