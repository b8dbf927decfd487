package mqttedge

import (
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/mqtt"
	"github.com/millrace/millrace/services/ingest/internal/memory"
)

// ending is why a connection ends, in words for the device's history, and what is done about it.
type ending struct {
	why    string
	reason mqtt.Reason   // for the DISCONNECT of MQTT 5
	tell   bool          // send a DISCONNECT
	will   bool          // publish the will
	finish bool          // acknowledge first what is under way
	linger time.Duration // hold the connection for so long, so that who comes back at once does not make things worse
}

// busyPause is how long a connection is held that was refused because the log is full.
const busyPause = time.Second

func endTakenOver() ending {
	return ending{why: "session taken over", reason: mqtt.ReasonSessionTakenOver, tell: true, will: true}
}

func endRevoked() ending {
	return ending{why: "credential revoked or expired", reason: mqtt.ReasonNotAuthorized, tell: true, will: true}
}

// endShutdown publishes no wills: the devices are not gone, they come back in a moment (MQTT 5, 3.1.2.5).
func endShutdown() ending {
	return ending{why: "server shut down", reason: mqtt.ReasonServerShuttingDown, tell: true, finish: true}
}

func endUnauthorized(what string) ending {
	return ending{why: "not authorized: " + what, reason: mqtt.ReasonNotAuthorized, tell: true, will: true}
}

func endOfLog(err error) ending {
	if errors.Is(err, bus.ErrFull) {
		return ending{why: "log is full", reason: mqtt.ReasonServerBusy, tell: true, linger: busyPause}
	}
	if errors.Is(err, bus.ErrTooLarge) {
		return ending{why: "message too large for the log", reason: mqtt.ReasonPacketTooLarge, tell: true, will: true}
	}
	return ending{why: "log is not available", reason: mqtt.ReasonServerBusy, tell: true}
}

// endOfRead says why reading ended; midPacket that half a packet was there.
func endOfRead(err error, midPacket bool) ending {
	if fault, ok := errors.AsType[*mqtt.Error](err); ok {
		return ending{why: "protocol error: " + fault.Detail, reason: fault.Code, tell: true, will: true}
	}
	if errors.Is(err, memory.ErrAll) || errors.Is(err, memory.ErrShare) {
		return ending{why: "no memory for a large packet: " + err.Error(), reason: mqtt.ReasonServerBusy, tell: true, finish: true, linger: busyPause}
	}
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		why := "keep-alive timeout"
		if midPacket {
			why = "packet not completed in time"
		}
		return ending{why: why, reason: mqtt.ReasonKeepAliveTimeout, tell: true, will: true}
	}
	if errors.Is(err, io.EOF) {
		return ending{why: "connection closed without DISCONNECT", will: true}
	}
	return ending{why: fmt.Sprintf("connection lost: %v", err), will: true}
}
