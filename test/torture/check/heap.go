package check

import (
	"strconv"

	"github.com/millrace/millrace/test/torture/ledger"
)

// Heap holds channel messages that were read one by one against the ledger.
type Heap struct {
	v   Verdict
	l   *ledger.Ledger
	has []map[int]int
}

// NewHeap returns one for a store of that name.
func NewHeap(store string, l *ledger.Ledger) *Heap {
	return &Heap{v: Verdict{Store: store}, l: l, has: make([]map[int]int, l.Plan.Devices)}
}

// Put adds one message: its device, and the value of its channel.
func (h *Heap) Put(device, value string) {
	d, ok := deviceOf(h.l.Plan, map[string]any{"device_id": device})
	n, err := strconv.Atoi(value)
	if !ok || err != nil {
		h.v.Unexpected++
		h.v.tell("%s: %s says %q", h.v.Store, device, value)
		return
	}
	count(h.has, d, n)
}

// Verdict says what came of it.
func (h *Heap) Verdict() Verdict {
	for d := range h.has {
		h.v.messages(h.l, d, func(n int) bool { return h.l.Plan.Kind(n) == ledger.Channel }, h.has[d])
	}
	return h.v
}
