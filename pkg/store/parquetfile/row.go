package parquetfile

import (
	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
)

// Row is one row of a file: store.HistoryColumns, as parquet-go wants them. A nil or zero optional field is null.
type Row struct {
	Tenant          string   `parquet:"tenant,dict"`
	DeviceID        string   `parquet:"device_id,dict"`
	DeviceType      string   `parquet:"device_type,dict"`
	ChannelKey      string   `parquet:"channel_key,dict"`
	ChannelType     string   `parquet:"channel_type,dict"`
	ChannelValue    string   `parquet:"channel_value,dict"`
	Value           *float64 `parquet:"value,optional,dict"`
	EventTime       int64    `parquet:"event_time,timestamp(nanosecond:local),delta"`
	IngestTime      int64    `parquet:"ingest_time,timestamp(nanosecond:local),delta"`
	MessageID       string   `parquet:"message_id,delta"`
	Kind            string   `parquet:"kind,dict"`
	DeviceTime      int64    `parquet:"device_time,timestamp(nanosecond:local),optional,delta"`
	Properties      string   `parquet:"properties,optional,dict"`
	Attributes      string   `parquet:"attributes,optional,dict"`
	Source          string   `parquet:"source,dict"`
	Credential      string   `parquet:"credential,dict"`
	Codec           string   `parquet:"codec,dict"`
	OriginPartition int32    `parquet:"origin_partition,dict"`
	OriginPosition  int64    `parquet:"origin_position,delta"`
}

// The order of a file: that of a device's day being read. Columns further on break ties, so that a file is the same however
// its rows arrived.
func sortColumns() []string {
	return []string{"tenant", "device_id", "channel_key", "event_time", "origin_partition", "origin_position"}
}

// Compare orders rows as sortColumns says.
func Compare(a, b *Row) int {
	if c := compareText(a.Tenant, b.Tenant); c != 0 {
		return c
	}
	if c := compareText(a.DeviceID, b.DeviceID); c != 0 {
		return c
	}
	if c := compareText(a.ChannelKey, b.ChannelKey); c != 0 {
		return c
	}
	switch {
	case a.EventTime != b.EventTime:
		return less(a.EventTime < b.EventTime)
	case a.OriginPartition != b.OriginPartition:
		return less(a.OriginPartition < b.OriginPartition)
	case a.OriginPosition != b.OriginPosition:
		return less(a.OriginPosition < b.OriginPosition)
	}
	return 0
}

func less(is bool) int {
	if is {
		return -1
	}
	return 1
}

func compareText(a, b string) int {
	switch {
	case a == b: // pointers first: most neighbours share their text
		return 0
	case a < b:
		return -1
	}
	return 1
}

// Message returns what the row says. Its texts and bytes are the row's.
func (r *Row) Message() (store.MessageRow, error) {
	props, err := store.ParseProperties(nil, []byte(r.Properties))
	m := store.MessageRow{
		Message: telemetry.Message{
			Tenant: r.Tenant, DeviceID: r.DeviceID, DeviceType: r.DeviceType,
			Kind:       store.ParseKind(r.Kind),
			ChannelKey: r.ChannelKey, ChannelType: r.ChannelType, ChannelValue: []byte(r.ChannelValue),
			EventTime: telemetry.Time(r.EventTime), IngestTime: telemetry.Time(r.IngestTime), DeviceTime: telemetry.Time(r.DeviceTime),
			MessageID: r.MessageID, Source: r.Source, Credential: r.Credential, Codec: r.Codec,
			Properties: props,
		},
		Origin: bus.Origin{Partition: r.OriginPartition, Position: store.UnpackPosition(r.OriginPosition)},
	}
	if r.Attributes != "" {
		m.Attributes = []byte(r.Attributes)
	}
	if r.Value != nil {
		m.Value, m.HasValue = *r.Value, true
	}
	return m, err
}
