package feed_test

import (
	"testing"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/feed/feedtest"
)

func TestASubscriberGoesOnAtAnotherProcess(t *testing.T) {
	log := newLog(2)
	feedtest.GoesOnElsewhere(t, func() bus.Log { return log.Open() })
}
