package standalone_test

// allLimits is docs/limits.md.
func allLimits() []limits {
	return []limits{
		{"Messages", messageLimits()},
		{"HTTP senders", httpLimits()},
		{"MQTT", mqttLimits()},
		{"The log and the workers", logLimits()},
		{"Windows, rules and routes", ruleLimits()},
		{"Tables, history and queries", storeLimits()},
		{"Live streams", liveLimits()},
		{"Configuration and access", configLimits()},
	}
}

func messageLimits() []limit {
	return []limit{
		{"one message, and one MQTT packet", "ingest.limits.message_bytes", "", "MQTT: the connection ends, with 0x95 in MQTT 5. HTTP: the record is rejected and dead-lettered. At most 448KiB can be set: the log takes a record of 512KiB, and a message has its ids and times beside it"},
		{"depth of JSON, the outermost brackets included", "ingest.limits.json_depth", "", "the record is rejected and dead-lettered"},
		{"messages in one body", "pkg/telemetry:DefaultMessagesMax", "", "the rest of the body is rejected as one record"},
		{"rejected records of one body, each by itself", "pkg/telemetry:RefusedMax", "", "the rest of the body is rejected as one record, unread"},
		{"what one body may take in the log beyond four times its size", "services/ingest/internal/pipeline:growthFree", "bytes", "the rest of the body is rejected as one record: device, type and properties repeat in every message"},
		{"device id", "pkg/telemetry:DeviceIDMax", "bytes", "the record is rejected; in a path 400, in an MQTT 5 topic 0x90"},
		{"channel key", "pkg/telemetry:ChannelKeyMax", "bytes", "the record is rejected"},
		{"properties of one message", "pkg/telemetry:PropertiesMax", "", "HTTP 400; an MQTT topic with more is unknown (0x90, or a dead letter)"},
		{"message id as the device wrote it", "pkg/telemetry:MessageIDMax", "bytes", "a hash of it is kept in its place"},
		{"messages of one device a second", "ingest.limits.messages_per_second", "", "HTTP 429 with `Retry-After`; MQTT 5, QoS 1 and 2: 0x97; MQTT 3.1.1 and QoS 0: its connection is read more slowly"},
		{"messages of one device at once, beyond its rate", "ingest.limits.messages_burst", "", "as above"},
		{"bytes of one device a second", "ingest.limits.bytes_per_second", "", "as above; a body counts as it is unpacked, and one of several devices for each by its part of the messages"},
		{"bytes of one device at once, beyond its rate", "ingest.limits.bytes_burst", "", "as above"},
		{"messages of all devices a second, at one edge", "ingest.limits.tenant_messages_per_second", "", "0 is no limit. Beyond it devices that have sent more than an equal share of the present second are answered as above; who has not had its share is taken"},
		{"bytes of all devices a second, at one edge", "ingest.limits.tenant_bytes_per_second", "", "likewise"},
		{"refusals in a row that an MQTT 5 client may ignore", "services/ingest/internal/mqttedge:refusedMax", "", "its connection is read more slowly as well"},
		{"devices whose rate is remembered", "ingest.limits.devices", "", "those that send least are forgotten, and begin with a full burst"},
		{"device clock ahead of ours", "ingest.clock.max_skew", "", "event time becomes the time of arrival; `device_time` keeps what the device said; counted"},
		{"device clock that was never set: before", "ingest.clock.min_time", "", "as above"},
	}
}

func httpLimits() []limit {
	return []limit{
		{"body, as it comes and unpacked", "ingest.limits.body_bytes", "", "413"},
		{"window of a zstd body", "services/ingest/internal/httpedge:windowMax", "bytes", "413"},
		{"`Idempotency-Key`", "services/ingest/internal/httpedge:idempotencyMax", "bytes", "400"},
		{"rejected records listed in an answer", "services/ingest/internal/httpedge:rejectedMax", "", "the others are counted in `rejected_total`"},
		{"bodies in memory, all together, MQTT packets beyond the read buffer included", "ingest.limits.bodies_inflight", "", "503 with `Retry-After`; MQTT: the connection ends, with 0x89. One sender gets two thirds of it at most, and less the more there are"},
		{"time for a request with its body", "ingest.http.read_timeout", "", "408, and the connection is closed"},
		{"time for the log to confirm", "ingest.http.answer_timeout", "", "503: send the same again, a repeat is known"},
		{"HTTP connections", "pkg/listen:connectionsMax", "", "one more is closed at once; counted"},
		{"HTTP connections from one address", "pkg/listen:addressConnectionsMax", "", "likewise"},
		{"headers of a request", "pkg/listen:headerBytesMax", "bytes", "431"},
		{"time for the headers", "pkg/listen:readHeaderTimeout", "time", "the connection is closed"},
		{"time between two requests of a connection", "pkg/listen:idleTimeout", "time", "the connection is closed"},
	}
}

