package parquet

import (
	"cmp"
	"slices"

	"github.com/millrace/millrace/pkg/telemetry"
)

// ref names one row of some views.
type ref struct {
	view, chunk, row uint32
}

// hourRows are the rows of one hour, in the order of a file; of several hours, the first of which is hour, where spread.
type hourRows struct {
	hour   int64
	refs   []ref
	spread bool
}

// order sorts the rows of views and cuts them by the hour of their event. Its cost is linear where rows came in the order of
// their time, which is the rule: one pass puts each row beside those of its device and channel, and only what is out of order
// there is sorted.
func order(views []view) []hourRows {
	ranks, count := rank(views)
	starts := make([]int, count+1)
	total := 0
	for v := range views {
		for c := range views[v].chunks {
			rows := views[v].chunks[c].rows
			total += len(rows)
			for r := range rows {
				starts[ranks[v][rows[r].series]+1]++
			}
		}
	}
	for i := range count {
		starts[i+1] += starts[i]
	}
	refs := make([]ref, total)
	at := slices.Clone(starts[:count])
	for v := range views {
		for c := range views[v].chunks {
			rows := views[v].chunks[c].rows
			for r := range rows {
				k := ranks[v][rows[r].series]
				refs[at[k]] = ref{uint32(v), uint32(c), uint32(r)}
				at[k]++
			}
		}
	}
	for i := range count {
		sortGroup(views, refs[starts[i]:starts[i+1]])
	}
	return cutHours(views, refs)
}

// rank gives each series of each view the number of its device and channel in the order of files.
func rank(views []view) (ranks [][]int, count int) {
	type entry struct{ view, series int }
	var all []entry
	for v := range views {
		for s := range views[v].series {
			all = append(all, entry{v, s})
		}
	}
	at := func(e entry) *series { return &views[e.view].series[e.series] }
	compare := func(a, b entry) int {
		x, y := at(a), at(b)
		return cmp.Or(compareText(x.tenant, y.tenant), compareText(x.device, y.device), compareText(x.channel, y.channel))
	}
	slices.SortFunc(all, compare)
	ranks = make([][]int, len(views))
	for v := range views {
		ranks[v] = make([]int, len(views[v].series))
	}
	for i, e := range all {
		if i > 0 && compare(all[i-1], e) != 0 {
			count++
		}
		ranks[e.view][e.series] = count
	}
	if len(all) > 0 {
		count++
	}
	return ranks, count
}

func rowOf(views []view, r ref) *packedRow { return &views[r.view].chunks[r.chunk].rows[r.row] }

func compareWithin(views []view) func(a, b ref) int {
	return func(a, b ref) int {
		x, y := rowOf(views, a), rowOf(views, b)
		switch {
		case x.event != y.event:
			return less(x.event < y.event)
		case x.partition != y.partition:
			return less(x.partition < y.partition)
		}
		return cmp.Compare(x.position, y.position)
	}
}

// sortGroup orders the rows of one device and channel by event time and origin.
func sortGroup(views []view, refs []ref) {
	compare := compareWithin(views)
	if !slices.IsSortedFunc(refs, compare) {
		slices.SortFunc(refs, compare)
	}
}

// cutHours gives each hour its rows, in the order they have; hours rise.
func cutHours(views []view, refs []ref) []hourRows {
	if len(refs) == 0 {
		return nil
	}
	index := map[int64]int{}
	var counts []int
	var hours []hourRows
	last, lastHour := -1, int64(0)
	place := func(t telemetry.Time) int {
		hour := hourOf(t)
		if last >= 0 && hour == lastHour {
			return last
		}
		i, ok := index[hour]
		if !ok {
			i = len(hours)
			index[hour] = i
			hours = append(hours, hourRows{hour: hour})
			counts = append(counts, 0)
		}
		last, lastHour = i, hour
		return i
	}
	places := make([]uint32, len(refs))
	for i, r := range refs {
		p := place(rowOf(views, r).event)
		places[i] = uint32(p) //nolint:gosec // at most one a row
		counts[p]++
	}
	if len(hours) == 1 {
		hours[0].refs = refs
		return hours
	}
	for i := range hours {
		hours[i].refs = make([]ref, 0, counts[i])
	}
	for i, r := range refs {
		h := &hours[places[i]]
		h.refs = append(h.refs, r)
	}
	slices.SortFunc(hours, func(a, b hourRows) int { return cmp.Compare(a.hour, b.hour) })
	return hours
}

// spread keeps the n hours with the most rows and puts the rows of all others into one more, the last, not yet in order.
func spread(hours []hourRows, n int) []hourRows {
	bySize := slices.Clone(hours)
	slices.SortStableFunc(bySize, func(a, b hourRows) int { return cmp.Compare(len(b.refs), len(a.refs)) })
	rest := hourRows{hour: bySize[n].hour, spread: true}
	for _, h := range bySize[n:] {
		rest.hour = min(rest.hour, h.hour)
		rest.refs = append(rest.refs, h.refs...)
	}
	kept := slices.Clone(bySize[:n])
	slices.SortFunc(kept, func(a, b hourRows) int { return cmp.Compare(a.hour, b.hour) })
	return append(kept, rest)
}

// inOrder sorts rows of any devices into the order of a file.
func inOrder(views []view, refs []ref) {
	ranks, _ := rank(views)
	within := compareWithin(views)
	slices.SortFunc(refs, func(a, b ref) int {
		x, y := ranks[a.view][rowOf(views, a).series], ranks[b.view][rowOf(views, b).series]
		if x != y {
			return cmp.Compare(x, y)
		}
		return within(a, b)
	})
}
