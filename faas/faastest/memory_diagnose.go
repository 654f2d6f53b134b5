package faastest

import (
	"context"
	"fmt"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// Diagnose returns one check, which finds the cloud reachable and gives its limits, unless the
// script makes it fail.
func (e *MemoryExecutor) Diagnose(ctx context.Context) []faas.Check {
	call := Call{Op: OpDiagnose, Job: faas.NoJob}
	checks := []faas.Check{
		{Name: "cloud", Status: faas.CheckOK, Detail: "it answers"},
		{Name: "limits", Status: faas.CheckSkipped, Detail: "the cloud does not answer"},
	}
	fault, err := e.cloud.enter(ctx, call)
	if err = fault.after(call, e.cloud.provider, err); err != nil {
		checks[0].Status, checks[0].Detail, checks[0].Remedy, checks[0].Err = faas.CheckFailed, err.Error(), "try again", err
		return checks
	}
	l := e.cloud.limits
	checks[1] = faas.Check{Name: "limits", Status: faas.CheckOK,
		Detail: fmt.Sprintf("%d MB, %d s, payload %d MB", l.MaxMemoryMB, l.MaxTimeoutSecs, l.MaxPayloadMB)}
	return checks
}
