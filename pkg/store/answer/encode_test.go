package answer_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/millrace/millrace/pkg/store/answer"
)

func TestEncodingForFollowsAccept(t *testing.T) {
	for accept, want := range map[string]string{
		"": "application/json", "*/*": "application/json", "text/*": "text/csv", "text/csv;q=0.5, application/json;q=0.4": "text/csv",
		"application/parquet": "application/vnd.apache.parquet", "text/html, */*;q=0.1": "application/json", "bad/;;, text/csv": "text/csv",
		"application/vnd.apache.arrow.stream": "application/vnd.apache.arrow.stream",
	} {
		got, err := answer.EncodingFor(accept)
		if err != nil || got.MediaType != want {
			t.Errorf("%q: %s, %v, want %s", accept, got.MediaType, err, want)
		}
	}
	for _, accept := range []string{"text/html", "text/csv;q=0"} {
		if got, err := answer.EncodingFor(accept); !errors.Is(err, answer.ErrNotAcceptable) || !strings.Contains(err.Error(), "text/csv") {
			t.Errorf("%q: %s, %v, want ErrNotAcceptable", accept, got.MediaType, err)
		}
	}
}
