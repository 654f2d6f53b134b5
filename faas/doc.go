// Package faas is the contract between the deployment engine and the providers that run a
// service's jobs as functions.
//
// A service is a set of numbered jobs and one binary that runs each of them. A provider is a
// place where jobs can run: AWS Lambda, Google Cloud Functions, Azure Functions, or any platform
// that speaks the custom platform protocol. Each provider is a package of its own, which
// registers itself when a program imports it. This package imports no provider and no SDK.
//
//	import _ "github.com/tangle-network/blueprint-serverless/faas/custom"
//
//	exec, err := faas.Open(ctx, faas.Config{
//		Provider: faas.Custom, Service: "squares", Endpoint: "https://faas.example",
//	})
//	result, err := exec.Invoke(ctx, 3, args)
//
// What programs use:
//
//   - [Open] returns an [Executor] bound to one service. The executor deploys, observes, invokes
//     and removes that service's functions.
//   - [Registry] sends each job to its function. [OpenRegistry] makes a registry from what a runner
//     finds in its environment.
//   - [ProviderLimits] and [ProviderMemorySizes] return what a provider can hold, linked or not.
//   - [InspectBinary] describes an executable without running it. [BuildPackage] makes the zip that
//     providers take; its hash changes only if its contents do.
//   - [AppendRequest], [ParseRequest], [AppendResponse] and [ParseResponse] write and read the JSON
//     that jobs are invoked with.
//
// [Executor] says what providers owe, and package faastest tests it.
//
// # Errors
//
// Every error is or wraps an [*Error]. Programs act on its [Code], by errors.Is(err,
// faas.ErrNotFound) or a switch over [CodeOf]. The cause, often the error of a provider's SDK, is
// reachable with errors.As. Bad input is refused before any call is made; the error names the
// field, the value and the limit. Errors never hold credentials or values of a function's
// environment.
//
// # Units
//
// Memory is in MiB, sizes of files and payloads are in bytes, and timeouts are in seconds, unless
// a name says otherwise.
package faas
