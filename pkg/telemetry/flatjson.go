package telemetry

import (
	"errors"
	"fmt"
)

func takesFlatJSON(*unit) bool { return true }

// decodeFlatJSON reads any object: each member is a channel and a message of its own, in their order, except those that say
// device (deviceId), its type (deviceType), the id (messageId) and the time (the configured field, LocalTimestamp,
// timestamp, ts or time, the first of these that is there). Nested objects and arrays are channels of type json.
func decodeFlatJSON(u *unit) error {
	var m Message
	used, err := u.head(&m, fieldLocalTimestamp, fieldTimestamp, fieldTS, fieldTime)
	if err != nil {
		return err
	}
	m.Kind = KindChannel
	timeName := ""
	if len(u.d.timePath) == 1 {
		timeName = u.d.timePath[0]
	}
	from := len(u.out)
	for i := range u.scan.members {
		member := &u.scan.members[i]
		switch member.field {
		case fieldDeviceID, fieldDeviceType, fieldMessageID:
			continue
		default:
			if used != fieldNone && member.field == used || timeName != "" && member.key == timeName {
				continue
			}
		}
		if err := validChannelKey(member.key); err != nil {
			return fmt.Errorf("the name of a channel: %w", err)
		}
		if len(u.out)-u.first >= u.d.opt.MessagesMax { // each is some hundred bytes, however short its member
			return fmt.Errorf("more than %d messages in one body", u.d.opt.MessagesMax)
		}
		channel := u.emit(&m)
		channel.ChannelKey = member.key
		u.setValue(channel, member.jsonValue)
	}
	if len(u.out) == from {
		return errors.New("no channel, want at least one member that is not device, id or time")
	}
	return nil
}
