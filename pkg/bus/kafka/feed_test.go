package kafka_test

import (
	"testing"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/bus/kafka"
	"github.com/millrace/millrace/pkg/enginetest"
	"github.com/millrace/millrace/pkg/feed/feedtest"
)

func TestALiveSubscriberGoesOnAtAnotherProcess(t *testing.T) {
	e := enginetest.Need(t, "kafka")
	cfg := kafka.Config{URL: e.URL, Prefix: prefix(t, e), Partitions: 2}
	feedtest.GoesOnElsewhere(t, func() bus.Log { return openLog(t, cfg) })
}
