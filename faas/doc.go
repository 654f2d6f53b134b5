// Package faas is the contract between the deployment engine and the providers that run a service's jobs as functions.
//
// A service is a set of numbered jobs and one binary that runs each of them. A provider is a place where they can run: AWS Lambda, Google Cloud
// Functions, Azure Functions, or any platform that speaks the custom platform protocol. Each is a package of its own, which registers itself when a
// program imports it; this package imports none of them, and no SDK.
//
//	import _ "github.com/tangle-network/blueprint-serverless/faas/custom"
//
//	exec, err := faas.Open(ctx, faas.Config{Provider: faas.Custom, Service: "squares", Endpoint: "https://faas.example"})
//	result, err := exec.Invoke(ctx, 3, args)
//
// What programs use:
//
//   - [Open] returns an [Executor], which is bound to one service: it deploys, observes, invokes and removes that service's functions.
//   - [Registry] sends each job to where its function is; [OpenRegistry] makes one from the environment of a runner.
//   - [ProviderLimits] and [ProviderMemorySizes] tell what a provider can hold, whether it is linked or not.
//   - [InspectBinary] tells what an executable is without running it, and [BuildPackage] makes the zip that providers take. Its hash says whether
//     anything changed.
//   - [AppendRequest], [ParseRequest], [AppendResponse] and [ParseResponse] write and read the JSON that jobs are invoked with.
//
// What providers owe is written at [Executor], and package faastest holds them to it.
//
// # Errors
//
// Every error is or wraps an [*Error], whose [Code] programs act on: errors.Is(err, faas.ErrNotFound), or a switch over [CodeOf]. The cause,
// often the error of a provider's SDK, is reachable with errors.As. Bad input is refused before any call is made, with the name of the field, the
// value and the limit. Errors never hold credentials, nor values of a function's environment.
//
// # Units
//
// Memory is in MiB, sizes of files and payloads are in bytes, and timeouts are in seconds, unless a name says otherwise.
package faas
