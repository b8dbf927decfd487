package elasticsearch

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
)

// document is one document as it is stored now: reads by id need no refresh.
type document struct {
	ID     string          `json:"_id"`
	Found  bool            `json:"found"`
	SeqNo  int64           `json:"_seq_no"`
	Term   int64           `json:"_primary_term"`
	Source json.RawMessage `json:"_source"`
	Error  *itemFault      `json:"error"`
}

func (d *document) place() place { return place{d.SeqNo, d.Term} }

const manyMax = 1000 // documents read by one request

// name says where a document is.
type name struct {
	Index string `json:"_index"`
	ID    string `json:"_id"`
}

// readMany returns the documents beside their names. An index that is not there has none.
func (db *DB) readMany(ctx context.Context, names []name) ([]document, error) {
	docs := make([]document, 0, len(names))
	for len(names) > 0 {
		n := min(len(names), manyMax)
		var answer struct {
			Docs []document `json:"docs"`
		}
		err := db.client.call(ctx, http.MethodPost, "/_mget", map[string]any{"docs": names[:n]}, &answer)
		if err != nil {
			return nil, err
		}
		if len(answer.Docs) != n {
			return nil, fmt.Errorf("%d documents were read where %d were asked for", len(answer.Docs), n)
		}
		for _, d := range answer.Docs {
			if d.Error != nil && d.Error.Type != "index_not_found_exception" {
				return nil, fmt.Errorf("read document %s: %s: %s", d.ID, d.Error.Type, cut(d.Error.Reason))
			}
		}
		docs, names = append(docs, answer.Docs...), names[n:]
	}
	return docs, nil
}

// readOne returns one document; Found is false where there is none.
func (db *DB) readOne(ctx context.Context, index, id string) (document, error) {
	var d document
	err := db.client.call(ctx, http.MethodGet, documentPath(index, "_doc", id), nil, &d)
	if answered(err, http.StatusNotFound) {
		return document{}, nil
	}
	return d, err
}

func documentPath(index, action, id string) string {
	return "/" + url.PathEscape(index) + "/" + action + "/" + url.PathEscape(id)
}
