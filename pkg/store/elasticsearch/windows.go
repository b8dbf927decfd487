package elasticsearch

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"

	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
)

// monthForm ends the name of an index of aggregates, which is that of the month in which a window begins.
const monthForm = "2006.01"

func (s *aggregateStore) index(start telemetry.Time) string {
	return s.db.name(s.table) + "-" + start.Std().Format(monthForm)
}

func windowID(k *store.WindowKey) string {
	return keyID(k.Tenant, k.DeviceID, k.ChannelKey, strconv.FormatInt(k.WindowLength, 10)+"@"+strconv.FormatInt(int64(k.WindowStart), 10))
}

// aggregateFault refuses numbers that JSON has no form for.
func aggregateFault(a *telemetry.Aggregate) string {
	if a.Count == 0 {
		return ""
	}
	for _, n := range []struct {
		name  string
		value float64
	}{
		{"min", a.Min},
		{"max", a.Max},
		{"sum", a.Sum},
		{"avg", a.Avg()},
		{"first", a.First},
		{"last", a.Last},
		{"p50", a.P50},
		{"p95", a.P95},
		{"p99", a.P99},
	} {
		if !finite(n.value) {
			return fmt.Sprintf("%s is %v, want a finite number", n.name, n.value)
		}
	}
	return ""
}

// requests returns bulk requests that write rows, of several with one key the last, as of a commit's number.
func (s *aggregateStore) requests(rows []store.AggregateRow, commit int64) [][]byte {
	last := make(map[store.WindowKey]int, len(rows))
	for i := range rows {
		last[store.KeyOf(&rows[i].Aggregate)] = i
	}
	b := &bulk{request: &request{}}
	var all [][]byte
	members := strconv.AppendInt([]byte(`,"version_type":"external_gte","version":`), commit, 10)
	for i := range rows {
		r := &rows[i]
		key := store.KeyOf(&r.Aggregate)
		if last[key] != i {
			continue
		}
		id := windowID(&key)
		b.request.body = closeDocument(appendAggregate(b.act("index", s.index(key.WindowStart), id, members, i), &r.Aggregate))
		if len(r.State) > 0 {
			b.request.body = closeDocument(appendState(b.act("index", s.db.name(indexStates), id, members, i), r))
		} else {
			b.request.body = b.act("delete", s.db.name(indexStates), id, members, i)
		}
		if len(b.request.body) >= pieceBytes {
			all = append(all, b.request.body)
			b.request = &request{}
		}
	}
	if len(b.request.body) > 0 {
		all = append(all, b.request.body)
	}
	return all
}

// send sends bulk requests of a commit that counts already. A row that is there with a later commit's number stays.
func (s *aggregateStore) send(ctx context.Context, requests [][]byte) error {
	for _, body := range requests {
		answer, err := s.db.client.post(ctx, http.MethodPost, bulkPath, contentNDJSON, body, nil)
		if err != nil {
			return fmt.Errorf("write the rows: %w", err)
		}
		var told struct {
			Items []map[string]itemAnswer `json:"items"`
		}
		if err := json.Unmarshal(answer, &told); err != nil {
			return fmt.Errorf("write the rows: read the answer: %w", err)
		}
		for _, by := range told.Items {
			for action, a := range by {
				gone := action == "delete" && a.Status == http.StatusNotFound
				if a.Status < 300 || a.Status == http.StatusConflict || gone {
					continue
				}
				fault := &answerError{status: a.Status}
				if a.Error != nil {
					fault.kind, fault.reason = a.Error.Type, cut(a.Error.Reason)
				}
				return fmt.Errorf("write the rows: %w", fault)
			}
		}
	}
	return nil
}

func appendAggregate(dst []byte, a *telemetry.Aggregate) []byte {
	dst = addText(dst, fieldTenant, a.Tenant)
	dst = addText(dst, fieldDevice, a.DeviceID)
	dst = addText(dst, fieldType, a.DeviceType)
	dst = addText(dst, fieldChannel, a.ChannelKey)
	dst = append(appendTime(addName(dst, fieldTime), a.WindowStart), ',')
	dst = addNumber(dst, fieldWindowSeconds, float64(a.WindowLength)/1e9)
	dst = addWhole(dst, fieldWindowLength, a.WindowLength)
	dst = addWhole(dst, fieldCount, int64(a.Count)) //nolint:gosec // below 2^63
	if a.Count > 0 {
		dst = addNumber(dst, fieldMin, a.Min)
		dst = addNumber(dst, fieldMax, a.Max)
		dst = addNumber(dst, fieldSum, a.Sum)
		dst = addNumber(dst, fieldAvg, a.Avg())
		dst = addNumber(dst, fieldFirst, a.First)
		dst = addNumber(dst, fieldLast, a.Last)
		dst = addNumber(dst, fieldP50, a.P50)
		dst = addNumber(dst, fieldP95, a.P95)
		dst = addNumber(dst, fieldP99, a.P99)
	}
	dst = addWhole(dst, fieldRevision, int64(a.Revision))
	dst = addTime(dst, fieldFirstTime, a.FirstTime)
	return addTime(dst, fieldLastTime, a.LastTime)
}

