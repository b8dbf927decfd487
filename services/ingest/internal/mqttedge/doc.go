// Package mqttedge takes MQTT 3.1.1 and 5 from devices, and gives live streams to subscribers.
//
// The promise: a PUBACK, PUBREC or PUBCOMP is sent only when the log has the message on disk, and acknowledgements go out in
// the order of their messages, however many are under way. What cannot be taken is refused with its reason code where the
// protocol has one, else dead-lettered and acknowledged, so that nothing vanishes and nobody repeats it for ever.
//
// A connection has one goroutine that reads; it looks at packets in place, gathers what one read brought, and submits it.
// Acknowledgements are made where the log reports (see receipts), gather while a write is under way, and go with the next one.
//
// Start reading at Edge, then conn.
package mqttedge
