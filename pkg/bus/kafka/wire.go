package kafka

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
)

// The versions of the requests that are encoded here: the newest without tagged fields, which brokers have known since 2.4 and
// Kafka 4 still does.
const (
	produceVersion       = 8
	fetchVersion         = 11
	listOffsetsVersion   = 5
	deleteRecordsVersion = 0
	heartbeatVersion     = 3

	acksAll       = -1
	clientID      = "millrace"
	correlation   = 1 // a connection carries one request at a time
	replyBytesMax = 256 << 20
)

var errReply = errors.New("the broker's reply cannot be read")

// exchange is one request and its reply. kafka-go's Transport finds the broker and a connection to it, and then leaves the bytes to
// RawExchange.
type exchange struct {
	key     protocol.ApiKey
	version int16
	request []byte // with its header, see beginRequest
	reply   []byte // behind the correlation id; fresh for each exchange
	tooOld  bool
}

// toLeader is an exchange with the leader of a partition.
type toLeader struct {
	*exchange
	topic     string
	partition int32
}

// toCoordinator is an exchange with the coordinator of a group.
type toCoordinator struct {
	*exchange
	group string
}

var (
	_ protocol.BrokerMessage = toLeader{}
	_ protocol.RawExchanger  = toLeader{}
	_ protocol.GroupMessage  = toCoordinator{}
	_ protocol.RawExchanger  = toCoordinator{}
)

// ApiKey implements protocol.Message.
func (e *exchange) ApiKey() protocol.ApiKey { return e.key }

// Broker implements protocol.BrokerMessage.
func (e toLeader) Broker(cluster protocol.Cluster) (protocol.Broker, error) {
	partition, ok := cluster.Topics[e.topic].Partitions[e.partition]
	if !ok {
		return protocol.Broker{ID: -1}, kafkago.UnknownTopicOrPartition
	}
	leader, ok := cluster.Brokers[partition.Leader]
	if !ok {
		return protocol.Broker{ID: -1}, kafkago.LeaderNotAvailable
	}
	return leader, nil
}

// Group implements protocol.GroupMessage.
func (e toCoordinator) Group() string { return e.group }

// Required implements protocol.RawExchanger.
func (e *exchange) Required(versions map[protocol.ApiKey]int16) bool {
	e.tooOld = versions[e.key] < e.version
	return true
}

// RawExchange implements protocol.RawExchanger.
func (e *exchange) RawExchange(rw io.ReadWriter) (protocol.Message, error) {
	if e.tooOld {
		return nil, fmt.Errorf("the broker does not know version %d of request %s: want Kafka 2.4 or later", e.version, e.key)
	}
	if _, err := rw.Write(e.request); err != nil {
		return nil, err
	}
	var head [8]byte
	if _, err := io.ReadFull(rw, head[:]); err != nil {
		return nil, notEOF(err)
	}
	size := binary.BigEndian.Uint32(head[:])
	if id := binary.BigEndian.Uint32(head[4:]); size < 4 || size > replyBytesMax || id != correlation {
		return nil, fmt.Errorf("%w: %d bytes for request %d", errReply, size, id)
	}
	e.reply = make([]byte, size-4)
	if _, err := io.ReadFull(rw, e.reply); err != nil {
		return nil, notEOF(err)
	}
	return e, nil
}

func notEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// beginRequest appends the header of a request, whose length endRequest sets.
func beginRequest(dst []byte, key protocol.ApiKey, version int16) []byte {
	dst = append(dst, 0, 0, 0, 0)
	dst = appendInt16(dst, int16(key))
	dst = appendInt16(dst, version)
	dst = appendInt32(dst, correlation)
	return appendString(dst, clientID)
}

func endRequest(request []byte) []byte {
	binary.BigEndian.PutUint32(request, uint32(len(request)-4)) //nolint:gosec // bounded by batch_bytes_max
	return request
}

func appendInt16(dst []byte, v int16) []byte {
	return binary.BigEndian.AppendUint16(dst, uint16(v)) //nolint:gosec // bits
}

func appendInt32(dst []byte, v int32) []byte {
	return binary.BigEndian.AppendUint32(dst, uint32(v)) //nolint:gosec // bits
}

func appendInt64(dst []byte, v int64) []byte {
	return binary.BigEndian.AppendUint64(dst, uint64(v)) //nolint:gosec // bits
}

