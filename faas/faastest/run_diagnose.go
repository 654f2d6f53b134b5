package faastest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// diagnosing tests a provider that can diagnose, on the platform that the rest of Run deploys to,
// where nothing can prevent a deployment.
func (s *suite) diagnosing(t *testing.T) {
	service := s.service("diagnose")
	exec := s.open(t, service)
	diagnoser := exec.Executor
	units := s.wanted(t, exec, s.functions(JobEcho))
	checks := diagnoser.Diagnose(s.ctx(t))
	if checks == nil {
		t.Skip("the provider cannot diagnose")
	}
	names := s.checkChecks(t, checks)
	t.Run("finds nothing that stands in the way where nothing does", func(t *testing.T) {
		for _, c := range checks {
			if c.Status == faas.CheckFailed {
				t.Errorf("%s failed on a platform that deploys: %s: %v", c.Name, c.Detail, c.Err)
			}
		}
	})
	t.Run("changes nothing", func(t *testing.T) {
		if state := s.observe(t, exec.as(t), units[0].ID); state != nil {
			t.Errorf("there is %+v", *state)
		}
		if states, err := exec.as(t).List(s.ctx(t)); faas.CodeOf(err) != faas.ErrUnsupported &&
			(err != nil || len(states) > 0) {
			t.Errorf("List gives %v and %v", states, err)
		}
	})
	t.Run("leaves what is deployed as it is, and has the same checks for it", func(t *testing.T) {
		before := s.converge(t, exec.as(t), units)
		if diff := cmp.Diff(names, s.checkChecks(t, diagnoser.Diagnose(s.ctx(t)))); diff != "" {
			t.Errorf("the checks differ from those before (-before +now):\n%s", diff)
		}
		if now := s.observe(t, exec.as(t), units[0].ID); now == nil || now.Revision != before[0].Revision ||
			now.Status != before[0].Status {
			t.Errorf("%+v became %+v", before[0], now)
		}
	})
	t.Run("a context that is done ends every check, and none is missing", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(s.ctx(t), time.Hour)
		cancel()
		if diff := cmp.Diff(names, s.checkChecks(t, diagnoser.Diagnose(ctx))); diff != "" {
			t.Errorf("the checks differ (-otherwise +now):\n%s", diff)
		}
	})
}

// checkChecks checks the form of checks and returns their names.
func (s *suite) checkChecks(t testing.TB, checks []faas.Check) []string {
	t.Helper()
	if len(checks) == 0 {
		t.Fatal("there is no check")
	}
	seen := map[string]bool{}
	var names []string
	for _, c := range checks {
		names = append(names, c.Name)
		if c.Name == "" || seen[c.Name] {
			t.Errorf("the name %q is empty or there twice", c.Name)
		}
		seen[c.Name] = true
		if c.Detail == "" || strings.ContainsAny(c.Detail, "\n\r") {
			t.Errorf("%s: the detail is not one line: %q", c.Name, c.Detail)
		}
		switch c.Status {
		case faas.CheckFailed:
			var e *faas.Error
			if c.Remedy == "" {
				t.Errorf("%s: it failed without a remedy: %s", c.Name, c.Detail)
			}
			if !errors.As(c.Err, &e) || e.Code == "" || e.Provider != s.h.Provider {
				t.Errorf("%s: the error of a failed check has no code, or is not of provider %q: %v", c.Name, s.h.Provider, c.Err)
			}
		case faas.CheckOK, faas.CheckWarning, faas.CheckSkipped:
		default:
			t.Errorf("%s: the status is %q", c.Name, c.Status)
		}
		text, err := json.Marshal(c)
		if err != nil {
			t.Errorf("%s: the check does not marshal: %v", c.Name, err)
		}
		if strings.Contains(string(text)+fmt.Sprintf("%+v %v", c, c.Err), s.secret) {
			t.Errorf("%s: a value of the environment is in the check", c.Name)
		}
	}
	return names
}
