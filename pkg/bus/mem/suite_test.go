package mem_test

import (
	"testing"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/bus/bustest"
	"github.com/millrace/millrace/pkg/bus/mem"
)

func TestContract(t *testing.T) {
	bustest.Run(t, bustest.Driver{Open: func(_ *testing.T, o bustest.Options) bustest.Instance {
		log := mem.New(mem.Config{Partitions: o.Partitions, RecordBytesMax: o.RecordBytesMax, BytesMax: o.BytesMax})
		current := log
		return bustest.Instance{
			Log:   log,
			Again: func(*testing.T) bus.Log { return log.Open() },
			Crash: func(*testing.T) bus.Log {
				current.Crash()
				current = log.Open()
				return current
			},
		}
	}})
}
