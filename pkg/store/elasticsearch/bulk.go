package elasticsearch

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/pkg/store"
)

// bulk gathers documents into requests of bounded size and sends each in a goroutine of its own while the next one is filled.
// One goroutine fills it; wait ends it. A document's row is a number of the caller's by which it hears what became of it.
type bulk struct {
	c       *client
	ctx     context.Context //nolint:containedctx // a bulk lives within one write
	limit   int
	path    string
	numbers bool // whether sequence numbers are wanted
	sending errgroup.Group

	request *request // that is being filled

	mu      sync.Mutex
	outcome outcome
}

// outcome is what became of the documents of a bulk. Those that it does not name are stored.
type outcome struct {
	conflicts []int         // rows whose document was there, or is newer; in any order
	refused   []refusal     // rows that the engine will never take
	numbers   map[int]place // of the stored ones, where they were wanted
	failed    int           // documents that may be sent again
	err       error         // the first error of those
}

type refusal struct {
	row    int
	reason string
}

// place is a document's sequence number and primary term: its state, for compare-and-swap.
type place struct{ seqNo, term int64 }

// request is the body of one bulk request.
type request struct {
	body  []byte
	items []item
}

type item struct{ start, row int }

const (
	bulkPath        = "/_bulk?filter_path=errors,items.*.status,items.*.error.type,items.*.error.reason"
	bulkPathNumbers = bulkPath + ",items.*._seq_no,items.*._primary_term"
)

func (db *DB) newBulk(ctx context.Context) *bulk {
	b := &bulk{c: db.client, ctx: ctx, limit: db.cfg.RequestBytes, path: bulkPath}
	b.sending.SetLimit(db.cfg.Requests)
	return b
}

// begin appends the line of an action; the caller appends the document to what it returns and gives that to end.
func (b *bulk) begin(action, index string, day []byte, id []byte, row int) []byte {
	r := b.next(row)
	dst := append(append(append(r.body, `{"`...), action...), `":{"_index":"`...)
	dst = append(append(dst, index...), day...) // names of ours, which need no escape
	dst = append(append(dst, `","_id":"`...), id...)
	return append(dst, "\"}}\n{"...)
}

// act appends the line of an action on a document with any id and with further members of the line, such as `,"version":7`.
func (b *bulk) act(action, index, id string, members []byte, row int) []byte {
	r := b.next(row)
	dst := append(append(append(r.body, `{"`...), action...), `":{"_index":"`...)
	dst = append(append(dst, index...), `","_id":`...)
	dst = appendText(dst, id)
	dst = append(append(dst, members...), "}}\n"...)
	if action != "delete" {
		dst = append(dst, '{')
	}
	return dst
}

func (b *bulk) next(row int) *request {
	if b.request == nil {
		b.request = &request{}
		if r, ok := spare.Get().(*request); ok {
			b.request = r
		}
	}
	b.request.items = append(b.request.items, item{len(b.request.body), row})
	return b.request
}

// end takes back the body with the closed document.
func (b *bulk) end(body []byte) {
	b.request.body = body
	if len(body) >= b.limit {
		b.flush()
	}
}

// spare keeps requests for the next write.
//
//nolint:gochecknoglobals // a pool has no state that shows
var spare sync.Pool

func (b *bulk) flush() {
	r := b.request
	if r == nil {
		return
	}
	b.request = nil
	b.sending.Go(func() error {
		b.send(r.body, r.items)
		r.body, r.items = r.body[:0], r.items[:0]
		if cap(r.body) <= 4*b.limit {
			spare.Put(r)
		}
		return nil
	})
}

// wait sends the rest and returns when all was answered.
func (b *bulk) wait() *outcome {
	b.flush()
	_ = b.sending.Wait() // errors are in the outcome, so that one does not hide what became of the others
	return &b.outcome
}

func (b *bulk) send(body []byte, items []item) {
	answer, err := b.c.post(b.ctx, http.MethodPost, b.path, contentNDJSON, body, nil)
	switch {
	case err == nil:
		b.read(answer, items)
	case answered(err, http.StatusRequestEntityTooLarge) && len(items) > 1:
		half := len(items) / 2
		at := items[half].start
		rest := slices.Clone(items[half:])
		for i := range rest {
			rest[i].start -= at
		}
		b.send(body[:at], items[:half])
		b.send(body[at:], rest)
	case answered(err, http.StatusRequestEntityTooLarge):
		b.refuse(items[0].row, fmt.Sprintf("a document of %d bytes is more than the server takes", len(body)))
	default:
		b.fail(len(items), err)
	}
}

