// Package serverless runs the jobs of a blueprint on serverless platforms: it reads the operator's policy and the blueprint's definition, decides
// for every job whether it fits on FaaS, deploys what fits, runs the rest beside it, and hands back a service that can be invoked, checked and removed.
//
// [Deploy] is the one call that an embedding program makes. Each step it takes can be made alone, and each result is a plain value that can
// be printed, stored as JSON, compared, and handed to the next step:
//
//	LoadPolicy     what the operator configured                 Policy
//	FetchMetadata  what the chain and the profile file say      Metadata
//	Analyze        which jobs fit a provider, and why not       Analysis
//	NewPlan        what a deployment would change               Plan
//	Deploy         both phases, and the fallback                Service
//
// [VerifyBinary] compares a binary with what the blueprint publishes. Package profile measures a
// binary's jobs, without which none of them counts as fit. Package cost says what a month costs on
// every provider, and which is the cheapest on which all jobs fit.
//
// # After a deployment
//
// What a service holds is in a ledger, a file that is written ahead of every change. So the handle of a service can be had again in another program
// ([OpenService], [ListServices]), compared with what the provider holds (Service.Diff), and put right after a crash: by the next deployment or removal, or by
// [Recover]. Two programs never change one service at the same time.
//
// # Providers
//
// A program picks providers by import, as it picks database drivers: import _ ".../faas/custom", or faas/all for all of them. What is not
// imported is not linked. The contract of a provider is faas.Executor.
//
// # Errors
//
// Every error of a deployment, a removal or an invocation is or wraps a *faas.Error, whose code errors.Is finds:
//
//	if errors.Is(err, faas.ErrThrottled) { ... }
//
// It tells the job and the provider concerned, and what was left behind. Values of environment variables and credentials are never in it.
//
// The package prints nothing. Progress comes as events ([WithEvents]), and logs go to the logger given with [WithLogger].
package serverless
