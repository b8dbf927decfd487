package nats_test

import (
	"testing"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/bus/nats"
	"github.com/millrace/millrace/pkg/enginetest"
	"github.com/millrace/millrace/pkg/feed/feedtest"
)

func TestALiveSubscriberGoesOnAtAnotherProcess(t *testing.T) {
	t.Run("server", func(t *testing.T) {
		server := startProcess(t)
		feedtest.GoesOnElsewhere(t, func() bus.Log { return openLog(t, nats.Config{URL: server.url, Partitions: 2}) })
	})
	t.Run("nats-cluster", func(t *testing.T) {
		e := enginetest.Need(t, "nats-cluster")
		cfg := nats.Config{
			URL: e.URL, Options: options(e), Prefix: prefix(t, e), Partitions: 2, Replicas: 3, Retention: nats.Retention{BytesMax: 64 << 20},
		}
		feedtest.GoesOnElsewhere(t, func() bus.Log { return openLog(t, cfg) })
	})
}