func mqttLimits() []limit {
	return []limit{
		{"connections", "ingest.limits.connections", "", "one more is closed at once"},
		{"connections from one address", "ingest.limits.connections_per_address", "", "likewise. Behind a proxy that hides the devices' addresses, set it to 0"},
		{"connections with the key of one device", "ingest.limits.connections_per_device", "", "CONNACK 0x97 (3.1.1: 3)"},
		{"connections that have not finished their CONNECT", "ingest.limits.handshakes", "", "the oldest of them is closed"},
		{"time from connection to CONNECT, TLS included", "ingest.limits.connect_timeout", "", "the connection is closed"},
		{"CONNECT", "ingest.limits.connect_bytes", "", "the connection is closed"},
		{"client id", "services/ingest/internal/mqttedge:clientIDBytesMax", "bytes", "CONNACK 0x85 (3.1.1: 2)"},
		{"topic with its properties", "services/ingest/internal/mqttedge:topicBytesMax", "bytes", "0x90; MQTT 3.1.1 and QoS 0: a dead letter"},
		{"topic aliases of a connection", "services/ingest/internal/mqttedge:aliasesMax", "", "announced; a higher one ends the connection with 0x94"},
		{"time for the rest of a packet", "ingest.limits.packet_timeout", "", "the connection ends, with 0x8D in MQTT 5"},
		{"keep-alive of MQTT 5 clients", "ingest.mqtt.keep_alive_max", "", "the client is told this one; cut after one and a half times its keep-alive"},
		{"time for a client to take what is sent", "ingest.limits.write_timeout", "", "the connection is closed"},
		{"bytes of one connection not yet on disk", "ingest.limits.connection_inflight", "", "nothing more is read from it until some are"},
		{"packets of one connection not yet on disk", "services/ingest/internal/mqttedge:packetsMax", "", "nothing more is read from it until some are"},
		{"bytes of all senders not yet on disk", "ingest.limits.inflight", "", "nothing more is read until some are. One sender gets two thirds of it at most, and less the more there are; one partition of the log three quarters. HTTP: 503 when there is no room for `ingest.http.answer_timeout`"},
		{"read buffer of a connection", "ingest.limits.read_buffer", "", "it grows for a larger packet"},
		{"answers waiting to be written to one client", "services/ingest/internal/mqttedge:outBytesMax", "bytes", "nothing more is read from it"},
		{"pause of a sender over its rate", "services/ingest/internal/mqttedge:pauseMax", "time", "it is read again, and paused again"},
		{"sessions kept without their client", "ingest.limits.sessions", "", "those gone for longest are forgotten"},
		{"what sessions without their client take, about", "services/ingest/internal/mqttedge:sessionsBytesMax", "bytes", "those gone for longest are forgotten"},
		{"payload of a will", "services/ingest/internal/mqttedge:willBytesMax", "bytes", "CONNACK 0x95 (3.1.1: 3)"},
		{"time that a session is kept without its client", "ingest.mqtt.session_expiry_max", "", "it is forgotten; a client that asks for more is told this"},
		{"time for a subscription to stand", "services/ingest/internal/mqttedge:subscribeWait", "time", "SUBACK 0x80: try again"},
		{"topic filters of one session", "ingest.limits.subscriptions", "", "SUBACK 0x97 (3.1.1: 0x80)"},
		{"QoS 1 messages that a subscriber has not acknowledged", "ingest.limits.subscriber_inflight", "", "the next ones wait; what falls out of its queue it is told as missed"},
	}
}

