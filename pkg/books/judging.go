package books

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
)

// judge says of each message of the log that is not one row what became of it.
func (c *comparison) judge(ctx context.Context, d *device, letters deviceLetters) error {
	h, want := &d.stores[c.at], c.want[d]
	origins := make([]bus.Origin, 0, len(want))
	for o := range want {
		origins = append(origins, o)
	}
	slices.SortFunc(origins, func(a, b bus.Origin) int { return a.Compare(b.Position) })
	for _, o := range origins {
		one := want[o]
		b := Breach{Table: c.Table, Tenant: d.tenant, DeviceID: d.device, Partition: d.partition, Position: o.String(), Count: 1}
		switch {
		case one.found == 1:
			continue
		case one.found > 1:
			b.What, b.Count = Doubled, int64(one.found-1)
			h.doubled += b.Count
		case letters.of[letterOf{bus.Ingested, o.String()}] || letters.of[letterOf{one.topic, one.at.String()}]:
			h.letters++
			continue
		case one.above:
			h.onTheWay++
			continue
		default:
			b.What = Missing
			h.missing++
		}
		if len(c.breaches) < namedMax {
			if err := c.name(ctx, &b, one); err != nil {
				return err
			}
		}
		c.breach(&b)
	}
	if c.whole[d] {
		// What the router said it sent to the topics and they do not have, was lost by the log.
		if gone := d.routed(c.Topics) - int64(len(want)) - letters.unpublished; gone > 0 {
			h.missing += gone
			c.breach(&Breach{
				What: Lost, Table: c.Table, Tenant: d.tenant, DeviceID: d.device, Partition: d.partition, Count: gone,
				Detail: "the log has lost what the router sent to " + strings.Join(c.Topics, " and "),
			})
		}
		return nil
	}
	explained := h.onTheWay + h.missing + h.letters - h.doubled
	if h.letters == 0 { // those of what the log no longer has
		h.letters = letters.ofWorker
		explained += h.letters
	}
	c.settle(d, d.routed(c.Topics)-h.rows-explained)
	return nil
}

// settle notes a difference that nothing explains and that cannot be named.
func (c *comparison) settle(d *device, differ int64) {
	h := &d.stores[c.at]
	b := Breach{
		Table: c.Table, Tenant: d.tenant, DeviceID: d.device, Partition: d.partition,
		Detail: "by the counts alone: the log no longer has all of that time",
	}
	switch {
	case differ > 0:
		h.missing += differ
		b.What, b.Count = Missing, differ
	case differ < 0 && c.complete && !c.open && -differ > signed(d.unread):
		h.doubled -= differ
		b.What, b.Count = Doubled, -differ
	default:
		return
	}
	c.breach(&b)
}

// name completes a breach with what the message says.
func (c *comparison) name(ctx context.Context, b *Breach, one *item) error {
	b.Topic, b.TopicPosition = one.topic, one.at.String()
	p, err := c.Log.Partition(ctx, bus.PartitionID{Topic: one.topic, Number: int(b.Partition)})
	if err != nil {
		return err
	}
	return look(ctx, p, bus.Start{Position: before(one.at)}, one.at, func(rec bus.Record) (bool, error) {
		if rec.Position != one.at {
			return true, nil
		}
		head, err := telemetry.PeekMessage(rec.Value)
		if err == nil {
			b.ChannelKey, b.MessageID = strings.Clone(head.ChannelKey), strings.Clone(head.MessageID)
			b.EventTime, b.IngestTime = moment(head.EventTime), moment(head.IngestTime)
		}
		return false, nil
	})
}

// before returns a position that nothing lies between it and at.
func before(at bus.Position) bus.Position {
	switch {
	case at.Index > 0:
		return bus.Position{Seq: at.Seq, Index: at.Index - 1}
	case at.Seq > 1:
		return bus.Position{Seq: at.Seq - 1, Index: math.MaxUint32}
	default:
		return bus.Position{}
	}
}

// deviceLetters is the dead letters of a device in the view of one store.
type deviceLetters struct {
	of          map[letterOf]bool // those of the store's worker
	ofWorker    int64             // how many these are
	unpublished int64             // records that the router could not publish
}

// letterOf is the record that became a dead letter: its topic and position.
type letterOf struct{ topic, position string }

// letters returns the dead letters of a device.
func (c *comparison) letters(ctx context.Context, d *device) (deviceLetters, error) {
	found := deviceLetters{of: map[letterOf]bool{}}
	if c.Letters == nil {
		return found, nil
	}
	where := []store.Condition{
		{Columns: []string{"received_at"}, Op: store.AtLeast, Value: c.from()},
		{Columns: []string{"tenant"}, Op: store.Equal, Value: d.tenant},
		{Columns: []string{"device_id"}, Op: store.Equal, Value: d.device},
		{Columns: []string{"worker"}, Op: store.In, Value: []string{c.Worker, WorkerRouter}},
	}
	err := store.SelectAll(ctx, c.Letters, store.Selection{
		Table: store.TableDeadLetters, Columns: []string{"worker", "topic", "position", "reason"}, Where: where, Order: []string{"received_at", store.RowID},
	}, func(row []any) error {
		var texts [4]string
		for i := range texts {
			texts[i], _ = row[i].(string)
		}
		switch {
		case texts[0] == c.Worker:
			found.of[letterOf{strings.Clone(texts[1]), strings.Clone(texts[2])}] = true
			found.ofWorker++
		case strings.HasPrefix(texts[3], "publish to "):
			found.unpublished++
		}
		return nil
	})
	if err != nil {
		return found, fmt.Errorf("dead letters of %s: %w", d.device, err)
	}
	return found, nil
}

func (r *run) breach(b *Breach) {
	if len(r.breaches) >= namedMax {
		r.unnamed++
		return
	}
	r.breaches = append(r.breaches, *b)
}
