package virtual

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/bus"
)

// A harness that cannot fail proves nothing. Each of these breaks one promise on purpose, and demands that the breach is reported.

func TestALogThatAcknowledgesBeforeItHasSyncedIsFoundOut(t *testing.T) {
	const seeds = 20
	for seed := range uint64(seeds) {
		p := newPlan(seed)
		p.events = append(p.events, event{at: 15 * time.Second, what: eventPower})
		for _, breach := range run(t, p).breaches {
			if strings.HasPrefix(breach, "ingested:") && strings.HasSuffix(breach, "was acknowledged and is lost") {
				t.Logf("seed %d: %s", seed, breach)
				return
			}
		}
	}
	t.Errorf("%d runs in which a log lost what it had acknowledged, and nothing was reported", seeds)
}

func TestProgressThatIsCommittedBeforeTheRowsIsFoundOut(t *testing.T) {
	control(t, "breach_commit_first", "is lost")
}

func TestReadersAndStoresThatDropNoDoublesAreFoundOut(t *testing.T) {
	control(t, "breach_no_idempotence", "times")
}

// control runs the simulation as it is built with a tag, and wants it to report a breach that says so.
func control(t *testing.T, tag, says string) {
	t.Helper()
	if testing.Short() {
		t.Skip("it builds the services once more")
	}
	cmd := exec.CommandContext(t.Context(), "go", "test", "-tags", tag, "-count=1", "-run", "^TestWhateverBreaks", ".")
	cmd.Env = append(os.Environ(), "SEED=1", "SEEDS=100", "SHRINK=no")
	out, err := cmd.CombinedOutput()
	if err == nil {
		t.Fatalf("with -tags %s the run passed:\n%s", tag, out)
	}
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, says) && strings.Contains(line, ":") {
			t.Logf("with -tags %s: %s", tag, strings.TrimSpace(line))
			return
		}
	}
	t.Fatalf("with -tags %s nothing %s:\n%s", tag, says, out)
}

// losePower kills everything, and the log loses the newest appends of each partition of [ingested], which it had acknowledged.
func (s *sim) losePower() {
	const unsynced = 3
	for _, p := range s.processes {
		p.crash()
	}
	for n := range s.plan.partitions {
		id := bus.PartitionID{Topic: bus.Ingested, Number: n}
		if recs := s.log.Records(id); len(recs) > unsynced {
			s.log.Cut(id, recs[len(recs)-1-unsynced].Position)
		}
	}
}
