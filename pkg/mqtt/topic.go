package mqtt

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// sharePrefix opens a shared subscription: $share/{group}/{filter} (MQTT 5, 4.8.2).
const sharePrefix = "$share/"

var errTopicEmpty = errors.New("topic is empty")

// ValidTopic says why t cannot be the name that a message is published to (MQTT 5, 4.7), or returns nil. Limit: 65,535 bytes.
func ValidTopic(t string) error {
	if t == "" {
		return errTopicEmpty
	}
	if i := strings.IndexAny(t, "+#"); i >= 0 {
		return fmt.Errorf("wildcard at byte %d of a topic name", i)
	}
	return checkText(t)
}

// checkTopic is ValidTopic for bytes that are known to be UTF-8.
func checkTopic(t []byte) error {
	if len(t) == 0 {
		return errTopicEmpty
	}
	if bytes.IndexByte(t, '+') >= 0 || bytes.IndexByte(t, '#') >= 0 {
		return fmt.Errorf("wildcard at byte %d of a topic name", bytes.IndexAny(t, "+#"))
	}
	return nil
}

// ValidFilter says why f cannot be a topic filter, or returns nil. '#' stands for the last levels and only at the end, '+' for one
// level, and each fills its level. A shared subscription needs a group without wildcards and a filter behind it.
func ValidFilter(f string) error {
	if err := checkText(f); err != nil {
		return err
	}
	if strings.HasPrefix(f, sharePrefix) {
		group, rest, ok := SplitShared(f)
		if !ok {
			return fmt.Errorf("shared subscription %q: want %s{group}/{filter}", f, sharePrefix)
		}
		if strings.ContainsAny(group, "+#") {
			return fmt.Errorf("shared subscription %q: wildcard in the group", f)
		}
		f = rest
	}
	if f == "" {
		return errors.New("topic filter is empty")
	}
	for level, rest, more := "", f, true; more; {
		level, rest, more = strings.Cut(rest, "/")
		if len(level) > 1 && strings.ContainsAny(level, "+#") {
			return fmt.Errorf("topic filter %q: a wildcard must fill its level, not %q", f, level)
		}
		if level == "#" && more {
			return fmt.Errorf("topic filter %q: levels behind #", f)
		}
	}
	return nil
}

func checkText(s string) error {
	if len(s) > textMax {
		return fmt.Errorf("%d bytes, at most %d", len(s), textMax)
	}
	if !utf8.ValidString(s) || strings.IndexByte(s, 0) >= 0 {
		return errors.New("not UTF-8, or with a null character")
	}
	return nil
}

// SplitShared takes the filter of a shared subscription apart; ok is false for any other filter and for one without group
// or filter.
func SplitShared(f string) (group, filter string, ok bool) {
	rest, shared := strings.CutPrefix(f, sharePrefix)
	if !shared {
		return "", "", false
	}
	group, filter, ok = strings.Cut(rest, "/")
	if !ok || group == "" || filter == "" {
		return "", "", false
	}
	return group, filter, true
}

// Match says whether a valid filter takes in a valid topic (MQTT 5, 4.7). A filter that begins with a wildcard does not
// take in topics that begin with '$'. Of a shared subscription give the filter alone, see SplitShared. It does not allocate.
func Match[F, T ~string | ~[]byte](filter F, topic T) bool {
	if len(filter) == 0 || len(topic) == 0 {
		return false
	}
	if topic[0] == '$' && (filter[0] == '+' || filter[0] == '#') {
		return false
	}
	f, t := 0, 0
	for f < len(filter) {
		switch filter[f] {
		case '#':
			return true
		case '+':
			f++
			for t < len(topic) && topic[t] != '/' {
				t++
			}
		default:
			for f < len(filter) && filter[f] != '/' {
				if t >= len(topic) || topic[t] != filter[f] {
					return false
				}
				f, t = f+1, t+1
			}
		}
		switch { // both stand at the end of a level, or the topic's level is longer
		case f == len(filter):
			return t == len(topic)
		case t == len(topic): // sport/# takes in sport
			return f+2 == len(filter) && filter[f+1] == '#'
		case topic[t] != '/':
			return false
		}
		f, t = f+1, t+1
	}
	return t == len(topic) // the filter ended in '/', and so must the topic
}