func (b *bulk) refuse(row int, reason string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.outcome.refused = append(b.outcome.refused, refusal{row, reason})
}

func (b *bulk) fail(n int, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.outcome.failed += n
	if b.outcome.err == nil {
		b.outcome.err = err
	}
}

type itemFault struct {
	Type   string `json:"type"`
	Reason string `json:"reason"`
}

type itemAnswer struct {
	Status int        `json:"status"`
	Error  *itemFault `json:"error"`
	SeqNo  int64      `json:"_seq_no"`
	Term   int64      `json:"_primary_term"`
}

// read sorts the items of an answer.
func (b *bulk) read(answer []byte, items []item) {
	if !b.numbers && bytes.HasPrefix(answer, []byte(`{"errors":false`)) {
		return // all are stored
	}
	var told struct {
		Items []map[string]itemAnswer `json:"items"`
	}
	if err := json.Unmarshal(answer, &told); err != nil {
		b.fail(len(items), fmt.Errorf("read the answer to a bulk request: %w", err))
		return
	}
	if len(told.Items) != len(items) {
		b.fail(len(items), fmt.Errorf("the answer to a bulk request has %d items, want %d", len(told.Items), len(items)))
		return
	}
	for i, by := range told.Items {
		for _, a := range by { // one, by the name of its action
			b.take(items[i].row, &a)
		}
	}
}

func (b *bulk) take(row int, a *itemAnswer) {
	switch {
	case a.Status >= 200 && a.Status < 300:
		if !b.numbers {
			return
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.outcome.numbers == nil {
			b.outcome.numbers = make(map[int]place)
		}
		b.outcome.numbers[row] = place{a.SeqNo, a.Term}
	case a.Status == http.StatusConflict:
		b.mu.Lock()
		defer b.mu.Unlock()
		b.outcome.conflicts = append(b.outcome.conflicts, row)
	case a.Error != nil && ofTheDocument(a):
		b.refuse(row, a.Error.Type+": "+cut(a.Error.Reason))
	default:
		err := &answerError{status: a.Status}
		if a.Error != nil {
			err.kind, err.reason = a.Error.Type, cut(a.Error.Reason)
		}
		b.fail(1, err)
	}
}

// ofTheDocument reports whether an item was refused for what is in it, and always will be. Other errors of the 400s are the
// cluster's: a closed index, too many shards, a write block, a missing right. Somebody will mend those, so the item is sent again.
func ofTheDocument(a *itemAnswer) bool {
	if a.Status != http.StatusBadRequest && a.Status != http.StatusRequestEntityTooLarge {
		return false
	}
	switch a.Error.Type {
	case "document_parsing_exception", "mapper_parsing_exception", "strict_dynamic_mapping_exception", "x_content_parse_exception",
		"parsing_exception", "parse_exception", "max_bytes_length_exceeded_exception":
		return true
	case "illegal_argument_exception":
		return strings.Contains(a.Error.Reason, "immense term") || strings.Contains(a.Error.Reason, "Document contains")
	}
	return false
}

// fault returns the error of a write whose rows the outcome names: *store.Refused only where nothing else went wrong, since the
// others may still be refused too.
func (o *outcome) fault() error {
	if o.err != nil {
		return fmt.Errorf("%d documents were not stored: %w", o.failed, o.err)
	}
	if len(o.refused) == 0 {
		return nil
	}
	slices.SortFunc(o.refused, func(a, b refusal) int { return a.row - b.row })
	refused := &store.Refused{}
	for _, r := range o.refused {
		refused.Rows, refused.Reasons = append(refused.Rows, r.row), append(refused.Reasons, r.reason)
	}
	return refused
}

// refuseAhead returns what is refused before anything is sent: rows that JSON or the engine has no form for.
func refuseAhead(n int, why func(row int) string) error {
	var o outcome
	for i := range n {
		if reason := why(i); reason != "" {
			o.refused = append(o.refused, refusal{i, reason})
		}
	}
	return o.fault()
}

var errRounds = errors.New("others keep changing the same documents")

// appendPlace appends the members of an action's line that let it happen only if the document is as it was read.
func appendPlace(dst []byte, p place) []byte {
	dst = strconv.AppendInt(append(dst, `,"if_seq_no":`...), p.seqNo, 10)
	return strconv.AppendInt(append(dst, `,"if_primary_term":`...), p.term, 10)
}
