//go:build !faas_only || faas_aws

package aws

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/lambdatest"
)

// printing returns a Lambda whose function for job 0 prints what it is sent.
func printing(t *testing.T, cfg lambdatest.Config) (*lambdatest.Server, *Executor) {
	t.Helper()
	cfg.Handler = func(i lambdatest.Invocation) lambdatest.Answer {
		_, args, err := faas.ParseRequest(nil, i.Payload)
		if err != nil { // a probe
			return lambdatest.Answer{Payload: []byte(`{"warm":true}`)}
		}
		return lambdatest.Answer{Payload: []byte(`{"job_id":0,"result":[],"success":true}`), Log: string(args)}
	}
	server := serve(t, cfg)
	e := openAt(t, server, "printing", opening{})
	mustDeploy(t, e, unitOf(t, e, script(t, "true"), small(0)))
	return server, e
}

func say(t *testing.T, e *Executor, text string) {
	t.Helper()
	if _, err := e.Invoke(t.Context(), 0, []byte(text)); err != nil {
		t.Fatal(err)
	}
}

// logged returns the log of job 0, up to most lines.
func logged(ctx context.Context, e *Executor, q faas.LogQuery, most int) (lines []faas.LogLine, failed error) {
	q.JobIDs = []uint32{0}
	for line, err := range e.Logs(ctx, q) {
		if err != nil {
			return lines, err
		}
		if lines = append(lines, line); len(lines) == most {
			break
		}
	}
	return lines, nil
}

func textsOf(lines []faas.LogLine) (texts []string) {
	for _, l := range lines {
		texts = append(texts, l.Text)
	}
	return texts
}

func TestLogsOfManyPagesAreWholeAndWithoutWhatLambdaWrites(t *testing.T) {
	t.Parallel()
	server, e := printing(t, lambdatest.Config{LogPage: 3})
	var want []string
	for i := range 5 {
		say(t, e, fmt.Sprintf("line %d\nand more\n", i))
		want = append(want, fmt.Sprintf("line %d", i), "and more")
	}
	got, err := logged(t.Context(), e, faas.LogQuery{}, -1)
	if diff := cmp.Diff(want, textsOf(got)); diff != "" || err != nil {
		t.Fatalf("%v %s", err, diff)
	}
	ids := map[string]int{}
	for _, l := range got {
		ids[l.RequestID]++
		if l.System || l.FunctionID != functionName("printing", 0) || l.Time.IsZero() {
			t.Errorf("%+v", l)
		}
	}
	if len(ids) != 5 || ids[""] > 0 {
		t.Errorf("invocations: %v", ids)
	}
	if got, err := logged(t.Context(), e, faas.LogQuery{Limit: 3}, -1); err != nil || !cmp.Equal(textsOf(got), want[7:]) {
		t.Errorf("the last three: %v %v", textsOf(got), err)
	}
	all, err := logged(t.Context(), e, faas.LogQuery{System: true}, -1)
	kinds := map[string]int{}
	for _, l := range all {
		if l.System {
			kind, _, _ := strings.Cut(l.Text, " ")
			kinds[kind]++
			if l.RequestID == "" || l.Severity != "" {
				t.Errorf("%+v", l)
			}
		}
	}
	if err != nil || kinds["START"] < 5 || kinds["START"] != kinds["END"] || kinds["END"] != kinds["REPORT"] ||
		len(kinds) != 3 {
		t.Errorf("%v %v", err, kinds)
	}
	for _, c := range server.Calls("FilterLogEvents") {
		if strings.Contains(string(c.Body), "null") {
			t.Errorf("a request holds a null: %s", c.Body)
		}
	}
}

