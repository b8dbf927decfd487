package elasticsearch

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
)

// kept is a table with an index a day, and how long it is kept.
type kept struct {
	table string
	limit time.Duration
}

// daily returns the tables that have an index a day; a limit of 0 is for ever.
func (c Config) daily() []kept {
	return []kept{{store.TableLogs, c.LogsFor}, {store.TableMessages, c.HistoryFor}, {store.TableDeadLetters, c.DeadLettersFor}}
}

// Expire deletes the indices whose last day is past its time. Where the server has index lifecycle management it does nothing:
// the policies that Migrate made do it.
func (db *DB) Expire(ctx context.Context) error {
	if db.ilm {
		return nil
	}
	for _, k := range db.cfg.daily() {
		if k.limit <= 0 {
			continue
		}
		var indices map[string]struct{}
		if err := db.client.call(ctx, http.MethodGet, "/"+db.name(k.table)+"-*/_alias", nil, &indices); err != nil {
			return fmt.Errorf("list the indices of %s: %w", k.table, err)
		}
		for index := range indices {
			day, ok := dayOf(index)
			if !ok || db.cfg.Now().Sub(day.AddDate(0, 0, 1)) < k.limit {
				continue
			}
			err := db.client.call(ctx, http.MethodDelete, "/"+index+"?ignore_unavailable=true", nil, nil)
			if err != nil && !answered(err, http.StatusNotFound) {
				return fmt.Errorf("delete index %s: %w", index, err)
			}
			db.cfg.Log.InfoContext(ctx, "an index past its time was deleted", "index", index, "kept_for", k.limit)
		}
	}
	return nil
}

// leftoverAfter is how old a parcel that no mark names must be before it is swept away: writing one and naming it takes less, by
// whichever clock.
const leftoverAfter = 24 * time.Hour

// sweep deletes parcels that no mark names: a crash came before the mark was swapped, or before the old parcel was deleted.
func (db *DB) sweep(ctx context.Context) error {
	named, err := db.namedParcels(ctx)
	if err != nil {
		return fmt.Errorf("find parcels in use: %w", err)
	}
	before := telemetry.At(db.cfg.Now()).Add(-leftoverAfter)
	return db.deleteWhere(ctx, indexParcels, map[string]any{"bool": map[string]any{
		"filter":   []any{map[string]any{"range": map[string]any{"written": map[string]any{"lt": int64(before)}}}},
		"must_not": []any{map[string]any{"terms": map[string]any{"parcel": named}}},
	}})
}

func (db *DB) namedParcels(ctx context.Context) ([]string, error) {
	const marksMax = 10_000 // one a worker and partition
	if err := db.client.call(ctx, http.MethodPost, "/"+db.name(indexProgress)+"/_refresh?ignore_unavailable=true", nil, nil); err != nil {
		return nil, err
	}
	var answer struct {
		Hits struct {
			Hits []struct {
				Source json.RawMessage `json:"_source"`
			} `json:"hits"`
		} `json:"hits"`
	}
	err := db.client.call(ctx, http.MethodPost, "/"+db.name(indexProgress)+"/_search?ignore_unavailable=true&allow_partial_search_results=false",
		map[string]any{"size": marksMax, "query": map[string]any{"term": map[string]any{"table": store.TableAggregates}}}, &answer)
	if err != nil {
		return nil, err
	}
	if len(answer.Hits.Hits) == marksMax {
		return nil, fmt.Errorf("%d progress documents or more", marksMax)
	}
	named := []string{}
	for _, h := range answer.Hits.Hits {
		var m mark
		if err := json.Unmarshal(h.Source, &m); err != nil {
			return nil, err
		}
		if m.Redo != nil {
			named = append(named, m.Redo.ID)
		}
		for _, t := range m.Tasks {
			named = append(named, t.ID)
		}
	}
	return named, nil
}