func appendString(dst []byte, s string) []byte {
	return append(appendInt16(dst, int16(len(s))), s...) //nolint:gosec // names of at most 249 bytes
}

// beginProduce appends a Produce request up to its batch, and returns where that begins.
func beginProduce(dst []byte, topic string, partition int32, timeout time.Duration) (request []byte, batch int) {
	dst = beginRequest(dst, protocol.Produce, produceVersion)
	dst = appendInt16(dst, -1) // no transaction
	dst = appendInt16(dst, acksAll)
	dst = appendInt32(dst, int32(timeout.Milliseconds())) //nolint:gosec // some seconds
	dst = appendString(appendInt32(dst, 1), topic)
	dst = appendInt32(appendInt32(dst, 1), partition)
	dst = appendInt32(dst, 0) // the batch's length
	return dst, len(dst)
}

func endProduce(request []byte, batch int) []byte {
	binary.BigEndian.PutUint32(request[batch-4:], uint32(len(request)-batch)) //nolint:gosec // bounded by batch_bytes_max
	return endRequest(request)
}

// produced is a broker's reply to a Produce request.
type produced struct {
	fault      int16
	message    string
	base       int64 // offset of the batch's first record
	logStart   int64
	refusal    string // of a record
	refusedRec int32
}

func parseProduced(reply []byte) (produced, error) {
	r := replyReader{rest: reply}
	p := produced{refusedRec: -1}
	r.one() // topics
	r.text()
	r.one() // partitions
	r.int32()
	p.fault = r.int16()
	p.base = r.int64()
	r.int64() // when it was appended
	p.logStart = r.int64()
	for range r.count(6) {
		at, why := r.int32(), r.text()
		if p.refusedRec < 0 {
			p.refusedRec, p.refusal = at, why
		}
	}
	p.message = r.text()
	if r.fault {
		return p, fmt.Errorf("%w: produce", errReply)
	}
	return p, nil
}

// fetchRequest makes a Fetch request for one partition from offset on.
func fetchRequest(topic string, partition int32, offset int64, wait time.Duration, bytesMax int32) []byte {
	dst := beginRequest(nil, protocol.Fetch, fetchVersion)
	dst = appendInt32(dst, -1)                         // a consumer, no replica
	dst = appendInt32(dst, int32(wait.Milliseconds())) //nolint:gosec // some seconds
	dst = appendInt32(dst, 1)                          // byte
	dst = appendInt32(dst, bytesMax)
	dst = append(dst, 0)                       // also what no transaction has committed: there are none
	dst = appendInt32(appendInt32(dst, 0), -1) // no session
	dst = appendString(appendInt32(dst, 1), topic)
	dst = appendInt32(appendInt32(dst, 1), partition)
	dst = appendInt32(dst, -1) // whatever the leader's epoch
	dst = appendInt64(dst, offset)
	dst = appendInt64(dst, -1) // the replica's log start
	dst = appendInt32(dst, bytesMax)
	dst = appendInt32(dst, 0)   // no forgotten topics
	dst = appendString(dst, "") // no rack
	return endRequest(dst)
}

// fetched is a broker's reply to a Fetch request.
type fetched struct {
	fault    int16
	end      int64 // the high watermark: behind the last record that all replicas in sync have
	logStart int64
	batches  []byte // aliases the reply
}

func parseFetched(reply []byte) (fetched, error) {
	r := replyReader{rest: reply}
	var f fetched
	r.int32() // throttled
	f.fault = r.int16()
	r.int32() // session
	if f.fault != 0 {
		return f, nil
	}
	r.one()
	r.text()
	r.one()
	r.int32()
	f.fault = r.int16()
	f.end = r.int64()
	r.int64() // last stable offset
	f.logStart = r.int64()
	for range r.count(16) { // aborted transactions
		r.int64()
		r.int64()
	}
	r.int32() // preferred replica
	f.batches = r.bytes()
	if r.fault {
		return f, fmt.Errorf("%w: fetch", errReply)
	}
	return f, nil
}

