package telemetry

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Limits of names, in bytes. What is longer is refused.
const (
	DeviceIDMax   = 128
	ChannelKeyMax = 256
)

// ErrForeignDevice is wrapped when a body speaks for another device than its topic, path or credential stands for.
var ErrForeignDevice = errors.New("the sender may not speak for this device")

// ValidDeviceID returns nil if id can name a device: 1 to 128 bytes of UTF-8 without control characters, without '/', '+'
// and '#', which mean something in an MQTT topic, and without a '$' at its beginning. Else the error says what is wrong.
func ValidDeviceID(id string) error {
	switch {
	case id == "":
		return errors.New("empty, want 1 to 128 bytes")
	case len(id) > DeviceIDMax:
		return fmt.Errorf("%d bytes, want 1 to %d", len(id), DeviceIDMax)
	case id[0] == '$':
		return fmt.Errorf("%s, want no '$' at its beginning", quoted(id))
	case strings.ContainsAny(id, "/+#"):
		return fmt.Errorf("%s, want no '/', '+' or '#' in it", quoted(id))
	}
	return validName(id)
}

// validChannelKey is the same for the name of a channel, which may hold anything that can be printed.
func validChannelKey(key string) error {
	if key == "" {
		return errors.New("empty, want a non-empty string")
	}
	if len(key) > ChannelKeyMax {
		return fmt.Errorf("%d bytes, want at most %d", len(key), ChannelKeyMax)
	}
	return validName(key)
}

func validName(name string) error {
	ascii := true
	for i := range len(name) {
		if name[i] < ' ' || name[i] == 0x7f {
			return fmt.Errorf("%s, want no control characters in it", quoted(name))
		}
		ascii = ascii && name[i] < utf8.RuneSelf
	}
	if ascii {
		return nil
	}
	if !utf8.ValidString(name) {
		return fmt.Errorf("%s, want valid UTF-8", quoted(name))
	}
	for _, c := range name {
		if c >= 0x80 && c < 0xa0 {
			return fmt.Errorf("%s, want no control characters in it", quoted(name))
		}
	}
	return nil
}

// quoted returns text in quotes for an error, cut to what a reader needs to recognise it.
func quoted(text string) string {
	const most = 48
	if len(text) <= most {
		return strconv.Quote(text)
	}
	return strconv.Quote(text[:most]) + "…"
}
