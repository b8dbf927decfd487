package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

// letterOffice is an instance with three letters: 0.3.0 that was put back before, 0.2.0, and 0.1.0 that cannot be put back.
func letterOffice(t *testing.T) (env map[string]string, asked *[]string) {
	t.Helper()
	asked = &[]string{}
	row := func(id, reason, replayed string) string {
		return fmt.Sprintf(`{"id":%q,"topic":"telemetry","worker":"w","reason":%q,"payload":"x","received_at":"2026-01-01T00:00:00Z","device_id":"d","partition":1,"position":"7.0","replayed_at":%s}`,
			id, reason, replayed)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/dead-letters", func(w http.ResponseWriter, r *http.Request) {
		*asked = append(*asked, "list "+r.URL.Query().Get("worker"))
		if r.URL.Query().Get("cursor") == "" {
			_, _ = fmt.Fprintf(w, `{"dead_letters":[%s,%s],"next":"c"}`, row("0.3.0", "first\nstack", `"2026-01-02T00:00:00Z"`), row("0.2.0", "no", "null"))
			return
		}
		_, _ = fmt.Fprintf(w, `{"dead_letters":[%s],"next":null}`, row("0.1.0", "no", "null"))
	})
	mux.HandleFunc("GET /v1/dead-letters/{id}", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, strings.TrimSuffix(row(r.PathValue("id"), "why\nstack", "null"), "}")+
			`,"payload_base64":"/wB4","message":{"device_id":"d"},"replay_to":"w","replay_refused":"it was cut","context":{"cut":true}}`)
	})
	mux.HandleFunc("POST /v1/dead-letters/{id}/replay", func(w http.ResponseWriter, r *http.Request) {
		var wish struct {
			Payload []byte `json:"payload_base64"`
			DryRun  bool   `json:"dry_run"`
			By      string `json:"by"`
		}
		if err := json.NewDecoder(r.Body).Decode(&wish); err != nil {
			t.Error(err)
		}
		*asked = append(*asked, fmt.Sprintf("replay %s %q %t %s", r.PathValue("id"), wish.Payload, wish.DryRun, wish.By))
		if r.PathValue("id") == "0.1.0" {
			w.WriteHeader(http.StatusUnprocessableEntity)
			_, _ = io.WriteString(w, `{"error":"it was cut"}`)
			return
		}
		_, _ = fmt.Fprintf(w, `{"id":"x","replay_to":"w","messages":1,"dry_run":%t}`, wish.DryRun)
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return map[string]string{"MILLRACE_URL": server.URL, "USER": "ada"}, asked
}

func TestDeadLettersAreListedOverAllPages(t *testing.T) {
	env, _ := letterOffice(t)
	for format, want := range map[string]string{"id": "0.3.0\n0.2.0\n0.1.0\n", "table": "telemetry[1] 7.0", "json": `"reason":"first\nstack"`} {
		out, _, err := shell(t, env, "", "dead-letters", "list", "--format", format, "--limit", "3")
		if err != nil || !strings.Contains(out, want) || format == "table" && strings.Contains(out, "stack") {
			t.Errorf("%s: %v %q, want %q", format, err, out, want)
		}
	}
}

func TestADeadLetterIsShownWithEverything(t *testing.T) {
	env, _ := letterOffice(t)
	out, _, err := shell(t, env, "", "dead-letters", "show", "0.9.0")
	for _, want := range []string{"0.9.0", "partition 1, position 7.0", "why\n  stack", "payload (3 bytes, base64)\n  /wB4", `"device_id": "d"`, "it was cut"} {
		if err != nil || !strings.Contains(out, want) {
			t.Errorf("%v %q, want %q", err, out, want)
		}
	}
}

func TestAllMatchingAreReplayedTheOldestFirstAndWhatIsRefusedIsNamed(t *testing.T) {
	env, asked := letterOffice(t)
	out, complaints, err := shell(t, env, "", "dead-letters", "replay", "--all-matching", "--worker", "w", "--dry-run")
	want := []string{"list w", "list w", `replay 0.1.0 "" true ada`, `replay 0.2.0 "" true ada`}
	if !slices.Equal(*asked, want) {
		t.Errorf("asked %q, want %q", *asked, want)
	}
	if err == nil || !strings.Contains(err.Error(), "1 of 2 letters not put back") || !strings.Contains(complaints, "0.1.0: ") ||
		!strings.Contains(complaints, "it was cut") || out != "0.2.0 would be put back, to w (1 message)\n" {
		t.Errorf("%v, %q, %q", err, out, complaints)
	}
}

func TestARepairedPayloadIsForOneLetter(t *testing.T) {
	env, asked := letterOffice(t)
	if _, _, err := shell(t, env, "mended", "dead-letters", "replay", "0.2.0", "--payload", "-"); err != nil {
		t.Error(err)
	}
	if want := []string{`replay 0.2.0 "mended" false ada`}; !slices.Equal(*asked, want) {
		t.Errorf("asked %q, want %q", *asked, want)
	}
	for _, args := range [][]string{{"replay"}, {"replay", "0.1.0", "0.2.0", "--payload", "-"}, {"replay", "0.1.0", "--all-matching"}, {"show"}, {}} {
		if _, _, err := shell(t, env, "", append([]string{"dead-letters"}, args...)...); err == nil {
			t.Errorf("%q is taken", args)
		}
	}
}
