//go:build unix

package platform

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/logs"
	"github.com/tangle-network/blueprint-serverless/internal/worker"
)

// logLines returns the kept lines of a function.
func logLines(p *Platform, id string) ([]logs.Line, error) {
	f, err := p.lookup("logs", id)
	if err != nil {
		return nil, err
	}
	return f.log.ring.Lines(), nil
}

// records is a writer that splits lines of JSON.
type records struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (r *records) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.buf.Write(b)
}

// all returns the records whose message is msg.
func (r *records) all(t testing.TB, msg string) (list []map[string]any) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for line := range bytes.Lines(r.buf.Bytes()) {
		var rec map[string]any
		if err := json.Unmarshal(line, &rec); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		if rec["msg"] == msg {
			list = append(list, rec)
		}
	}
	return list
}

func TestLinesOfAFunctionBecomeRecordsAndAreKept(t *testing.T) {
	var out records
	s := newServer(t, WithLogger(slog.New(slog.NewJSONHandler(&out, nil))))
	s.mustPut("f", scriptZip(t, `printf 'first\r\n\033[2Jsecond \377\n' >&2
head -c 9000 /dev/zero | tr '\0' x >&2
echo >&2
printf 'not ended' >&2
echo '{"result":[1]}'`))
	s.mustInvoke("f", 0, "")
	lines, err := logLines(s.p, "f")
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for i, l := range lines {
		texts = append(texts, l.Text)
		if l.Seq != uint64(i+1) || l.PID == 0 || l.PID != lines[0].PID || l.Time.IsZero() || l.Truncated != (i == 2) {
			t.Errorf("line %d: %+v", i, l)
		}
	}
	want := []string{"first", `\x1b[2Jsecond \xff`, strings.Repeat("x", logs.MaxText), "not ended"}
	if diff := cmp.Diff(want, texts); diff != "" {
		t.Error(diff)
	}
	recs := out.all(t, "function log")
	if len(recs) != len(want) {
		t.Fatalf("%d records: %v", len(recs), recs)
	}
	for i, r := range recs {
		if r["function"] != "f" || r["pid"] != float64(lines[0].PID) || r["line"] != want[i] ||
			(r["truncated"] == true) != (i == 2) {
			t.Errorf("record %d: %v", i, r)
		}
	}

	s.mustPut("f", scriptZip(t, `echo replaced >&2; echo '{"result":[1]}'`), "X-Blueprint-If-Exists", "replace")
	s.mustInvoke("f", 0, "")
	if lines, _ = logLines(s.p, "f"); len(lines) != 5 || lines[4].Text != "replaced" || lines[4].Seq != 5 {
		t.Errorf("after a replacement: %+v", lines)
	}
	s.do("DELETE", "/api/functions/f", nil)
	if _, err := logLines(s.p, "f"); faas.CodeOf(err) != faas.ErrNotFound {
		t.Errorf("of a removed function: %v", err)
	}
	s.mustPut("f", scriptZip(t, "true"))
	if lines, err = logLines(s.p, "f"); err != nil || len(lines) != 0 {
		t.Errorf("a new function has lines of the old one: %v %v", lines, err)
	}
}

func TestWhatIsKeptOfALogIsBounded(t *testing.T) {
	var out records
	l := &functionLog{logger: slog.New(slog.NewJSONHandler(&out, nil)), tokens: logBurst}
	add := func(n int, text string) {
		for range n {
			l.add(worker.Line{PID: 7, Text: []byte(text)})
		}
	}
	add(10*logs.MaxLines, "short")
	if got := l.ring.Lines(); len(got) != logs.MaxLines || got[0].Seq != 9*logs.MaxLines+1 ||
		got[logs.MaxLines-1].Seq != 10*logs.MaxLines {
		t.Errorf("%d lines are kept, from %d on", len(got), got[0].Seq)
	}
	recs := len(out.all(t, "function log"))
	if left := 10*logs.MaxLines - recs; recs < logBurst || left < 1 {
		t.Errorf("%d records", recs)
	}
	l.mu.Lock()
	l.refill = l.refill.Add(-time.Minute)
	l.mu.Unlock()
	add(1, "after the flood")
	skipped := 0.0
	for _, r := range out.all(t, "lines of a function were left out: there were more than are recorded") {
		skipped += r["lines"].(float64)
	}
	if recs := len(out.all(t, "function log")); recs+int(skipped) != 10*logs.MaxLines+1 {
		t.Errorf("%d records and %v left out are not %d lines", recs, skipped, 10*logs.MaxLines+1)
	}
	add(100, strings.Repeat("\x00", logs.MaxText))
	kept := 0
	for _, line := range l.ring.Lines() {
		kept += len(line.Text)
		if len(line.Text) > logs.MaxText {
			t.Fatalf("a line of %d bytes", len(line.Text))
		}
	}
	if kept > logs.MaxBytes || kept < logs.MaxBytes-logs.MaxText {
		t.Errorf("%d bytes are kept", kept)
	}
}

// The lines of many concurrent processes stay whole and are numbered without a gap or a data race.
func TestLogTakesLinesOfManyProcesses(t *testing.T) {
	l := &functionLog{logger: slog.New(slog.DiscardHandler)}
	var wg sync.WaitGroup
	for pid := range 8 {
		wg.Go(func() {
			for n := range 200 {
				l.add(worker.Line{PID: pid, Text: fmt.Appendf(nil, "%d", n)})
				_ = l.ring.Lines()
			}
		})
	}
	wg.Wait()
	got := l.ring.Lines()
	for i, line := range got {
		if want := uint64(1600 - len(got) + i + 1); line.Seq != want {
			t.Fatalf("line %d is number %d, want %d", i, line.Seq, want)
		}
	}
}
