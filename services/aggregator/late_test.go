package aggregator_test

import (
	"testing"
	"testing/synctest"
	"time"
)

// Late data correct their window while it may be corrected, and are counted; later ones leave it as it is, and are counted too.
func TestLateDataAreCountedAndWhatIsTooLateApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlant(t)
		p.cfg.Windows, p.cfg.CorrectWithin = p.cfg.Windows[1:2], 10*time.Minute // 1m
		p.start()
		p.send("d", "t", 1, 0)
		settle(2 * time.Minute) // its window has closed
		p.send("d", "t", 2, 0)
		p.send("d", "t", 3, 2*time.Minute)
		settle(5 * time.Second)
		if late, tooLate := p.count("late_total"), p.count("too_late_total"); late != 1 || tooLate != 0 {
			t.Errorf("%v late, %v too late; want 1 and 0", late, tooLate)
		}
		p.send("d", "t", 4, time.Hour)
		settle(5 * time.Second)
		if late, tooLate := p.count("late_total"), p.count("too_late_total"); late != 1 || tooLate != 1 {
			t.Errorf("%v late, %v too late; want 1 of each", late, tooLate)
		}
		p.stop()
	})
}
