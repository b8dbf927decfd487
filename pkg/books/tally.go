package books

import (
	"cmp"
	"slices"
	"strings"

	"github.com/millrace/millrace/pkg/telemetry"
)

// Unnamed stands in an account for devices beyond what the edge counts one by one.
const Unnamed = ""

type lineKey struct {
	tenant, device string
	minute         int64
}

// tally counts by device and minute. One goroutine.
type tally struct {
	most  int // lines beyond which further devices are counted without their names; 0 is no limit
	lines map[lineKey]*telemetry.AccountLine
	last  *telemetry.AccountLine // of the message before, since a device's messages come in runs
}

// line returns the line of a device and minute, to be counted on. It is valid until take.
func (t *tally) line(tenant, device string, minute int64) *telemetry.AccountLine {
	if l := t.last; l != nil && l.Minute == minute && l.DeviceID == device && l.Tenant == tenant {
		return l
	}
	l := t.lines[lineKey{tenant, device, minute}]
	if l == nil {
		if t.most > 0 && len(t.lines) >= t.most && device != Unnamed {
			return t.line(tenant, Unnamed, minute)
		}
		l = &telemetry.AccountLine{Tenant: strings.Clone(tenant), DeviceID: strings.Clone(device), Minute: minute}
		if t.lines == nil {
			t.lines = map[lineKey]*telemetry.AccountLine{}
		}
		t.lines[lineKey{l.Tenant, l.DeviceID, minute}] = l
	}
	t.last = l
	return l
}

// sorted returns what was counted, by tenant, device and minute.
func (t *tally) sorted() []telemetry.AccountLine {
	all := make([]telemetry.AccountLine, 0, len(t.lines))
	for _, l := range t.lines {
		all = append(all, *l)
	}
	slices.SortFunc(all, func(a, b telemetry.AccountLine) int {
		return cmp.Or(strings.Compare(a.Tenant, b.Tenant), strings.Compare(a.DeviceID, b.DeviceID), cmp.Compare(a.Minute, b.Minute))
	})
	return all
}