func TestLinesThatTellOfFailuresAreThereWithoutSystemLines(t *testing.T) {
	t.Parallel()
	const id = "8f507cfc-1234-4697-b07a-ac58fc914c95"
	for text, want := range map[string]faas.LogLine{
		"2026-03-04T05:06:07.890Z " + id + " Task timed out after 3.00 seconds\n\n": {
			System: true, Severity: faas.SeverityError, RequestID: id},
		"RequestId: " + id + " Error: Runtime exited with error: exit status 3": {
			System: true, Severity: faas.SeverityError, RequestID: id},
		"REPORT RequestId: " + id + "\tDuration: 1 ms\tStatus: error\tError Type: X": {
			System: true, Severity: faas.SeverityError, RequestID: id},
		"REPORT RequestId: " + id + "\tDuration: 1 ms\tMax Memory Used: 17 MB\t": {System: true, RequestID: id},
		"INIT_REPORT Init Duration: 10000.00 ms\tPhase: init\tStatus: timeout": {
			System: true, Severity: faas.SeverityError},
		"RESTORE_REPORT Restore Duration: 10.00 ms\tStatus: error\tError Type: X": {
			System: true, Severity: faas.SeverityError},
		"INIT_REPORT Init Duration: 10.00 ms\tPhase: invoke\tStatus: success":      {System: true},
		"INIT_START Runtime Version: provided:al2023.v1\tRuntime Version ARN: arn": {System: true},
		`{"time":"x","type":"platform.report","record":{"requestId":"r","status":"timeout"}}`: {
			System: true, Severity: faas.SeverityError, RequestID: "r"},
		`{"time":"x","type":"platform.initStart","record":{}}`: {System: true},
		`{"type":"platform of a job"}`:                         {},
		"START RequestId: of a job":                            {},
		"":                                                     {},
	} {
		g := &logGroup{requests: map[string]string{}}
		want.Text = strings.TrimRight(text, "\n")
		if diff := cmp.Diff(want, g.line("s", text)); diff != "" {
			t.Errorf("%q: %s", text, diff)
		}
	}
}

func TestLogsSayWhatIsMissing(t *testing.T) {
	t.Parallel()
	deny := false
	_, e := printing(t, lambdatest.Config{Fault: func(c lambdatest.Call) *lambdatest.Fault {
		if deny && c.Operation == "FilterLogEvents" {
			return &lambdatest.Fault{Status: 400, Code: "AccessDeniedException",
				Message: "User: x is not authorized to perform: logs:FilterLogEvents"}
		}
		return nil
	}})
	other := openAt(t, serve(t, lambdatest.Config{}), "printing", opening{})
	if _, err := logged(t.Context(), other, faas.LogQuery{}, -1); faas.CodeOf(err) != faas.ErrNotFound {
		t.Errorf("of a function that is not there: %v", err)
	}
	deny = true
	_, err := logged(t.Context(), e, faas.LogQuery{}, -1)
	if faas.CodeOf(err) != faas.ErrPermissionDenied ||
		!strings.Contains(err.Error(), "allow logs:FilterLogEvents on the log group /aws/lambda/"+
			functionName("printing", 0)) {
		t.Errorf("%v", err)
	}
}

func TestFollowingGoesOnThroughThrottling(t *testing.T) {
	t.Parallel()
	_, e := printing(t, lambdatest.Config{Fault: func(c lambdatest.Call) *lambdatest.Fault {
		if c.Operation == "FilterLogEvents" && c.N > 2 && c.N%3 > 0 {
			return &lambdatest.Fault{Status: 400, Code: "ThrottlingException", Message: "Rate exceeded"}
		}
		return nil
	}})
	say(t, e, "first\n")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var got []string
	for line, err := range e.Logs(ctx, faas.LogQuery{JobIDs: []uint32{0}, Follow: true, Limit: 1}) {
		if err != nil {
			t.Fatal(err)
		}
		if got = append(got, line.Text); len(got) == 4 {
			break
		}
		say(t, e, fmt.Sprintf("after %s\n", line.Text))
	}
	if diff := cmp.Diff([]string{"first", "after first", "after after first", "after after after first"},
		got); diff != "" {
		t.Error(diff)
	}
}
