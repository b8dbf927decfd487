package elasticsearch

import "github.com/millrace/millrace/pkg/store"

// The fields of documents, by the names that the Elastic Common Schema has where it has one, and below "millrace" where it has
// none. The constants are all that code knows of them; columnsOf says which column each of them is.
const (
	fieldTime      = "@timestamp"
	fieldArrival   = "event.ingested"
	fieldMessageID = "event.id"
	fieldTenant    = "organization.id"
	fieldDevice    = "device.id"
	fieldType      = "device.model.identifier"
	fieldText      = "message"
	fieldLevel     = "log.level"
	fieldLogger    = "log.logger"
	fieldReason    = "error.message"
	fieldAddress   = "client.address"
	fieldProtocol  = "network.protocol"

	fieldPartition    = "millrace.origin.partition"
	fieldPosition     = "millrace.origin.position"
	fieldChannel      = "millrace.channel.key"
	fieldChannelType  = "millrace.channel.type"
	fieldChannelValue = "millrace.channel.value"
	fieldValue        = "millrace.value"
	fieldKind         = "millrace.kind"
	fieldDeviceTime   = "millrace.device_time"
	fieldProperties   = "millrace.properties"
	fieldAttributes   = "millrace.attributes"
	fieldSource       = "millrace.source"
	fieldCredential   = "millrace.credential" //nolint:gosec // the name of a field
	fieldCodec        = "millrace.codec"

	fieldTopic        = "millrace.topic"
	fieldWorker       = "millrace.worker"
	fieldPayload      = "millrace.payload"
	fieldPayloadBytes = "millrace.payload_bytes"
	fieldLetterPart   = "millrace.partition"
	fieldLetterPlace  = "millrace.position"
	fieldRow          = "millrace.row"
	fieldContext      = "millrace.context"
	fieldReplayedAt   = "millrace.replayed_at"
	fieldReplayedBy   = "millrace.replayed_by"

	fieldFirstSeen     = "millrace.first_seen"
	fieldLastSeen      = "millrace.last_seen"
	fieldConnected     = "millrace.connected"
	fieldSince         = "millrace.connected_since"
	fieldGone          = "millrace.disconnected_at"
	fieldWhy           = "millrace.disconnect_reason"
	fieldClient        = "millrace.client_id"
	fieldTypeTime      = "millrace.type_time"
	fieldSessionTime   = "millrace.session.time"
	fieldSessionPart   = "millrace.session.partition"
	fieldSessionPlace  = "millrace.session.position"
	fieldWindowSeconds = "millrace.window.seconds"
	fieldWindowLength  = "millrace.window.length_ns"
	fieldCount         = "millrace.window.count"
	fieldMin           = "millrace.window.min"
	fieldMax           = "millrace.window.max"
	fieldSum           = "millrace.window.sum"
	fieldAvg           = "millrace.window.avg"
	fieldFirst         = "millrace.window.first"
	fieldLast          = "millrace.window.last"
	fieldP50           = "millrace.window.p50"
	fieldP95           = "millrace.window.p95"
	fieldP99           = "millrace.window.p99"
	fieldRevision      = "millrace.window.revision"
	fieldFirstTime     = "millrace.window.first_time"
	fieldLastTime      = "millrace.window.last_time"
	fieldState         = "millrace.window.state"
	fieldStateUntil    = "millrace.window.state_until"
	suffixExact        = ".exact" // a keyword beside a text that is searched by its words
	keywordLengthMax   = 1024     // characters; the ignore_above of every keyword in the templates
	longKeywordMax     = 4096     // likewise, of message.exact
	maxInt64Text       = "9223372036854775807"
	minInt64Text       = "-9223372036854775808"
	indexProgress      = "progress"
	indexParcels       = "parcels"
	indexStates        = "aggregate_states"
)

// sort of values in a column.
type valueKind uint8

const (
	text valueKind = iota
	whole
	number
	truth
	moment
)

// column is a column of a table and the field that has it.
type column struct {
	name  string
	field string
	kind  valueKind
	// nullable says that a document without the field has a null, and not an empty text.
	nullable bool
	// exact is the field that conditions and orders ask: the field itself, its keyword, or "" where none is indexed, so that
	// whatever else is asked for is read and compared here.
	exact string
	// longest is how many characters an indexed text may have; longer ones are found by being ignored.
	longest int
}

func textColumn(name, field string) column {
	return column{name: name, field: field, exact: field, longest: keywordLengthMax}
}

func plainColumn(name, field string, kind valueKind) column {
	return column{name: name, field: field, kind: kind, exact: field}
}