func logLimits() []limit {
	return []limit{
		{"size of one topic", "bus.retention.bytes", "", "what every worker has read is trimmed; when the rest is still too much, senders are refused: HTTP 503, MQTT no PUBACK and the connection ends"},
		{"age of what every worker has read", "bus.retention.age", "", "it is trimmed; what is unread stays"},
		{"age of the books", "bus.retention.books", "", "they are trimmed; an audit of before then says that there are none"},
		{"one record", "pkg/bus/nats:defaultRecordBytesMax", "bytes", "refused: 413, 0x95"},
		{"one frame of many records", "pkg/bus/nats:defaultFrameBytesMax", "bytes", "another frame begins"},
		{"bytes gathered for one append", "pkg/bus:defaultBatchBytesMax", "bytes", "another append follows"},
		{"records gathered for one append", "pkg/bus:defaultBatchRecordsMax", "", "another append follows"},
		{"bytes that a reader asks for ahead", "pkg/bus/nats:readBufferBytes", "bytes", "it asks again when they are used"},
		{"panics over one record, and times that a worker does not come back from it", "pkg/worker:failuresMax", "", "the record becomes a dead letter"},
		{"time that a worker may have one record in hand", "pkg/worker:hangMax", "time", "its task is given up and begins again from the last commit"},
		{"deaths of the process with one record in hand", "pkg/worker:deathsMax", "", "the record becomes a dead letter"},
		{"attempts at a write, before the store is asked whether it takes others", "pkg/worker:attemptsMax", "", "if so, fewer records are written at once until the one at fault is alone"},
		{"failures of a record that is written alone", "pkg/worker:commitFailuresMax", "", "the record becomes a dead letter, unless three did since rows were last written"},
		{"body of a request to put a dead letter back", "services/live:replayBytesMax", "bytes", "413"},
		{"payload of a dead letter that a worker writes", "pkg/worker:letterPayloadMax", "bytes", "its beginning is kept, and the reason says so"},
		{"reason of a dead letter", "pkg/worker:letterReasonMax", "bytes", "its beginning is kept"},
		{"time for a process to drain, a worker by itself", "pkg/service:DefaultDrain", "time", "it ends with exit code 1; what was not finished is read again after the start (`--drain-timeout`)"},
		{"the same, `millrace run`", "services/standalone/internal/cli:runDrain", "time", "as above"},
	}
}

func ruleLimits() []limit {
	return []limit{
		{"message ids remembered of each device", "router.repeat_window", "", "an older repeat counts as a new message"},
		{"devices whose ids are remembered", "router.max_devices", "", "those silent for longest are forgotten: their next repeat counts as new"},
		{"records read again after a start to remember ids", "router.warm_records", "", "a repeat of something older counts as new"},
		{"routes", "services/router:RoutesMax", "", "a fault of the configuration"},
		{"different endpoints of all routes", "services/router:TopicsMax", "", "a fault of the configuration"},
		{"messages of a topic that a router looks for after a crash, of one partition", "services/router:standingMax", "", "older ones that were not committed are taken to stand nowhere: readers drop them, unless the routes were changed as well"},
		{"file of reference data", "services/router/internal/reference:FileBytesMax", "bytes", "the last good table stays in force; logged and counted"},
		{"rows of reference data", "services/router/internal/reference:RowsMax", "", "as above"},
		{"text of a condition", "pkg/rules:ExpressionBytesMax", "bytes", "a fault of the configuration"},
		{"cost of evaluating a condition (CEL's units)", "pkg/rules:EvaluationCostMax", "", "the condition fails on that message: counted, and a route's message goes to the fallback"},
		{"series of windows", "services/aggregator:specsMax", "", "a fault of the configuration"},
		{"length of a window", "services/aggregator:lengthMax", "time", "a fault of the configuration"},
		{"how late a message still corrects its window", "aggregator.correct_within", "", "it is in history, not in the window; counted"},
		{"devices in memory, of one share", "aggregator.devices_max", "", "messages of others are merged into the stored windows one by one, which is slower; they make no sessions"},
		{"channels in memory, of one device", "aggregator.channels_max", "", "likewise"},
		{"open windows, of one share", "aggregator.windows_max", "", "likewise"},
		{"running values published at once, of one share", "aggregator.running_max", "", "the others follow with the next time"},
		{"values a window keeps before it sketches its percentiles", "services/aggregator/internal/window:exactMax", "", "p50, p95 and p99 are within 1 % from then on; the rest stays exact"},
		{"rules", "services/alerting:RulesMax", "", "a fault of the configuration"},
		{"channels that all rules together follow", "alerting.max_tracked", "", "idle ones heard longest ago give way; where none is idle, new ones are not followed: counted and logged"},
		{"raises of one alarm within `alerting.flap.window`", "alerting.flap.max", "", "it stays raised until it has been calm for the window"},
		{"targets of notifications", "services/alerting:TargetsMax", "", "a fault of the configuration"},
	}
}

