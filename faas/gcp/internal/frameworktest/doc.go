// Package frameworktest deploys jobs as the provider for Google does, has them built as Google's Go
// buildpack builds them, with Google's own functions framework, and invokes them. So the framework judges
// both source shims: the one that becomes a job binary, and the one around a program that speaks only stdin
// and stdout. It is a module of its own, so that nobody else downloads and compiles the framework:
//
//	cd faas/gcp/internal/frameworktest && go test ./...
package frameworktest
