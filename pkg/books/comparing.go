package books

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
)

func (r *run) sorted() []*device {
	all := make([]*device, 0, len(r.devices))
	for _, d := range r.devices {
		all = append(all, d)
	}
	slices.SortFunc(all, func(a, b *device) int {
		return cmp.Or(strings.Compare(a.tenant, b.tenant), strings.Compare(a.device, b.device), cmp.Compare(a.partition, b.partition))
	})
	return all
}

// compare looks closer at the devices of which a store has not as many rows as the books say.
func (r *run) compare(ctx context.Context) error {
	all := r.sorted()
	for i := range r.Stores {
		var differ []*device
		moved := int64(0)
		for _, d := range all {
			if d.partition < 0 {
				moved += d.stores[i].rows
				continue
			}
			want, have := d.routed(r.Stores[i].Topics), d.stores[i].rows
			if have != want && (have < want || have > want+signed(d.unread)) {
				differ = append(differ, d)
			}
		}
		if moved > 0 {
			r.note("%s: %d rows were moved here from another log, and are not held against these books", r.Stores[i].Table, moved)
		}
		if len(differ) == 0 {
			continue
		}
		c := &comparison{run: r, at: i, Store: r.Stores[i], rest: differ}
		if len(differ) > comparedMax {
			c.rest = differ[:comparedMax]
			if err := c.estimate(ctx, differ[comparedMax:]); err != nil {
				return err
			}
		}
		if err := c.exactly(ctx); err != nil {
			return fmt.Errorf("compare %s with the log: %w", c.Table, err)
		}
	}
	return nil
}

// comparison is that of one store with the topics that it keeps.
type comparison struct {
	*run
	Store
	at   int // of Stores
	rest []*device

	want  map[*device]map[bus.Origin]*item
	above map[*device]int64 // messages that are beyond the store's progress
	whole map[*device]bool  // the log still has everything of the time asked for
	items int
}

// item is a message that the log has and the store should.
type item struct {
	topic string
	at    bus.Position // in topic
	above bool         // beyond the store's progress
	found int
}

// itemsMax is how many messages are compared one by one at a time.
const itemsMax = 1_000_000

// estimate is for devices beyond those that are compared one by one: what the log has beyond the store's progress is on the way.
func (c *comparison) estimate(ctx context.Context, devices []*device) error {
	c.note("%s: %d more devices differ from the books than are compared one by one: what is missing of them is counted, not named", c.Table, len(devices))
	if err := c.readTopics(ctx, devices, false); err != nil {
		return err
	}
	for _, d := range devices {
		h := &d.stores[c.at]
		differ := d.routed(c.Topics) - h.rows
		h.onTheWay = max(0, min(differ, c.above[d]))
		c.settle(d, differ-h.onTheWay)
	}
	return nil
}

// exactly compares the rows of each device with the log, one by one.
func (c *comparison) exactly(ctx context.Context) error {
	if err := c.readTopics(ctx, c.rest, true); err != nil {
		return err
	}
	for _, d := range c.rest {
		if err := c.device(ctx, d); err != nil {
			return err
		}
	}
	return nil
}

