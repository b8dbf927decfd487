package live

import (
	"cmp"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/telemetry"
)

// replayWish is the body of POST /v1/dead-letters/{id}/replay.
type replayWish struct {
	Payload       *string `json:"payload"`        // in place of the letter's, as text
	PayloadBase64 []byte  `json:"payload_base64"` // likewise, any bytes
	By            string  `json:"by"`
	DryRun        bool    `json:"dry_run"`
}

func (d *letter) ofEdge() bool { return d.Worker == workerEdge }

// destination returns to whom a letter is given when it is put back, and why not, where it cannot be as it is.
func (d *letter) destination() (to, why string) {
	to = d.Worker
	if d.ofEdge() || d.Worker == workerRouter {
		to = bus.Ingested
	}
	switch {
	case d.ReplayedAt != 0:
		return to, fmt.Sprintf("it was put back at %s by %s", d.ReplayedAt.Std().Format(time.RFC3339), cmp.Or(d.ReplayedBy, "somebody"))
	case d.context.Row:
		return to, "the store refused a row, and the record that it was made from is not in the letter"
	case d.context.PublishedTo != "":
		return to, "it is what the worker could not publish to " + d.context.PublishedTo + ": its other effects are there already"
	case d.context.Cut:
		return to, "its payload was cut, so it can only be put back with a whole one (payload)"
	case strings.Contains(d.Reason, telemetry.ErrForeignDevice.Error()):
		return to, "its sender may not speak for the device: give a payload that you answer for (payload)"
	}
	return to, ""
}

// refuses says why a wish cannot be granted, nil where it can.
func (d *letter) refuses(repaired bool) error {
	_, why := d.destination()
	switch {
	case why == "", repaired && d.ReplayedAt == 0 && !d.context.Row && d.context.PublishedTo == "":
		return nil
	case d.ReplayedAt != 0:
		return &fault{code: http.StatusConflict, text: why}
	}
	return &fault{code: http.StatusUnprocessableEntity, text: why}
}

func readReplayWish(w http.ResponseWriter, r *http.Request) (replayWish, error) {
	var wish replayWish
	b, err := readBody(w, r, replayBytesMax)
	if err != nil || len(b) == 0 {
		return wish, err
	}
	if err := strictJSON(b, &wish); err != nil {
		return wish, badRequest(`the body, want {"payload":"…"} or {"payload_base64":"…"}, with "by" and "dry_run", or nothing: ` + err.Error())
	}
	switch {
	case wish.Payload != nil && wish.PayloadBase64 != nil:
		return wish, badRequest("payload, payload_base64: want one of them")
	case len(wish.By) > ackTextMax:
		return wish, badRequest(fmt.Sprintf("by: want at most %d bytes", ackTextMax))
	}
	return wish, nil
}

func (w *replayWish) payload() (payload []byte, repaired bool) {
	if w.Payload != nil {
		return []byte(*w.Payload), true
	}
	return w.PayloadBase64, w.PayloadBase64 != nil
}
