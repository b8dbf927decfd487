package parquetfile

import (
	"cmp"
	"slices"

	"github.com/millrace/millrace/pkg/telemetry"
)

// ref names one row of some views.
type ref struct {
	view, chunk, row uint32
}

// HourRows are the rows of one hour, in the order of a file; of several hours, the first of which is Hour, where Spread.
type HourRows struct {
	Hour   int64 // since 1970, see HourOf
	Spread bool
	refs   []ref
}

// Len returns how many rows they are.
func (h *HourRows) Len() int { return len(h.refs) }

// Order sorts the rows of views and cuts them by the hour of their event. Its cost is linear where rows came in the order of
// their time, which is the rule: one pass puts each row beside those of its device and channel, and only what is out of order
// there is sorted.
func Order(views []View) []HourRows {
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
func rank(views []View) (ranks [][]int, count int) {
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

func rowOf(views []View, r ref) *packedRow { return &views[r.view].chunks[r.chunk].rows[r.row] }

func compareWithin(views []View) func(a, b ref) int {
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
func sortGroup(views []View, refs []ref) {
	compare := compareWithin(views)
	if !slices.IsSortedFunc(refs, compare) {
		slices.SortFunc(refs, compare)
	}
}

// cutHours gives each hour its rows, in the order they have; hours rise.
func cutHours(views []View, refs []ref) []HourRows {
	if len(refs) == 0 {
		return nil
	}
	index := map[int64]int{}
	var counts []int
	var hours []HourRows
	last, lastHour := -1, int64(0)
	place := func(t telemetry.Time) int {
		hour := HourOf(t)
		if last >= 0 && hour == lastHour {
			return last
		}
		i, ok := index[hour]
		if !ok {
			i = len(hours)
			index[hour] = i
			hours = append(hours, HourRows{Hour: hour})
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
	slices.SortFunc(hours, func(a, b HourRows) int { return cmp.Compare(a.Hour, b.Hour) })
	return hours
}

// Spread makes n of hours, at least one, where there are more: the hours with the most rows stay, and the rows of all others are put
// into one more, the last.
func Spread(views []View, hours []HourRows, n int) []HourRows {
	n = max(n, 1)
	if len(hours) <= n {
		return hours
	}
	bySize := slices.Clone(hours)
	slices.SortStableFunc(bySize, func(a, b HourRows) int { return cmp.Compare(len(b.refs), len(a.refs)) })
	rest := HourRows{Hour: bySize[n-1].Hour, Spread: true}
	for _, h := range bySize[n-1:] {
		rest.Hour = min(rest.Hour, h.Hour)
		rest.refs = append(rest.refs, h.refs...)
	}
	inOrder(views, rest.refs)
	kept := slices.Clone(bySize[:n-1])
	slices.SortFunc(kept, func(a, b HourRows) int { return cmp.Compare(a.Hour, b.Hour) })
	return append(kept, rest)
}

// inOrder sorts rows of any devices into the order of a file.
func inOrder(views []View, refs []ref) {
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
