package faastest

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
)

const (
	// shown is how long a line may take until the provider shows it.
	shown = 5 * time.Minute
	// skew is how much the clocks of this machine and of the provider may differ.
	skew = 5 * time.Minute
)

func (s *suite) logging(t *testing.T) {
	exec := s.open(t, s.service("logs"))
	if s.h.NoLogs {
		t.Skip("the platform keeps no logs")
	}
	reader := exec.Executor
	s.converge(t, exec, s.wanted(t, exec, s.functions(JobEcho, JobLog)))
	of := func(jobs ...uint32) faas.LogQuery { return faas.LogQuery{JobIDs: jobs} }
	if _, err := s.lines(t, exec, reader, of(JobEcho)); faas.CodeOf(err) == faas.ErrUnsupported {
		t.Skip("the platform keeps no logs: ", err)
	} else if err != nil {
		t.Fatalf("the log of a job that has printed nothing: %v", err)
	}
	one, two, three := "one "+random(6), "two "+random(6), "three "+random(6)
	began := time.Now()
	for _, text := range []string{one, two} {
		s.invoke(t, exec, JobLog, text)
	}
	all := s.awaitLines(t, exec, reader, of(JobLog), one, two)
	first, second := lineOf(all, one), lineOf(all, two)

	t.Run("gives what a job printed, with its time and where it is from", func(t *testing.T) {
		for _, i := range []int{first, second} {
			line := all[i]
			if line.Time.Before(began.Add(-skew)) || line.Time.After(time.Now().Add(skew)) || line.Time.Location() != time.UTC {
				t.Errorf("%q has the time %v, and was printed after %v", line.Text, line.Time, began)
			}
			if line.JobID != int64(JobLog) && line.JobID != faas.NoJob || line.FunctionID == "" || line.System {
				t.Errorf("%+v", line)
			}
		}
		if first > second {
			t.Errorf("what was printed first comes last: %+v", all)
		}
	})
	t.Run("is in the order of time", func(t *testing.T) {
		if !slices.IsSortedFunc(all, func(a, b faas.LogLine) int { return a.Time.Compare(b.Time) }) {
			t.Errorf("%+v", all)
		}
	})
	t.Run("is bounded by number and time", func(t *testing.T) {
		for name, tt := range map[string]struct {
			q    faas.LogQuery
			want func(faas.LogLine) bool
		}{
			"since": {faas.LogQuery{Since: all[second].Time},
				func(l faas.LogLine) bool { return !l.Time.Before(all[second].Time) }},
			"until": {faas.LogQuery{Until: all[second].Time},
				func(l faas.LogLine) bool { return l.Time.Before(all[second].Time) }},
			"limit": {faas.LogQuery{Limit: 1, Until: all[second].Time.Add(time.Nanosecond)},
				func(l faas.LogLine) bool { return l.Text == two }},
		} {
			tt.q.JobIDs = []uint32{JobLog}
			got, err := s.lines(t, exec.as(t), reader, tt.q)
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			for _, text := range []string{one, two} {
				if is, want := lineOf(got, text) >= 0, tt.want(all[lineOf(all, text)]); is != want &&
					(name != "limit" || text == two) {
					t.Errorf("%s: %q is there: %v, want %v", name, text, is, want)
				}
			}
			if name == "limit" && len(got) != 1 {
				t.Errorf("%d lines, want 1", len(got))
			}
		}
	})
	t.Run("gives no job what another one printed", func(t *testing.T) {
		got, err := s.lines(t, exec.as(t), reader, of(JobEcho))
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range got {
			if line.JobID == int64(JobLog) {
				t.Errorf("%+v", line)
			}
		}
		if got, err = s.lines(t, exec.as(t), reader, of(JobEcho, JobLog)); err != nil || lineOf(got, one) < 0 {
			t.Errorf("of both jobs: %v %v", got, err)
		}
	})
	t.Run("refuses what makes no sense", func(t *testing.T) {
		for _, tt := range []struct {
			q    faas.LogQuery
			code faas.Code
		}{
			{of(), faas.ErrInvalidArgument}, {faas.LogQuery{JobIDs: []uint32{JobLog}, Limit: -1}, faas.ErrInvalidArgument},
			{of(JobLog, 4242), faas.ErrNotFound},
			{faas.LogQuery{JobIDs: []uint32{JobLog}, Follow: true, Until: time.Now()}, faas.ErrInvalidArgument},
			{faas.LogQuery{JobIDs: []uint32{JobLog}, Since: time.Now(), Until: time.Now().Add(-time.Hour)},
				faas.ErrInvalidArgument},
		} {
			_, err := s.lines(t, exec.as(t), reader, tt.q)
			wantCode(t, err, tt.code)
		}
	})
	t.Run("is followed, each line once, until the context is done", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(context.Background(), shown)
		defer cancel()
		seen := map[string]int{}
		var ended error
		for line, err := range reader.Logs(ctx, faas.LogQuery{
			JobIDs: []uint32{JobEcho, JobLog}, Follow: true, Since: all[first].Time}) {
			if err != nil {
				exec.as(t).check("Logs", err)
				ended = err
				continue
			}
			switch seen[line.Text]++; line.Text {
			case two:
				s.invoke(t, exec.as(t), JobLog, three)
			case three:
				cancel()
			}
		}
		wantCode(t, ended, faas.ErrTimeout)
		for _, text := range []string{one, two, three} {
			if seen[text] != 1 {
				t.Errorf("%q came %d times", text, seen[text])
			}
		}
	})
	t.Run("can be left", func(t *testing.T) {
		for _, follow := range []bool{false, true} {
			for _, err := range reader.Logs(s.ctx(t), faas.LogQuery{JobIDs: []uint32{JobEcho, JobLog}, Follow: follow}) {
				if err != nil {
					t.Errorf("follow %v: %v", follow, err)
				}
				break
			}
		}
	})
	t.Run("a context that is done is Timeout", func(t *testing.T) {
		ctx, cancel := context.WithCancel(s.ctx(t))
		cancel()
		for _, follow := range []bool{false, true} {
			var ended error
			for _, err := range reader.Logs(ctx, faas.LogQuery{JobIDs: []uint32{JobLog}, Follow: follow}) {
				ended = err
			}
			exec.as(t).check("Logs", ended)
			wantCode(t, ended, faas.ErrTimeout)
		}
	})
}

