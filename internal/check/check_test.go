package check_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/check"
)

func TestChecksAreMadeAtOnceAndKeepTheirOrder(t *testing.T) {
	met := make(chan struct{})
	meet := func(c faas.Check) func(context.Context) faas.Check {
		return func(ctx context.Context) faas.Check {
			select { // one waits for the other
			case met <- struct{}{}:
			case <-met:
			case <-ctx.Done():
				return check.Skip("nobody came")
			}
			return c
		}
	}
	got := check.Run(t.Context(), time.Minute,
		check.Check{Name: "first", Run: meet(check.OK("one\n two"))},
		check.Check{Name: "second", Run: meet(check.Warn(nil, "do", "three"))},
		check.Check{Name: "third", Run: func(ctx context.Context) faas.Check {
			if _, bounded := ctx.Deadline(); !bounded {
				t.Error("the check has no end")
			}
			return check.OK("four")
		}})
	want := []faas.Check{{Name: "first", Status: faas.CheckOK, Detail: "one two"},
		{Name: "second", Status: faas.CheckWarning, Detail: "three", Remedy: "do"},
		{Name: "third", Status: faas.CheckOK, Detail: "four"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestClocksAreComparedWithTheBenefitOfTheDoubt(t *testing.T) {
	noon := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	dated := func(d time.Duration) http.Header { return http.Header{"Date": {noon.Add(d).Format(http.TimeFormat)}} }
	for _, tt := range []struct {
		name   string
		header http.Header
		took   time.Duration
		want   faas.CheckStatus
	}{
		{"the same", dated(0), 0, faas.CheckOK},
		{"no date", http.Header{}, 0, faas.CheckSkipped},
		{"nonsense", http.Header{"Date": {"yesterday"}}, 0, faas.CheckSkipped},
		{"a little behind", dated(20 * time.Second), 0, faas.CheckOK},
		{"a slow answer", dated(4 * time.Minute), 5 * time.Minute, faas.CheckOK},
		{"a minute behind", dated(time.Minute), 0, faas.CheckWarning},
		{"a minute ahead", dated(-time.Minute), 0, faas.CheckWarning},
		{"five minutes behind", dated(5 * time.Minute), 0, faas.CheckFailed},
		{"six minutes ahead", dated(-6 * time.Minute), 0, faas.CheckFailed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := check.Clock(faas.AWSLambda, "AWS", tt.header, noon, noon.Add(tt.took))
			if got.Status != tt.want || (got.Remedy != "") != (tt.want == faas.CheckFailed || tt.want == faas.CheckWarning) {
				t.Errorf("%+v, want %s", got, tt.want)
			}
		})
	}
}