func nullColumn(name, field string, kind valueKind) column {
	return column{name: name, field: field, kind: kind, exact: field, nullable: true}
}

func bulkyColumn(name, field string, nullable bool) column {
	return column{name: name, field: field, nullable: nullable}
}

func originColumns() []column {
	return []column{plainColumn("origin_partition", fieldPartition, whole), plainColumn("origin_position", fieldPosition, whole)}
}

// columnsOf returns the columns of a table; none for a table that is not kept here.
func columnsOf(table string) []column {
	switch table {
	case store.TableLogs:
		return append([]column{
			textColumn("tenant", fieldTenant), textColumn("device_id", fieldDevice), textColumn("device_type", fieldType),
			textColumn("severity", fieldLevel), textColumn("source", fieldLogger),
			{name: "message", field: fieldText, exact: fieldText + suffixExact, longest: longKeywordMax},
			plainColumn("event_time", fieldTime, moment), plainColumn("ingest_time", fieldArrival, moment), textColumn("message_id", fieldMessageID),
		}, originColumns()...)
	case store.TableState:
		return append(channelColumns(textColumn("channel_value", fieldChannelValue)), originColumns()...)
	case store.TableMessages:
		return append(append(channelColumns(bulkyColumn("channel_value", fieldChannelValue, false)),
			textColumn("kind", fieldKind), nullColumn("device_time", fieldDeviceTime, moment),
			bulkyColumn("properties", fieldProperties, true), bulkyColumn("attributes", fieldAttributes, true),
			textColumn("source", fieldSource), textColumn("credential", fieldCredential), textColumn("codec", fieldCodec)), originColumns()...)
	case store.TableDevices:
		return deviceColumns()
	case store.TableAggregates:
		return aggregateColumns()
	case store.TableDeadLetters:
		return []column{
			textColumn("topic", fieldTopic), textColumn("worker", fieldWorker), textColumn("reason", fieldReason),
			bulkyColumn("payload", fieldPayload, false), plainColumn("received_at", fieldTime, moment), textColumn("tenant", fieldTenant),
			textColumn("device_id", fieldDevice), textColumn("credential", fieldCredential), plainColumn("partition", fieldLetterPart, whole),
			textColumn("position", fieldLetterPlace), textColumn(store.RowID, fieldRow),
			textColumn("id", fieldRow), bulkyColumn("context", fieldContext, false),
			nullColumn("replayed_at", fieldReplayedAt, moment), textColumn("replayed_by", fieldReplayedBy),
		}
	}
	return nil
}

func channelColumns(value column) []column {
	return []column{
		textColumn("tenant", fieldTenant), textColumn("device_id", fieldDevice), textColumn("device_type", fieldType),
		textColumn("channel_key", fieldChannel), textColumn("channel_type", fieldChannelType), value,
		nullColumn("value", fieldValue, number), plainColumn("event_time", fieldTime, moment),
		plainColumn("ingest_time", fieldArrival, moment), textColumn("message_id", fieldMessageID),
	}
}

func deviceColumns() []column {
	return []column{
		textColumn("tenant", fieldTenant), textColumn("device_id", fieldDevice), textColumn("device_type", fieldType),
		nullColumn("first_seen", fieldFirstSeen, moment), nullColumn("last_seen", fieldLastSeen, moment), nullColumn("connected", fieldConnected, truth),
		nullColumn("connected_since", fieldSince, moment), nullColumn("disconnected_at", fieldGone, moment), textColumn("disconnect_reason", fieldWhy),
		textColumn("address", fieldAddress), textColumn("client_id", fieldClient), textColumn("protocol", fieldProtocol),
		textColumn("credential", fieldCredential),
	}
}

func aggregateColumns() []column {
	return []column{
		textColumn("tenant", fieldTenant), textColumn("device_id", fieldDevice), textColumn("channel_key", fieldChannel),
		plainColumn("window_start", fieldTime, moment), plainColumn("window_seconds", fieldWindowSeconds, number),
		plainColumn("count", fieldCount, whole), nullColumn("min", fieldMin, number), nullColumn("max", fieldMax, number),
		nullColumn("sum", fieldSum, number), nullColumn("avg", fieldAvg, number), nullColumn("first", fieldFirst, number),
		nullColumn("last", fieldLast, number), nullColumn("p50", fieldP50, number), nullColumn("p95", fieldP95, number),
		nullColumn("p99", fieldP99, number), plainColumn("revision", fieldRevision, whole), textColumn("device_type", fieldType),
		nullColumn("first_time", fieldFirstTime, moment), nullColumn("last_time", fieldLastTime, moment),
		plainColumn("window_length_ns", fieldWindowLength, whole),
	}
}
