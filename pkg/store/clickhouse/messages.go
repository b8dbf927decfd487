package clickhouse

import (
	"time"

	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
)

// messageBlock is a block of rows of messages, column by column; device_state, logs and history send those that they have.
// Its slices are used again and again, and alias the rows until they are reset.
type messageBlock struct {
	tenants, devices, types, channels, channelTypes, channelValues []string
	values                                                         []*float64
	eventTimes, ingestTimes                                        []time.Time
	messageIDs, kinds                                              []string
	deviceTimes                                                    []*time.Time
	properties, attributes                                         []*string
	sources, credentials, codecs                                   []string
	partitions                                                     []int32
	positions                                                      []int64

	propertyText []byte // scratch
}

// add takes what all tables of messages have.
func (b *messageBlock) add(w *writing, m *store.MessageRow) {
	position, err := store.PackPosition(m.Origin.Position)
	if err != nil {
		position = 0 // not reached: such rows are refused
	}
	w.mixOrigin(m.Origin.Partition, position)
	b.tenants = append(b.tenants, text(m.Tenant))
	b.devices = append(b.devices, text(m.DeviceID))
	b.types = append(b.types, text(m.DeviceType))
	b.eventTimes = append(b.eventTimes, m.EventTime.Std())
	b.ingestTimes = append(b.ingestTimes, m.IngestTime.Std())
	b.messageIDs = append(b.messageIDs, text(m.MessageID))
	b.partitions = append(b.partitions, m.Origin.Partition)
	b.positions = append(b.positions, position)
}

// addValue takes what device_state and history have beside that.
func (b *messageBlock) addValue(m *store.MessageRow) {
	b.channels = append(b.channels, text(m.ChannelKey))
	b.channelTypes = append(b.channelTypes, text(m.ChannelType))
	b.channelValues = append(b.channelValues, text(alias(m.ChannelValue)))
	value := &m.Value
	if !m.HasValue {
		value = nil
	}
	b.values = append(b.values, value)
}

// addRest takes what only history has.
func (b *messageBlock) addRest(m *store.MessageRow) {
	b.kinds = append(b.kinds, store.KindName(m.Kind))
	b.deviceTimes = append(b.deviceTimes, momentOrNull(m.DeviceTime))
	b.propertyText = store.AppendProperties(b.propertyText[:0], m.Properties)
	var properties *string
	if len(b.propertyText) > 0 {
		s := string(b.propertyText)
		properties = &s
	}
	b.properties = append(b.properties, properties)
	b.attributes = append(b.attributes, textOrNull(m.Attributes))
	b.sources = append(b.sources, text(m.Source))
	b.credentials = append(b.credentials, text(m.Credential))
	b.codecs = append(b.codecs, text(m.Codec))
}

// reset empties the block and lets go of the rows.
func (b *messageBlock) reset() {
	for _, s := range []*[]string{
		&b.tenants, &b.devices, &b.types, &b.channels, &b.channelTypes, &b.channelValues, &b.messageIDs, &b.kinds, &b.sources,
		&b.credentials, &b.codecs,
	} {
		clear(*s)
		*s = (*s)[:0]
	}
	clear(b.values)
	clear(b.deviceTimes)
	clear(b.properties)
	clear(b.attributes)
	b.values, b.deviceTimes, b.properties, b.attributes = b.values[:0], b.deviceTimes[:0], b.properties[:0], b.attributes[:0]
	b.eventTimes, b.ingestTimes = b.eventTimes[:0], b.ingestTimes[:0]
	b.partitions, b.positions = b.partitions[:0], b.positions[:0]
}

func momentOrNull(t telemetry.Time) *time.Time {
	if t == 0 {
		return nil
	}
	at := t.Std()
	return &at
}

// The kinds of columns as they are sent.
const (
	kindText     = "String"
	kindTextNull = "Nullable(String)"
	kindTime     = "DateTime64(9, 'UTC')"
	kindTimeNull = "Nullable(DateTime64(9, 'UTC'))"
	kindNumber   = "Nullable(Float64)"
)