// lines reads a sequence that ends without being left.
func (s *suite) lines(t testing.TB, exec *watched, reader faas.LogReader, q faas.LogQuery) (lines []faas.LogLine,
	failed error) {
	t.Helper()
	for line, err := range reader.Logs(s.ctx(t), q) {
		if failed != nil {
			t.Errorf("something comes after the error %v", failed)
		}
		if failed = err; err != nil {
			exec.check("Logs", err)
			continue
		}
		exec.secretless("Logs", line.Text)
		if strings.HasSuffix(line.Text, "\n") {
			t.Errorf("the end of the line is in the text %q", line.Text)
		}
		lines = append(lines, line)
	}
	return lines, failed
}

// awaitLines reads until the lines are there.
func (s *suite) awaitLines(t testing.TB, exec *watched, reader faas.LogReader, q faas.LogQuery,
	texts ...string) []faas.LogLine {
	t.Helper()
	pause := 5 * time.Millisecond
	for deadline := time.Now().Add(shown); ; time.Sleep(pause) {
		lines, err := s.lines(t, exec, reader, q)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(texts, func(text string) bool { return lineOf(lines, text) < 0 }) {
			return lines
		}
		if time.Now().After(deadline) {
			t.Fatalf("the lines %q are not shown after %v: %+v", texts, shown, lines)
		}
		pause = min(2*pause, 2*time.Second)
	}
}

// lineOf returns the index of the line with a text, or -1.
func lineOf(lines []faas.LogLine, text string) int {
	return slices.IndexFunc(lines, func(l faas.LogLine) bool { return l.Text == text })
}