func appendState(dst []byte, r *store.AggregateRow) []byte {
	dst = addWhole(dst, fieldStateUntil, int64(r.StateUntil))
	dst = append(addName(dst, fieldState), '"')
	dst = base64.StdEncoding.AppendEncode(dst, r.State)
	return append(dst, '"', ',')
}

// storedWindow is an aggregate's document.
type storedWindow struct {
	Type      string   `json:"device.model.identifier"`
	Count     uint64   `json:"millrace.window.count"`
	Min       float64  `json:"millrace.window.min"`
	Max       float64  `json:"millrace.window.max"`
	Sum       float64  `json:"millrace.window.sum"`
	First     float64  `json:"millrace.window.first"`
	Last      float64  `json:"millrace.window.last"`
	P50       float64  `json:"millrace.window.p50"`
	P95       float64  `json:"millrace.window.p95"`
	P99       float64  `json:"millrace.window.p99"`
	Revision  uint32   `json:"millrace.window.revision"`
	FirstTime wireTime `json:"millrace.window.first_time"`
	LastTime  wireTime `json:"millrace.window.last_time"`
}

// Windows implements store.AggregateWriter.
func (s *aggregateStore) Windows(ctx context.Context, keys []store.WindowKey) ([]store.AggregateRow, error) {
	names := make([]name, 0, 2*len(keys))
	for i := range keys {
		id := windowID(&keys[i])
		names = append(names, name{s.index(keys[i].WindowStart), id}, name{s.db.name(indexStates), id})
	}
	docs, err := s.db.readMany(ctx, names)
	if err != nil {
		return nil, fmt.Errorf("read windows: %w", err)
	}
	rows := make([]store.AggregateRow, len(keys))
	for i := range keys {
		if row := &docs[2*i]; row.Found {
			if rows[i].Aggregate, err = parseWindow(&keys[i], row.Source); err != nil {
				return nil, fmt.Errorf("read window %s: %w", row.ID, err)
			}
		}
		if state := &docs[2*i+1]; state.Found {
			var d struct {
				State []byte `json:"millrace.window.state"`
			}
			if err := json.Unmarshal(state.Source, &d); err != nil {
				return nil, fmt.Errorf("read the state of window %s: %w", state.ID, err)
			}
			rows[i].State = d.State
		}
	}
	return rows, nil
}

func parseWindow(k *store.WindowKey, source []byte) (telemetry.Aggregate, error) {
	var d storedWindow
	if err := json.Unmarshal(source, &d); err != nil {
		return telemetry.Aggregate{}, err
	}
	return telemetry.Aggregate{
		Tenant: k.Tenant, DeviceID: k.DeviceID, ChannelKey: k.ChannelKey, WindowStart: k.WindowStart, WindowLength: k.WindowLength,
		DeviceType: d.Type, Count: d.Count, Min: d.Min, Max: d.Max, Sum: d.Sum, First: d.First, Last: d.Last, P50: d.P50, P95: d.P95, P99: d.P99,
		Revision: d.Revision, Final: true, FirstTime: telemetry.Time(d.FirstTime), LastTime: telemetry.Time(d.LastTime),
	}, nil
}

// ForgetStates implements store.AggregateWriter. A state that is written anew meanwhile stays.
func (s *aggregateStore) ForgetStates(ctx context.Context, now telemetry.Time) error {
	return s.db.deleteWhere(ctx, indexStates, map[string]any{"range": map[string]any{fieldStateUntil: map[string]any{"lt": int64(now)}}})
}

// deleteWhere deletes the documents that a query finds, as they are then. The index is refreshed first, so that it finds all.
func (db *DB) deleteWhere(ctx context.Context, index string, query any) error {
	const found = 5000
	for {
		if err := db.client.call(ctx, http.MethodPost, "/"+db.name(index)+"/_refresh?ignore_unavailable=true", nil, nil); err != nil {
			return fmt.Errorf("refresh %s: %w", index, err)
		}
		var answer struct {
			Hits struct {
				Hits []document `json:"hits"`
			} `json:"hits"`
		}
		err := db.client.call(ctx, http.MethodPost, "/"+db.name(index)+"/_search?ignore_unavailable=true&allow_partial_search_results=false", map[string]any{
			"size": found, "_source": false, "seq_no_primary_term": true, "sort": []string{"_doc"}, "query": query, "track_total_hits": false,
		}, &answer)
		if err != nil {
			return fmt.Errorf("search %s: %w", index, err)
		}
		b := db.newBulk(ctx)
		for i := range answer.Hits.Hits {
			d := &answer.Hits.Hits[i]
			b.end(b.act("delete", db.name(index), d.ID, appendPlace(nil, d.place()), i))
		}
		if err := b.wait().fault(); err != nil {
			return fmt.Errorf("delete from %s: %w", index, err)
		}
		if len(answer.Hits.Hits) < found {
			return nil
		}
	}
}