func storeLimits() []limit {
	return []limit{
		{"memory of the SQL engine", "duckdb.memory", "", "what a query needs beyond it goes to disk"},
		{"queries at once", "duckdb.queries", "", "one more waits 5 s, then 503 with `Retry-After`"},
		{"rows of one SQL answer", "live.query.max_rows", "", "it ends there and says so: `Millrace-Truncated: true` as a trailer, `truncated` in JSON"},
		{"time of one query", "live.query.max_timeout", "", "422"},
		{"text of a query", "pkg/store/answer:QueryBytesMax", "bytes", "400"},
		{"body of `POST /v1/sql`", "services/live:sqlBytesMax", "bytes", "413"},
		{"rows of one answer of the other resources", "live.query.page_rows", "", "a larger `limit` is 400; the rest is had by `cursor`"},
		{"rows of one answer when `limit` is not given", "services/live:limitDefault", "", "the rest is had by `cursor`"},
		{"bytes of one answer of the other resources", "services/live:answerBytesMax", "bytes", "it ends early, with a `cursor` for the rest"},
		{"one parameter of a query", "services/live:paramBytesMax", "bytes", "400"},
		{"wait for an acknowledged alarm to show it", "live.query.ack_wait", "", "202 in place of 200"},
		{"rows of history in memory", "history.memory", "", "at half of it they are written to a file; at all of it the writer waits, and the log keeps the rest"},
		{"queries at once on ClickHouse, of one process", "clickhouse.queries.at_once", "", "one more waits 5 s, then 503"},
		{"memory of a query on ClickHouse", "clickhouse.queries.memory", "", "sorting and grouping go to the server's disk beyond half of it; at all of it 422"},
		{"rows of the archive on object storage in memory", "archive.memory", "", "the writer waits, and the log keeps the rest"},
		{"the same, at which they become files", "archive.file_bytes", "", "they are written to files"},
		{"age of rows of history in memory", "history.segment_age", "", "they are written to a file"},
		{"history", "history.retention", "", "older files are deleted; 0s keeps everything"},
		{"free share of the disk", "history.disk_warn", "", "below it the log, `/v1/status` and the page warn"},
		{"logs", "duckdb.logs_for", "", "older rows are deleted"},
		{"dead letters", "duckdb.dead_letters_for", "", "older rows are deleted"},
	}
}

func liveLimits() []limit {
	return []limit{
		{"subscribers of all kinds", "live.feed.subscribers", "", "503 with `Retry-After`; MQTT: SUBACK 0x97"},
		{"events that one subscriber may lag", "live.feed.queue_records", "", "the oldest give way, and it is told how many it missed"},
		{"bytes that one subscriber may lag", "live.feed.queue_bytes", "", "as above"},
		{"silence on a stream", "live.sse.heartbeat", "", "a comment is sent"},
		{"time that a subscriber takes nothing", "live.sse.write_timeout", "", "its connection is cut; it comes back to where it was"},
		{"token to come back by", "pkg/feed:tokenBytesMax", "bytes", "400"},
	}
}

func configLimits() []limit {
	return []limit{
		{"configuration file", "pkg/config:FileBytesMax", "bytes", "a fault"},
		{"file that `${file:…}` reads", "pkg/config:referencedBytesMax", "bytes", "a fault"},
		{"depth of keys", "pkg/config:DepthMax", "", "a fault"},
		{"values, aliases followed", "pkg/config:NodesMax", "", "a fault"},
		{"faults told at once", "pkg/config:FaultsMax", "", "the rest is not looked at"},
		{"access file", "pkg/access:fileBytesMax", "bytes", "the keys known so far stay in force; at the start an error"},
		{"scrapes of `/metrics` at once", "pkg/service:scrapesMax", "", "503"},
	}
}