// readTopics reads what the log has for devices in the time asked for.
func (c *comparison) readTopics(ctx context.Context, devices []*device, items bool) error {
	c.want, c.above, c.whole = map[*device]map[bus.Origin]*item{}, map[*device]int64{}, map[*device]bool{}
	byNumber := map[int32]map[key]*device{}
	for _, d := range devices {
		c.want[d], c.whole[d] = map[bus.Origin]*item{}, true
		if byNumber[d.partition] == nil {
			byNumber[d.partition] = map[key]*device{}
		}
		byNumber[d.partition][d.key] = d
	}
	for _, topic := range c.Topics {
		for n, wanted := range byNumber {
			if n < 0 || int(n) >= c.Log.Partitions(topic) { // of a log with more partitions, or of none
				continue
			}
			if err := c.readTopic(ctx, bus.PartitionID{Topic: topic, Number: int(n)}, wanted, items); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *comparison) readTopic(ctx context.Context, id bus.PartitionID, wanted map[key]*device, items bool) error {
	p, err := c.Log.Partition(ctx, id)
	if err != nil {
		return err
	}
	end, err := p.End(ctx)
	if err != nil {
		return fmt.Errorf("find the end of %s: %w", id, err)
	}
	progress, known, err := c.progress(ctx, id)
	if err != nil {
		return err
	}
	first, whole, any, err := oldest(ctx, p, end)
	if err != nil {
		return err
	}
	if !whole && (!any || first > c.from()) {
		for _, d := range wanted {
			c.whole[d] = false
		}
	}
	start, ok, err := since(ctx, p, c.from()-telemetry.Time(skew), end)
	if err != nil || !ok {
		return err
	}
	var taken bus.Origins
	return each(ctx, p, start, end, func(rec bus.Record) (bool, error) {
		if !taken.Take(rec.Origin) {
			return true, nil // a router that was restarted appended it again
		}
		tenant, name, at, err := telemetry.PeekAccepted(rec.Value)
		if err != nil || !c.wants(name, Minute(at)) {
			return true, nil //nolint:nilerr // what is no message is no row, and a dead letter
		}
		d := wanted[key{tenant, name, rec.Origin.Partition}]
		if d == nil {
			return true, nil
		}
		above := known && rec.Position.Compare(progress.Through) > 0
		if above {
			c.above[d]++
		}
		if !items {
			return true, nil
		}
		if c.items++; c.items > itemsMax {
			return false, fmt.Errorf("more than %d messages are to be compared: %w", itemsMax, ErrTooMuch)
		}
		c.want[d][rec.Origin] = &item{topic: id.Topic, at: rec.Position, above: above}
		return true, nil
	})
}

func (c *comparison) progress(ctx context.Context, id bus.PartitionID) (progress bus.Progress, ok bool, err error) {
	if c.Progress == nil {
		return progress, false, nil
	}
	if progress, _, err = c.Progress(ctx, c.Worker, id); err != nil {
		return progress, false, fmt.Errorf("how far %s has come with %s: %w", c.Worker, id, err)
	}
	return progress, true, nil // a store without any progress has all of it before it
}

// device compares one device.
func (c *comparison) device(ctx context.Context, d *device) error {
	h, want := &d.stores[c.at], c.want[d]
	var highest bus.Position
	for o := range want {
		if o.Compare(highest) > 0 {
			highest = o.Position
		}
	}
	rows := int64(0)
	where := append(c.window("ingest_time", d.device),
		store.Condition{Columns: []string{"tenant"}, Op: store.Equal, Value: d.tenant},
		store.Condition{Columns: []string{"origin_partition"}, Op: store.Equal, Value: int64(d.partition)})
	selection := store.Selection{Table: c.Table, Columns: []string{"origin_position"}, Where: where, Order: rowOrder()}
	err := store.SelectAll(ctx, c.Reader, selection, func(row []any) error {
		rows++
		packed, ok := store.Whole(row[0])
		if !ok {
			return fmt.Errorf("origin_position is %T, want a number", row[0])
		}
		o := bus.Origin{Partition: d.partition, Position: store.UnpackPosition(packed)}
		if one := want[o]; one != nil {
			one.found++
		} else if c.whole[d] && (o.Compare(highest) < 0 || c.complete && !c.open) {
			h.unexpected++
			c.breach(&Breach{What: Unexpected, Table: c.Table, Tenant: d.tenant, DeviceID: d.device, Partition: d.partition, Position: o.String(), Count: 1})
		}
		return nil
	})
	if err != nil {
		return err
	}
	h.rows = rows // as of now
	letters, err := c.letters(ctx, d)
	if err != nil {
		return err
	}
	return c.judge(ctx, d, letters)
}
