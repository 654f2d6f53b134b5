// Package serverless runs the jobs of a blueprint on serverless platforms. It reads the operator's
// policy and the blueprint's definition, decides for every job whether it fits on FaaS, deploys the
// jobs that fit, runs the others beside them, and returns a service that can be invoked, checked
// and removed.
//
// [Deploy] is the one call that an embedding program makes. Each of its steps can be called alone,
// and each result is a plain value that can be printed, stored as JSON, compared, and passed to the
// next step:
//
//	LoadPolicy     what the operator configured                 Policy
//	FetchMetadata  what the chain and the profile file say      Metadata
//	Analyze        which jobs fit a provider, and why not       Analysis
//	NewPlan        what a deployment would change               Plan
//	Deploy         the runner, the functions, and the fallback  Service
//
// No job fits until it has been measured; package profile does that. [VerifyBinary] compares a
// binary with what the blueprint publishes. Package cost estimates what the jobs of a plan cost,
// and compares the providers. Package orchestrator has the runners of the jobs that are not on
// FaaS.
//
// # After a deployment
//
// A ledger, a file that is written ahead of every change, records what a service holds. So another
// program can get the handle of a service again ([OpenService], [ListServices]), compare it with
// what the provider holds ([Service.Diff]), and put it right after a crash, by the next deployment
// or removal, or by [Recover]. Two programs never change one service at the same time.
//
// # Providers
//
// A program picks providers by import, as it picks database drivers: import _ ".../faas/custom", or
// faas/all for all of them. Only imported providers are linked. The contract of a provider is
// faas.Executor.
//
// # Errors
//
// Every error of a deployment, a removal or an invocation is or wraps a *faas.Error, whose code
// errors.Is finds:
//
//	if errors.Is(err, faas.ErrThrottled) { ... }
//
// It names the job and the provider concerned, and what was left behind. It never contains values
// of environment variables or credentials.
//
// The package prints nothing. Progress comes as events ([WithEvents]), and logs go to the logger
// given with [WithLogger].
package serverless
