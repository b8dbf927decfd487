package telemetry

import (
	"fmt"
	"net/url"
	"strings"
	"unicode/utf8"
)

// PropertiesMax is the number of application properties that one message may carry.
const PropertiesMax = 128

// Properties with a meaning, whatever the case of their letters. Those with "$." are what IoT hub SDKs write for the
// message id, the content type and the time of creation.
const (
	propertyMessageType = "MessageType"
	propertyDeviceType  = "DeviceType"
	propertyMessageID   = "messageId"
)

// PropertiesFromTopic reads the url-encoded properties that IoT hub SDKs put behind the last slash of a topic, such as
// "MessageType=Channel&%24.mid=7&%24.ct=application%2Fjson". They are given back in their order; a key may come twice; a key
// without "=" has an empty value. A plus sign stays a plus sign. An empty s has no properties.
func PropertiesFromTopic(s string) ([]Property, error) {
	s = strings.TrimSuffix(strings.TrimPrefix(s, "?"), "/")
	if s == "" {
		return nil, nil
	}
	n := strings.Count(s, "&") + 1
	if n > PropertiesMax {
		return nil, fmt.Errorf("topic properties: %d, want at most %d", n, PropertiesMax)
	}
	props := make([]Property, 0, n)
	for pair := range strings.SplitSeq(s, "&") {
		rawKey, rawValue, _ := strings.Cut(pair, "=")
		key, err := url.PathUnescape(rawKey)
		if err != nil {
			return nil, fmt.Errorf("topic property %s: %w", quoted(rawKey), err)
		}
		value, err := url.PathUnescape(rawValue)
		if err != nil {
			return nil, fmt.Errorf("topic property %s: %w", quoted(key), err)
		}
		if key == "" {
			return nil, fmt.Errorf("topic property %s: no key, want key=value", quoted(pair))
		}
		if !utf8.ValidString(key) || !utf8.ValidString(value) {
			return nil, fmt.Errorf("topic property %s: want valid UTF-8", quoted(key))
		}
		props = append(props, Property{Key: key, Value: value})
	}
	return props, nil
}

// property returns the value of the first property that has one of the names, by the order of the names.
func property(props []Property, names ...string) string {
	for _, name := range names {
		for i := range props {
			if strings.EqualFold(props[i].Key, name) && props[i].Value != "" {
				return props[i].Value
			}
		}
	}
	return ""
}

// validProperties returns props with U+FFFD for whatever is no UTF-8, which headers may carry; props itself if all is well.
func validProperties(props []Property) []Property {
	for i := range props {
		if utf8.ValidString(props[i].Key) && utf8.ValidString(props[i].Value) {
			continue
		}
		clean := make([]Property, len(props))
		for j, p := range props {
			clean[j] = Property{Key: strings.ToValidUTF8(p.Key, "\uFFFD"), Value: strings.ToValidUTF8(p.Value, "\uFFFD")}
		}
		return clean
	}
	return props
}