// deleteRecordsRequest makes a request that moves the start of a partition to offset.
func deleteRecordsRequest(topic string, partition int32, offset int64, timeout time.Duration) []byte {
	dst := beginRequest(nil, protocol.DeleteRecords, deleteRecordsVersion)
	dst = appendString(appendInt32(dst, 1), topic)
	dst = appendInt32(appendInt32(dst, 1), partition)
	dst = appendInt64(dst, offset)
	dst = appendInt32(dst, int32(timeout.Milliseconds())) //nolint:gosec // some seconds
	return endRequest(dst)
}

func parseDeleted(reply []byte) (logStart int64, fault int16, err error) {
	r := replyReader{rest: reply}
	r.int32() // throttled
	r.one()
	r.text()
	r.one()
	r.int32()
	logStart, fault = r.int64(), r.int16()
	if r.fault {
		return 0, 0, fmt.Errorf("%w: delete records", errReply)
	}
	return logStart, fault, nil
}

// listOffsetsRequest makes a request for the offset of a time in milliseconds, or of -1 (the end) or -2 (the first).
func listOffsetsRequest(topic string, partition int32, of int64) []byte {
	dst := beginRequest(nil, protocol.ListOffsets, listOffsetsVersion)
	dst = appendInt32(dst, -1) // a consumer
	dst = append(dst, 0)       // also what no transaction has committed
	dst = appendString(appendInt32(dst, 1), topic)
	dst = appendInt32(appendInt32(dst, 1), partition)
	dst = appendInt32(dst, -1) // whatever the leader's epoch
	return endRequest(appendInt64(dst, of))
}

func parseOffset(reply []byte) (offset int64, fault int16, err error) {
	r := replyReader{rest: reply}
	r.int32() // throttled
	r.one()
	r.text()
	r.one()
	r.int32()
	fault = r.int16()
	r.int64() // the record's time
	offset = r.int64()
	if r.fault {
		return 0, 0, fmt.Errorf("%w: list offsets", errReply)
	}
	return offset, fault, nil
}

// heartbeatRequest makes a Heartbeat request. kafka-go's own reads the reply's fields in the wrong order, and so never sees that a
// rebalance has begun.
func heartbeatRequest(group string, generation int32, member string) []byte {
	dst := beginRequest(nil, protocol.Heartbeat, heartbeatVersion)
	dst = appendInt32(appendString(dst, group), generation)
	dst = appendString(dst, member)
	return endRequest(appendInt16(dst, -1)) // no static member
}

func parseHeartbeat(reply []byte) (fault int16, err error) {
	r := replyReader{rest: reply}
	r.int32() // throttled
	fault = r.int16()
	if r.fault {
		return 0, fmt.Errorf("%w: heartbeat", errReply)
	}
	return fault, nil
}

// replyReader reads a reply from its front, until the first fault.
type replyReader struct {
	rest  []byte
	fault bool
}

func (r *replyReader) take(n int) []byte {
	if r.fault || n < 0 || n > len(r.rest) {
		r.fault = true
		return nil
	}
	v := r.rest[:n:n]
	r.rest = r.rest[n:]
	return v
}

func (r *replyReader) int16() int16 {
	if b := r.take(2); b != nil {
		return int16(binary.BigEndian.Uint16(b)) //nolint:gosec // bits
	}
	return 0
}

func (r *replyReader) int32() int32 {
	if b := r.take(4); b != nil {
		return int32(binary.BigEndian.Uint32(b)) //nolint:gosec // bits
	}
	return 0
}

func (r *replyReader) int64() int64 {
	if b := r.take(8); b != nil {
		return int64(binary.BigEndian.Uint64(b)) //nolint:gosec // bits
	}
	return 0
}

// count reads the number of an array's elements, each of at least elementMin bytes; 0 for null.
func (r *replyReader) count(elementMin int) int {
	n := int(r.int32())
	if n > len(r.rest)/elementMin {
		r.fault = true
		return 0
	}
	return max(n, 0)
}

// one reads the number of an array's elements, which must be one.
func (r *replyReader) one() {
	if r.int32() != 1 {
		r.fault = true
	}
}

// text reads a string; "" for null.
func (r *replyReader) text() string {
	if n := r.int16(); n >= 0 {
		return string(r.take(int(n)))
	}
	return ""
}

// bytes reads bytes; nil for null.
func (r *replyReader) bytes() []byte {
	if n := r.int32(); n >= 0 {
		return r.take(int(n))
	}
	return nil
}
