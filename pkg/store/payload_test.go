package store_test

import (
	"bytes"
	"testing"

	"github.com/millrace/millrace/pkg/store"
)

func FuzzPayloadBytesComeBack(f *testing.F) {
	for _, s := range []string{"", "plain", `{"a":"größer"}`, "\xff\xfe\x00\\x41", "back\\slash", "\\\\x00", "tab\tline\n", "\u202e\x1b[31m"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		text, escaped := store.PayloadText(payload)
		back, err := store.PayloadBytes(text, escaped)
		if err != nil || !bytes.Equal(back, payload) {
			t.Errorf("%q as %q (%t) comes back as %q: %v", payload, text, escaped, back, err)
		}
		_, _ = store.PayloadBytes(string(payload), true) // whatever it is, it is read or refused
	})
}
