// Package check runs the checks of a diagnosis: concurrently, each within its time, with results in
// a fixed order.
package check

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// Time is how long one check may take.
const Time = 20 * time.Second

// Check is a check to run.
type Check struct {
	Name string
	// Run runs the check. Its context ends after the check's time. The caller sets the name of the
	// result.
	Run func(context.Context) faas.Check
}

// Run runs all checks concurrently, each within the given time, and returns their results in the
// order of the checks.
func Run(ctx context.Context, time time.Duration, checks ...Check) []faas.Check {
	results := make([]faas.Check, len(checks))
	var all sync.WaitGroup
	for i, c := range checks {
		all.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, time)
			defer cancel()
			results[i] = c.Run(ctx)
			results[i].Name = c.Name
		})
	}
	all.Wait()
	return results
}

// SkipAll returns all checks as skipped, for the same reason.
func SkipAll(reason string, checks ...Check) []faas.Check {
	results := make([]faas.Check, len(checks))
	for i, c := range checks {
		results[i] = Skip("%s", reason)
		results[i].Name = c.Name
	}
	return results
}

// OK returns a check that found what is needed.
func OK(format string, args ...any) faas.Check { return check(faas.CheckOK, nil, "", format, args) }

// Skip returns a check that does not apply or could not run.
func Skip(format string, args ...any) faas.Check {
	return check(faas.CheckSkipped, nil, "", format, args)
}

// Warn returns a check that lacks something which a deployment can do without.
func Warn(err error, remedy, format string, args ...any) faas.Check {
	return check(faas.CheckWarning, err, remedy, format, args)
}

// Fail returns a check that found something with which no deployment succeeds. err is an
// *faas.Error.
func Fail(err error, remedy, format string, args ...any) faas.Check {
	return check(faas.CheckFailed, err, remedy, format, args)
}

// FailBy is [Fail] with the text of the error.
func FailBy(err error, remedy string) faas.Check { return Fail(err, remedy, "%s", Words(err)) }

func check(status faas.CheckStatus, err error, remedy, format string, args []any) faas.Check {
	return faas.Check{Status: status, Detail: oneLine(fmt.Sprintf(format, args...)), Remedy: remedy, Err: err}
}

// Words returns an error's text in one line, without operation and provider, which the name of a
// check implies.
func Words(err error) string {
	var e *faas.Error
	for errors.As(err, &e) && e.Err != nil {
		err = e.Err
	}
	return oneLine(err.Error())
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

// SetField returns the remedy that sets fields of the policy's section "serverless": "set
// serverless.FIELD to VALUE and serverless.FIELD to VALUE". Programs may turn this form into a
// command of their own. The values contain no spaces.
func SetField(field, value string, more ...string) string {
	text := "set serverless." + field + " to " + value
	for pair := range slices.Chunk(more, 2) {
		text += " and serverless." + pair[0] + " to " + pair[1]
	}
	return text
}

// SetOption is [SetField] for options of the provider.
func SetOption(name, value string, more ...string) string {
	for i := 0; i < len(more); i += 2 {
		more[i] = "provider_config." + more[i]
	}
	return SetField("provider_config."+name, value, more...)
}
